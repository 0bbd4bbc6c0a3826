"""What candidates do to a selection."""

import pytest

from fastkernels.manifest import load_manifest, model_map

SILU = "import torch\n\n\nclass SiluAndMul(torch.nn.Module):\n    def forward(self, x): ...\n"


def test_without_a_candidate_the_baseline_is_graded_and_labelled(project):
    result = project.run("--fk-level=1")
    result.assert_outcomes(passed=7, deselected=2)
    result.stdout.fnmatch_lines(["fastkernels: 7 scenarios of 2 operators and 2 models on cpu; self-test of *",
                                 "rms_norm[[]*self-test*", "operator * verdict *", "rms_norm * self-test*",
                                 "graded 7 scenarios (5 shapes) on cpu in * s, self-test: 7 passed"])
    assert {r["self_test"] for r in project.results()["results"]} == {True}


def test_only_operators_that_a_candidate_affects_are_graded(project):
    project.candidate()
    result = project.run("--fk-level=1", "--fk-candidates=kernels")
    result.assert_outcomes(passed=6, deselected=2)
    result.stdout.fnmatch_lines(["fastkernels: 6 scenarios of 1 operator * on cpu; candidates L1.rms_norm in kernels"])
    assert "self-test" not in result.stdout.str()


def test_a_candidate_directory_alone_selects(project):
    project.candidate()
    project.run("--fk-candidates=kernels").assert_outcomes(passed=6, deselected=2)


def test_self_test_sets_candidates_aside(project):
    project.candidate()
    project.run("--fk-candidates=kernels", "--fk-self-test").assert_outcomes(passed=7, deselected=2)
    assert {r["self_test"] for r in project.results()["results"]} == {True}


@pytest.mark.parametrize(("args", "message"), [
    (["--fk-target=silu_and_mul"], "ERROR: --fk-target: silu_and_mul has no candidate in */kernels, which holds "
                                   "L1.rms_norm (--fk-self-test grades the baseline itself)"),
    (["--fk-target=silu_and_mul,rms_norm"], "ERROR: --fk-target: silu_and_mul has no candidate in *"),
])
def test_an_operator_asked_for_without_a_candidate(project, args, message):
    project.candidate()
    result = project.run("--fk-candidates=kernels", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_selection_that_no_candidate_reaches(project):
    project.candidate("silu_and_mul", SILU)
    result = project.run("--fk-candidates=kernels", "--fk-model=tiny-b")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: the selected operators have no candidate in */kernels, which holds *silu*"])


def test_an_empty_candidate_directory(project):
    (project.path / "kernels" / "L1").mkdir(parents=True)
    result = project.run("--fk-candidates=kernels")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: */kernels holds no candidate; expected files such as L1/rms_norm.py*"])


def test_a_missing_candidate_directory(project):
    result = project.run("--fk-candidates=kernel")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *kernel*"])


def test_a_file_that_matches_no_operator_names_the_nearest(project):
    project.candidate("rmsnorm")
    result = project.run("--fk-candidates=kernels")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *rmsnorm*rms_norm*"])


def test_list_and_map(project):
    project.candidate()
    result = project.run("--fk-list", "--fk-map", "--fk-level=1", "--fk-candidates=kernels")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([
        "operator * level * class * scenarios * candidate", "rms_norm * 1 * RMSNorm * 8 * yes",
        "silu_and_mul * 1 * SiluAndMul * 1 * no", "model * operators", "tiny-a * rms_norm, silu_and_mul",
        "tiny-b * rms_norm"])
    assert project.graded() == []


def test_map_of_the_shipped_manifest_fits(project):
    lines = project.run("--fk-map", manifest=False).outlines
    assert max(map(len, lines)) <= 120
    at = next(number for number, line in enumerate(lines) if line.startswith("llama31-8b "))
    indent = lines[at].index("rms_norm")
    rows = [lines[at]]
    while lines[at + len(rows)].startswith(" " * indent):
        rows.append(lines[at + len(rows)])
    assert all(row[indent] != " " for row in rows)
    listed = " ".join(row[indent:].strip() for row in rows).split(", ")
    manifest = load_manifest()
    assert listed == [op for op in manifest.operators if op in model_map(manifest)["llama31-8b"]]
    assert len(rows) > 1


def test_map_takes_the_filters(project):
    lines = project.run("--fk-map", "--fk-model=tiny-b").outlines
    assert [line.split() for line in lines if line.startswith("tiny")] == [["tiny-b", "rms_norm"]]


def test_list_refuses_what_no_operator_matches(project):
    result = project.run("--fk-list", "--fk-level=4")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *level 4 is not one of 1"])


def test_candidates_without_effect_are_named(project):
    project.candidate()
    project.candidate("silu_and_mul", SILU)
    result = project.run("--fk-target=rms_norm", "--fk-candidates=kernels")
    result.stdout.fnmatch_lines(["candidate L1.silu_and_mul has no effect: nothing selected uses it"])
    assert project.results()["subsumed"] == [{"candidate": "L1.silu_and_mul", "by": ""}]
