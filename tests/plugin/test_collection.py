"""The graded scenarios as pytest items: addresses, filters, and nothing but them."""

import xml.etree.ElementTree as ET

import pytest

ALL = ["rms_norm[tiny-a-tp1-s1]", "rms_norm[tiny-a-tp1-s8]", "rms_norm[tiny-a-tp2-s1]", "rms_norm[tiny-a-tp2-s8]",
       "rms_norm[tiny-b-tp1-s1]", "rms_norm[tiny-b-tp1-s8]", "silu_and_mul[tiny-a-tp1-s1]"]


def test_an_empty_directory_is_enough_and_node_ids_are_addresses(project):
    result = project.run("--fk-level=1", "--collect-only", "-q")
    assert [line for line in result.outlines if "[" in line] == ALL
    assert result.ret == pytest.ExitCode.OK
    assert project.graded() == []
    assert not (project.path / "bench").exists()


def test_only_the_scenarios_run_and_not_the_tests_of_the_repository(project):
    project.pytester.makepyfile(test_own="def test_own(): raise SystemExit('the own test ran')")
    project.pytester.makeini("[pytest]\ntestpaths = .\n")
    project.run("--fk-target=silu_and_mul").assert_outcomes(passed=1)
    assert project.graded() == ["silu_and_mul[tiny-a-tp1-s1]"]


@pytest.mark.parametrize(("args", "expected"), [
    (["-k", "tiny-b and s8"], ["rms_norm[tiny-b-tp1-s8]"]),
    (["-m", "fastkernels(model='tiny-b', tokens=1)"], ["rms_norm[tiny-b-tp1-s1]"]),
    (["--deselect", "rms_norm", "-p", "no:randomly"], ["silu_and_mul[tiny-a-tp1-s1]"]),
    (["--fk-seqlen=2048"], ["rms_norm[tiny-a-tp1-s2048]", "rms_norm[tiny-a-tp2-s2048]"]),
])
def test_filters(project, args, expected):
    assert project.run("--fk-level=1", *args).ret == pytest.ExitCode.OK
    assert project.graded() == expected


@pytest.mark.parametrize(("args", "count"), [(["-x"], 3), (["--maxfail=2"], 4), ([], 7)])
def test_stopping_early_names_what_was_not_reached(project, args, count):
    project.fake(tp2="wrong_values")
    result = project.run("--fk-level=1", *args)
    assert result.ret == (pytest.ExitCode.INTERRUPTED if args else pytest.ExitCode.TESTS_FAILED) or args
    assert len(project.graded()) == count
    missed = [left["id"] for left in project.results()["left_out"] if left["reason"].startswith("not reached")]
    assert missed == ALL[count:]


def test_last_failed_and_failed_first(project):
    project.fake(tp2_s8="wrong_values")
    project.run("--fk-level=1").assert_outcomes(passed=6, failed=1, deselected=2)
    project.fake()
    first = project.run("--fk-level=1", "--ff", "--collect-only", "-q")
    assert [line for line in first.outlines if "[" in line][:2] == ["rms_norm[tiny-a-tp2-s8]", ALL[0]]
    project.run("--fk-level=1", "--lf").assert_outcomes(passed=1, deselected=8)


@pytest.mark.parametrize("xdist", [(), ("-n2",)])
def test_junitxml_names_the_address_its_operator_and_what_was_found(project, xdist):
    project.fake(tp2_s8="wrong_values")
    project.run("--fk-level=1", "--junitxml=out.xml", *xdist)
    cases = {case.get("name"): case for case in ET.parse(project.path / "out.xml").iter("testcase")}
    assert sorted(cases) == sorted(ALL)
    failed = cases["rms_norm[tiny-a-tp2-s8]"]
    assert "reproduce: " in failed.find("failure").text
    assert {case.get("classname") for case in cases.values()} == {"L1.rms_norm", "L1.silu_and_mul"}
    named = {one.get("name"): one.get("value") for one in failed.iter("property")}
    assert named == {"op": "rms_norm", "model": "tiny-a", "tp": "2", "tokens": "8", "verdict": "wrong_values"}
    passed = {one.get("name"): one.get("value") for one in cases["rms_norm[tiny-a-tp1-s1]"].iter("property")}
    assert passed["speedup"] == "1.5"


@pytest.mark.parametrize("prefix", ["", "./"])
def test_an_address_stands_in_for_a_path(project, prefix):
    project.run(f"{prefix}rms_norm[tiny-a-tp2-s2048]", "silu_and_mul[tiny-a-tp1-s1]").assert_outcomes(passed=2)
    assert project.graded() == ["rms_norm[tiny-a-tp2-s2048]", "silu_and_mul[tiny-a-tp1-s1]"]


def test_an_address_beside_a_path(project):
    project.pytester.makepyfile(test_own="def test_own(): pass")
    project.run("rms_norm[tiny-a-tp2-s8]", "test_own.py").assert_outcomes(passed=2)
    assert project.graded() == ["rms_norm[tiny-a-tp2-s8]"]


def test_a_wrong_address_names_the_nearest(project):
    result = project.run("rms_norm[tiny-a-tp4-s8]")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: rms_norm[[]tiny-a-tp4-s8[]]: no such scenario is selected; nearest: *tp1-s8*"])


def test_everything_left_out_is_not_green(project):
    path = project.path / "tiny.yaml"
    path.write_text(path.read_text().replace("tokens: [1, 8, 2048]", "tokens: [2048]"))
    result = project.run("--fk-target=rms_norm", "--fk-model=tiny-a")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: all 2 selected scenarios are left out, the first because: 2048 tokens *"])


def test_everything_filtered_away_is_not_green(project):
    assert project.run("--fk-level=1", "-k", "nothing").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_the_shipped_manifest_collects_without_torch(pytester, plugin_args):
    """Thousands of scenarios; the time is printed by benchmarks/collect_only.py."""
    pytester.makepyfile(probe="""
        import sys

        def pytest_collection_finish(session):
            print("\\ncollected", len(session.items), "torch" in sys.modules)
    """)
    result = pytester.runpytest_subprocess("-p", "probe", *plugin_args, "--fk-self-test", "--collect-only", "-qq", "-s",
                                           "--fk-device=cpu")
    line = next(line for line in result.outlines if line.startswith("collected"))
    _, count, torch_imported = line.split()
    assert int(count) > 3000
    assert torch_imported == "False"


def test_without_options_the_plugin_is_inert(project):
    project.pytester.makepyfile(test_own="""
        import sys

        def test_own():
            for name in ("torch", "yaml", "fastkernels.manifest", "fastkernels.bench", "pytest_fastkernels.plan"):
                assert name not in sys.modules, name
    """)
    (project.path / "conftest.py").unlink()
    result = project.run(manifest=False, subprocess=True)
    result.assert_outcomes(passed=1)
    assert "fastkernels:" not in result.stdout.str()
    assert "seed" not in result.stdout.str()
    assert not (project.path / "bench").exists()
