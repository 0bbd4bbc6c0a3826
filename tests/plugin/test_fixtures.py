"""Tests that users write with `fk_scenario` and `fk_grade`."""

import json

import pytest

TEST = """
    def test_kernel(fk_scenario, fk_grade):
        result = fk_grade(fk_scenario)
        assert result.timing is None or result.timing.speedup > 1.2
"""


@pytest.mark.parametrize("xdist", [(), ("-n2",)])
def test_the_options_filter_a_users_test(project, xdist):
    project.pytester.makepyfile(test_own=TEST)
    project.fake(tp2_s8="wrong_values")
    result = project.run("test_own.py", "--fk-target=rms_norm", "--fk-model=tiny-a", "-v", *xdist)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*test_own.py::test_kernel[[]rms_norm-tiny-a-tp2-s8[]]*", "*= kernels =*",
                                 "graded 4 scenarios *: 3 passed, 1 wrong_values",
                                 "left out: 2 scenarios, 2048 tokens*"])
    assert len(project.results()["results"]) == 4


@pytest.mark.parametrize("xdist", [(), ("-n2",)])
def test_without_options_candidates_select(project, xdist):
    project.candidate()
    project.pytester.makeini("[pytest]\nfk_candidates = kernels\nfk_manifest = tiny.yaml\n")
    project.pytester.makepyfile(test_own=TEST)
    project.run("--benchmark-json=out.json", *xdist, manifest=False).assert_outcomes(passed=6)
    assert len(json.loads((project.path / "out.json").read_text())["benchmarks"]) == 6
    assert len(project.results()["results"]) == 6


def test_where_nothing_is_selected_the_tests_skip_and_say_what_selects(project):
    project.pytester.makepyfile(test_own=TEST, test_other="def test_other(): pass")
    result = project.run("-rs", manifest=False)
    result.assert_outcomes(skipped=1, passed=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["SKIPPED * fk_scenario: nothing to grade: there is no candidate. Select *"])
    result.stdout.no_fnmatch_line("*no scenario was graded*")


def test_a_wrong_selection_is_an_error_and_no_skip(project):
    project.pytester.makepyfile(test_own=TEST)
    result = project.run("test_own.py", "--fk-target=rmsnorm")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Did you mean 'rms_norm'?*"])


def test_a_bad_verdict_may_be_left_to_the_test(project):
    project.fake(tiny_b="wrong_values")
    project.pytester.makepyfile(test_own="""
        def test_kernel(fk_scenario, fk_grade):
            assert fk_grade(fk_scenario, check=False).verdict == "wrong_values"
    """)
    project.run("test_own.py", "--fk-model=tiny-b").assert_outcomes(passed=2)


def test_options_that_no_test_uses_are_an_error(project):
    project.pytester.makepyfile(test_own="def test_own(): pass")
    result = project.run("test_own.py", "--fk-target=rms_norm")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --fk-target, --fk-manifest without effect: no collected test uses *"])


def test_a_run_in_which_every_user_test_is_skipped_is_not_green(project):
    project.pytester.makepyfile(test_own="""
        import pytest

        @pytest.mark.skip
        def test_kernel(fk_scenario, fk_grade): ...
    """)
    result = project.run("test_own.py", "--fk-model=tiny-b")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["no scenario was graded"])
