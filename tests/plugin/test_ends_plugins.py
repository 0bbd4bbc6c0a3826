"""Beside other plugins each scenario stands once in file and table, with the verdict that is its own."""

import time
from collections import Counter

import pytest
from ended_runs import HANGS_AT_32, SELECTED, verdicts
from suite import exhaustive

from fastkernels.bench.kernels.workers import Workers

TARGET = "--fk-target=rms_norm"
LIMIT_ON_TINY_B = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: "tiny-b" not in item.nodeid)
    items[0].add_marker(pytest.mark.timeout(3600))
"""
LIMIT_AT_THE_END = LIMIT_ON_TINY_B.replace("items[0]", "items[-1]").replace("not in", "in").replace("3600", "0.001")
"""The workers are up by then."""


def test_dist_each_is_refused(project):
    result = project.run(TARGET, "--dist=each", "--tx=2*popen")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --dist each runs every test on every worker, and a scenario is graded once *"])
    assert not (project.path / "bench").exists()


@pytest.mark.parametrize("mode", exhaustive((("--dist=loadfile", "-n2"),), (("--dist=loadscope", "-n2"),)))
def test_each_way_to_spread_has_each_scenario_once(project, mode):
    project.run(TARGET, *mode).assert_outcomes(passed=6)
    assert len(verdicts(project.results())) == 6


def test_dist_each_of_a_users_own_tests_counts_each_scenario_once(project):
    """No option of this plugin is given, so that the run is not refused."""
    project.candidate()
    project.pytester.makeini("[pytest]\nfk_candidates = kernels\nfk_manifest = tiny.yaml\n")
    project.pytester.makepyfile(test_own="def test_kernel(fk_scenario, fk_grade):\n    fk_grade(fk_scenario)\n")
    project.run("--dist=each", "--tx=2*popen", manifest=False).assert_outcomes(passed=12)
    assert len(verdicts(project.results())) == 6


@pytest.mark.parametrize("found", ["wrong_values", "broken"])
def test_a_scenario_that_is_run_again_counts_once(project, found):
    project.fake(tiny_b_tp1_s1=found)
    result = project.run("-p", "pytest_rerunfailures", TARGET, "--reruns=2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert Counter(project.graded())["rms_norm[tiny-b-tp1-s1]"] == 3
    expected = {"wrong_values": "wrong_values", "broken": "no_result"}[found]
    assert Counter(verdicts(project.results()).values()) == {"passed": 5, expected: 1}
    text = result.stdout.str()
    line = {"wrong_values": "wrong_values  error ratio 77       250 ms", "broken": f"no_result  {'':<19}  -"}[found]
    assert text.count(f"\nrms_norm[tiny-b-tp1-s1] {line}  about ") == 1
    assert "graded 6 scenarios (4 shapes) on cpu in " in text
    assert f"5 passed, 1 {expected}\n" in text


def test_two_tests_of_one_scenario_count_once_and_the_worse_finding_stands(project):
    project.pytester.makepyfile(test_own="""
        import dataclasses

        def test_first(fk_scenario, fk_grade):
            fk_grade(fk_scenario)

        def test_second(fk_scenario, fk_grade, request):
            from fastkernels.results import Verdict
            from pytest_fastkernels.items import RESULTS
            result = fk_grade(fk_scenario)
            if fk_scenario.tokens == 8:
                request.node.stash[RESULTS][-1] = dataclasses.replace(result, verdict=Verdict.HUNG, timing=None)
    """)
    project.run("test_own.py", TARGET, "--fk-model=tiny-b").assert_outcomes(passed=4)
    assert verdicts(project.results()) == {"rms_norm[tiny-b-tp1-s1]": "passed", "rms_norm[tiny-b-tp1-s8]": "hung"}


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_a_time_limit_gives_a_hanging_candidate_its_verdict(bare, warm, method, monkeypatch):
    """The limit comes once the candidate has been called, however busy the machine is."""
    def ask(self, request):
        asked(self, request)
        if request["do"] == "call" and self.deadline.at is not None:
            self.deadline.at = time.monotonic()

    asked = Workers.ask_candidate
    monkeypatch.setattr(Workers, "ask_candidate", ask)
    bare.candidate(text=HANGS_AT_32)
    (bare.path / "conftest.py").write_text(LIMIT_ON_TINY_B)
    result = bare.run("-p", "pytest_timeout", *SELECTED, f"--timeout-method={method}", "--fk-seqlen=1", manifest=False)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["hung: no answer within the test's limit of 3600 s (pytest-timeout) (call)"])
    assert verdicts(bare.results()) == {"rms_norm[tiny-b-tp1-s1]": "hung", "rms_norm[tiny-a-tp1-s1]": "passed",
                                        "rms_norm[tiny-a-tp2-s1]": "passed"}


def test_a_time_limit_that_grading_itself_meets_is_not_the_candidates_fault(bare, warm):
    bare.candidate()
    (bare.path / "conftest.py").write_text(LIMIT_AT_THE_END)
    result = bare.run("-p", "pytest_timeout", *SELECTED, "--fk-seqlen=1", manifest=False)
    result.assert_outcomes(passed=2, failed=1)
    found = {r["id"]: r for r in bare.results()["results"]}["rms_norm[tiny-b-tp1-s1]"]
    assert found["verdict"] == "no_result"
    assert "grading took longer than the test's limit of 0.001 s (pytest-timeout)" in found["message"]


def test_a_worker_that_dies_for_good_leaves_what_was_finished(project):
    project.fake(tiny_b_tp1_s1="kill")
    result = project.run(TARGET, "-n1", "--max-worker-restart=0")
    assert result.ret != pytest.ExitCode.OK
    found = verdicts(project.results())
    assert found["rms_norm[tiny-b-tp1-s1]"] == "no_result"
    assert Counter(found.values())["passed"] == 4
    assert "rms_norm[tiny-b-tp1-s8]" in {left["id"] for left in project.results()["left_out"]}
