"""What a run prints."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from results_by_hand import passed, rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.kernels.builds import Builds
from fastkernels.results import Correctness, Noise, ScenarioResult, Timing, Verdict, WorstElement
from pytest_fastkernels import report
from pytest_fastkernels.failure import EVIDENCE_WIDTH, failure_text
from pytest_fastkernels.report import noise_lines, package_lines, status_word, uncaptured_lines
from pytest_fastkernels.table import ROWS, WIDTH, make_table, seconds

FAILURE = [
    "*_ rms_norm[[]tiny-a-tp1-s8[]] _*",
    "wrong_values: 1 of 4096 elements is outside the tolerance",
    "worst element: output[[]3, 4095[]] is 0, expected 1.25 (error ratio 77, atol 0.01, rtol 0.016, draw normal@t8#1)",
    "candidate: candidates/L1/rms_norm.py",
    "evidence:",
    "    ... 10 more lines in the results file",
    "    line 10",
    "    line 29",
    "reproduce: *pytest *'rms_norm[[]tiny-a-tp1-s8[]]' --fk-candidates=kernels --fk-manifest=tiny.yaml --fk-seed=7",
    "*- the same finding in 1 more scenario (-v words each) -*",
    "rms_norm[[]tiny-a-tp2-s8[]]",
]


@pytest.mark.parametrize("xdist", [(), ("-n2", "--dist=loadfile")])
def test_a_failure_names_the_element_and_how_to_reproduce_it(project, xdist):
    project.candidate()
    project.fake(tiny_a_tp1_s8="wrong_values", tiny_a_tp2_s8="wrong_values")
    result = project.run("--fk-target=rms_norm", "--fk-candidates=kernels", "--fk-seed=7", *xdist)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    lines = FAILURE if not xdist else [*FAILURE[:1], "[[]gw?[]]*", *FAILURE[1:4]]
    result.stdout.fnmatch_lines(lines)
    result.stdout.fnmatch_lines(["seed: 7", "results: bench/results/kernels.json",
                                 "FAILED rms_norm[[]tiny-a-tp1-s8[]] - Failed: wrong_values: 1 of 4096 *"])


def test_one_line_for_each_operator_and_model(project, monkeypatch):
    monkeypatch.setattr(report, "ROWS_LIVE", 0)
    project.fake(tiny_b_tp1_s8="wrong_values")
    result = project.run("--fk-level=1")
    result.stdout.fnmatch_lines([
        "rms_norm * tiny-a * 4 passed (2 by equal shape)  self-test  1.50x  500 ms  about * left",
        "rms_norm * tiny-b * 1 passed, 1 wrong_values  self-test  1.50x  500 ms  about * left",
        "silu_and_mul * tiny-a * 1 passed  self-test  1.50x  250 ms"], consecutive=True)


@pytest.mark.parametrize("xdist", [(), ("-n1",)])
def test_equal_findings_are_worded_once(project, xdist):
    project.fake(tiny_a_tp="wrong_values", tiny_b_tp1_s8="crashed")
    result = project.run("--fk-target=rms_norm", "--fk-seed=7", *xdist)
    result.assert_outcomes(passed=1, failed=5, deselected=0 if xdist else 2)
    shown = [line.split()[1] for line in result.outlines if line.startswith("FAILED ")]
    assert shown == ["rms_norm[tiny-a-tp1-s1]", "rms_norm[tiny-b-tp1-s8]"]  # different findings first
    assert result.stdout.str().count("reproduce:") == 2
    result.stdout.fnmatch_lines([
        "*- the same finding in 3 more scenarios (-v words each) -*",
        "rms_norm[[]tiny-a-tp1-s8[]], rms_norm[[]tiny-a-tp2-s1[]], rms_norm[[]tiny-a-tp2-s8[]]",
        "3 of 5 failures not shown: 3 alike with one that is shown (-v shows all, the results file holds all)"])
    assert len([r for r in project.results()["results"] if r["verdict"] != "passed"]) == 5
    assert project.run("--fk-target=rms_norm", "-v").stdout.str().count("reproduce:") == 5


@pytest.mark.parametrize("args", [("--fk-num-runs=5",), ("--fk-target=rms_norm", "-k", "nothing")])
def test_a_run_without_results_names_no_results_file(project, args):
    result = project.run(*args)
    result.stdout.fnmatch_lines(["no scenario was graded"])
    result.stdout.no_fnmatch_line("results:*")
    assert not (project.path / "bench/results/kernels.json").exists()


def test_options_without_effect_list_nothing_left_out(project):
    result = project.run("--fk-num-runs=5")
    result.stderr.fnmatch_lines(["ERROR: *--fk-num-runs without effect: *"])
    result.stdout.no_fnmatch_line("left out:*")


def test_the_short_summary_has_one_line_a_failure_in_ci_too(project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    project.fake(tiny_b_tp1_s8="wrong_values")
    lines = project.run("--fk-target=rms_norm").outlines
    summary = lines[next(i for i, line in enumerate(lines) if "short test summary" in line) + 1:]
    assert [line.split()[0] for line in summary[:-1]] == ["FAILED"]


def test_quiet_and_verbose(project):
    quiet = project.run("--fk-level=1", "-q").stdout.str()
    assert "....... " in quiet
    assert "by equal shape" not in quiet
    verbose = project.run("--fk-level=1", "-v")
    verbose.stdout.fnmatch_lines(["rms_norm[[]tiny-a-tp1-s1[]] PASSED self-test 1.50x *%]"])
    verbose.stdout.fnmatch_lines(["rms_norm * tiny-a * 2 * 8 self-test *"])


def test_scenarios_left_out_are_counted_and_named_with_the_reason(project):
    result = project.run("--fk-level=1")
    result.stdout.fnmatch_lines(["left out: 2 scenarios, 2048 tokens on a CPU (over 512): "
                                 "rms_norm[[]tiny-a-tp1-s2048[]], rms_norm[[]tiny-a-tp2-s2048[]]"])
    assert project.results()["left_out"] == [
        {"id": f"rms_norm[tiny-a-tp{tp}-s2048]", "reason": "2048 tokens on a CPU (over 512)"} for tp in (1, 2)]


def test_long_lines_of_the_footer_are_folded(project):
    path = project.path / "tiny.yaml"
    path.write_text(path.read_text().replace("tiny-a", "a-model-with-a-name-of-more-than-forty-letters"))
    result = project.run("--fk-level=1")
    at = next(n for n, line in enumerate(result.outlines) if line.startswith("left out: 2 scenarios, "))
    assert len(result.outlines[at]) <= WIDTH
    assert result.outlines[at + 2] == "  rms_norm[a-model-with-a-name-of-more-than-forty-letters-tp2-s2048]"


def test_a_broken_grader_loses_no_scenario(project):
    project.fake(tiny_b_tp1_s8="broken")
    result = project.run("--fk-level=1")
    result.assert_outcomes(passed=6, failed=1, deselected=2)
    lost = next(r for r in project.results()["results"] if r["id"] == "rms_norm[tiny-b-tp1-s8]")
    assert lost["verdict"] == "no_result"
    assert "the harness itself broke" in lost["evidence"]


def test_the_seed_is_fresh_each_run_and_printed(project):
    seeds = {project.run("--fk-target=silu_and_mul").outlines[-3] for _ in range(2)}
    assert len(seeds) == 2
    assert all(line.startswith("seed: ") for line in seeds)


def test_without_a_terminal_reporter(project):
    project.run("--fk-target=silu_and_mul", "-p", "no:terminal", subprocess=True)
    assert len(project.results()["results"]) == 1


@pytest.mark.parametrize("args", [(), ("-n1",)])
def test_a_line_while_long_work_runs(project, args):
    project.fake(tiny_b_tp1_s8="slow")
    path = project.path / "conftest.py"
    path.write_text(path.read_text() + "\nfrom pytest_fastkernels import progress\nprogress.QUIET_PLAIN_S = 0.0\n")
    project.run("--fk-target=rms_norm", "--fk-model=tiny-b", *args, subprocess=True).stdout.fnmatch_lines(
        ["fastkernels: 1 of 2 graded in * s, rms_norm[[]tiny-b-tp1-s8[]] for * s, about * left",
         "rms_norm[[]tiny-b-tp1-s8[]] self-test *"])


def result(number: int, verdict: Verdict = Verdict.PASSED, **changes: object) -> ScenarioResult:
    fields = {"id": f"op[m{number}]", "op": "flash_attn_prefill", "level": 1, "model": f"qwen3-235b-a22b-{number}",
              "model_id": "m", "tp": 8, "tokens": number, "phase": "prefill", "variant": "gate_up_proj",
              "category": "llm", "shape_key": str(number), "verdict": verdict, "message": "", "device": "cpu",
              "baseline_provider": "native"}
    return ScenarioResult(**{**fields, **changes})


@pytest.mark.parametrize("count", [1, ROWS, ROWS + 1, 500])
@pytest.mark.parametrize("verbose", [False, True])
def test_the_table_fits(count, verbose):
    results = [result(n, Verdict.OUT_OF_BOUNDS_WRITE if n % 7 == 3 else Verdict.PASSED) for n in range(count)]
    table = make_table(results, verbose)
    assert max(len(line) for line, _ in table.lines) <= WIDTH
    assert len(table.lines) - 1 == count if verbose else len(table.lines) <= 2 * ROWS + 1
    assert any(not ok for _, ok in table.lines) == (count > 3)


def test_equal_shapes_share_a_row_unless_their_verdicts_differ():
    same = [result(1), result(2, shape_key="1", tokens=1, tp=1, shared_with="op[m1]")]
    assert "qwen3-235b-a22b-1 +1 1-8" in make_table(same, False).lines[1][0]
    differ = [result(1), result(2, Verdict.CRASHED, shape_key="1", tokens=1)]
    assert len(make_table(differ, False).lines) == 3


LONG = Timing(method="wall", baseline_s=1.234e-3, candidate_s=1.234e-4, speedup=123.456, speedup_low=12.3456,
              speedup_high=1234.56, runs=3, stopped="num_runs", baseline_eager_s=1, candidate_eager_s=1,
              baseline_witness_s=1, candidate_witness_s=1, bytes=1, flops=1, roofline_s=1, baseline_roofline=1,
              candidate_roofline=1.0, baseline_samples_s=(), candidate_samples_s=())


@pytest.mark.parametrize("count", [2, 500])
@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if not verdict.ok])
def test_a_verdict_is_never_cut(verdict, count):
    numbers = Correctness(0.25, 12345.6, 1e-3, 1e-3, 0.01, 0.016, 5)
    results = [result(n, timing=LONG, correctness=numbers) for n in range(count)]
    results += [result(8192 + n, verdict, shape_key="x", tokens=8192, tp=n, correctness=numbers) for n in range(16)]
    table = make_table(results, False)
    assert max(len(line) for line, _ in table.lines) <= WIDTH
    assert any(f" {verdict} x16 " in line for line, ok in table.lines if not ok)
    assert any("123x [12.3, 1235]" in line for line, _ in table.lines) == (count == 2)


def test_a_candidate_that_no_graph_can_be_had_of_is_named_once():
    uncaptured = replace(LONG, candidate_not_captured="it asks the host")
    results = [result(1, timing=LONG), result(2, timing=uncaptured), result(3, timing=uncaptured), result(4)]
    assert uncaptured_lines(results) == [
        f"{results[0].op}: cannot be captured in a CUDA graph, so it is timed with its launches (it asks the host)"]


def test_packages_that_calls_ran_through_are_named_once_for_each_operator():
    results = [result(n, ran_through=("liger_kernel 0.6.2",)) for n in (1, 2)]
    results += [result(3, op="silu_and_mul"), result(4, ran_through=("conch", "liger_kernel 0.6.2"))]
    assert package_lines(results) == [f"{results[0].op}: ran through liger_kernel 0.6.2, conch"]


def test_a_summed_row_counts_what_passed():
    results = [result(n, Verdict.CRASHED if n % 4 == 0 else Verdict.PASSED, model="m") for n in range(200)]
    assert " 150/200 passed " in make_table(results, False).lines[-1][0]
    crashed = [result(n, Verdict.CRASHED, model="m") for n in range(200)]
    assert " 200 crashed " in make_table(crashed, False).lines[-1][0]


@pytest.mark.parametrize(("value", "text"), [(1.5, "1.5 s"), (0.0123, "12.3 ms"), (4.77e-6, "4.77 us"),
                                             (9.996e-4, "1000 us"), (3e-10, "0.3 ns")])
def test_seconds(value, text):
    assert seconds(value) == text


def test_a_slow_candidate_has_no_wrong_element():
    numbers = Correctness(0.25, 2.0, 1e-3, 1e-3, 0.01, 0.016, 5, WorstElement("output", (3,), 1.25, 1.0), "normal")
    assert "worst element" not in failure_text(result(1, Verdict.TOO_SLOW, message="0.5", correctness=numbers))
    wrong = replace(numbers, max_error_ratio=2.0)
    assert "worst element" in failure_text(result(1, Verdict.WRONG_VALUES, message="0.5", correctness=wrong))


def test_a_long_line_of_evidence_is_cut():
    text = failure_text(result(1, Verdict.CRASHED, evidence="Extension modules: " + "x" * 5000, reproduce="pytest"))
    assert max(map(len, text.splitlines())) < EVIDENCE_WIDTH + 40
    assert f"... {5000 + 19 - EVIDENCE_WIDTH} more" in text


def test_a_failure_without_numbers_still_says_how_to_reproduce_it():
    text = failure_text(result(1, Verdict.CRASHED, message="killed by SIGSEGV", reproduce="pytest 'op[m1]'"))
    assert text == "crashed: killed by SIGSEGV\nreproduce: pytest 'op[m1]'"


def test_a_long_build_is_shown_as_compiling(monkeypatch, tmp_path):
    builds = Builds(tmp_path)
    grader = KernelGrader(GraderSettings(device="cpu"), lock_dir=tmp_path)
    fk = SimpleNamespace(grader=grader, record=SimpleNamespace(results=[], expected={"a": 1}, wall_s=2.0))
    shown = report.Report.__new__(report.Report)
    shown.fk, shown.running, shown.estimate = fk, {}, None
    with builds.building("L1.rms_norm"):
        assert "compiling" not in shown._describe()
        monkeypatch.setattr("pytest_fastkernels.grading.COMPILING_S", 0.0)
        assert "graded in 2 s, compiling rms_norm for " in shown._describe()
    assert "compiling" not in shown._describe()
    builds.close()


def noisy(result, cores=1.8):
    return replace(result, timing=None, noise=Noise("other load disturbed 9 of 12 rounds", 12, 9, cores))


def test_noisy_stands_where_a_speedup_would():
    one, other = passed(), passed(rms_norm(8))
    lines = [line for line, _ in make_table([noisy(one), other], verbose=True).lines]
    assert lines[1].split()[-2:] == ["-", "noisy"] or "noisy" in lines[1].split()
    assert "2.00x" in lines[2]
    assert status_word([noisy(one)], "PASSED") == "PASSED noisy"


def test_rows_for_many_scenarios_count_the_noisy_and_leave_them_out():
    many = [passed(rms_norm(tokens)) for tokens in range(1, ROWS + 2)]
    _, (row, _) = make_table([noisy(many[0]), *many[1:]], verbose=False).lines
    assert "2.00x (2.00 to 2.00), 1 noisy" in row
    _, (row, _) = make_table([noisy(one) for one in many], verbose=False).lines
    assert " noisy" in row
    assert "x (" not in row


def test_the_summary_says_that_the_machine_was_busy_and_what_to_do():
    results = [noisy(passed(rms_norm(1)), 0.6), noisy(passed(rms_norm(8)), 1.8), passed(rms_norm(32))]
    first, second = noise_lines([*results, noisy(passed(rms_norm(1, model="b"), shared_with=results[0].id), None)])
    assert first.startswith("THE MACHINE WAS BUSY (other processes took up to 1.8 cores): 3 of 4 scenarios (2 shapes) "
                            "noisy: ")
    assert "--fk-resume" in first
    assert second == "noisy, first rms_norm[tiny-tp1-s1]: other load disturbed 9 of 12 rounds"
    assert noise_lines([noisy(passed(), None)])[0].startswith("THE MACHINE WAS BUSY: 1 of 1 scenario (1 shape) noisy")
    assert noise_lines([passed()]) == []
