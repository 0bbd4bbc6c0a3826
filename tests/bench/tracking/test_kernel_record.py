"""What a run of the kernel tier says of itself."""

import math
from dataclasses import replace

import pytest
from results_by_hand import passed, rms_norm, silu_and_mul
from tracked_results import bench, failed, faster

from fastkernels.bench.tracking import kernel_record
from fastkernels.results import Correctness, GateOutcome, GateResult, LeftOut, Noise, Verdict, read_result


def test_noisy_scenarios_are_counted_and_are_in_no_mean():
    untimed = replace(passed(rms_norm(4)), timing=None, noise=Noise("busy"))
    metrics = kernel_record.values(bench(untimed, faster(passed(rms_norm(8)), 4.0))).metrics
    assert (metrics["noisy"], metrics["rms_norm_noisy"], metrics["rms_norm_passed"]) == (1, 1, 2)
    assert metrics["avg_speedup"] == metrics["rms_norm_avg_speedup"] == pytest.approx(4.0)
    assert "rms_norm/tiny-tp1-s4/speedup" not in metrics


def test_metrics_of_operators_and_scenarios():
    result = bench(faster(passed(rms_norm(4)), 1.0), faster(passed(rms_norm(8)), 4.0), failed(silu_and_mul()),
                   left_out=(LeftOut("a", "b"),))
    assert kernel_record.values(result).metrics == {
        "avg_speedup": pytest.approx(2.0), "passed": 2, "failed": 1, "noisy": 0, "left_out": 1, "wall_s": 12.5,
            "rms_norm_noisy": 0, "silu_and_mul_noisy": 0,
        "rms_norm_avg_speedup": pytest.approx(2.0), "rms_norm_passed": 2, "rms_norm_failed": 0,
        "rms_norm_max_error_ratio": 0.1,
        "silu_and_mul_passed": 0, "silu_and_mul_failed": 1, "silu_and_mul_max_error_ratio": 77.0,
        "rms_norm/tiny-tp1-s4/speedup": 1.0, "rms_norm/tiny-tp1-s4/correct": 1, "rms_norm/tiny-tp1-s4/error_ratio": 0.1,
        "rms_norm/tiny-tp1-s8/speedup": 4.0, "rms_norm/tiny-tp1-s8/correct": 1, "rms_norm/tiny-tp1-s8/error_ratio": 0.1,
        "silu_and_mul/tiny-tp1-s4/correct": 0, "silu_and_mul/tiny-tp1-s4/error_ratio": 77.0}


def test_gates_that_applied_are_counted_by_operator():
    gates = {outcome: GateResult(outcome) for outcome in GateOutcome}
    found = bench(passed(rms_norm(4), gates={"strided": gates["passed"], "compile": gates["failed"],
                                             "stream": gates["not_applicable"]}),
                  passed(rms_norm(8), gates={"strided": gates["passed"], "compile": gates["passed"]}))
    metrics = kernel_record.values(found).metrics
    assert {name: value for name, value in metrics.items() if "_gate_" in name} == {
        "rms_norm_gate_strided_passed": 2, "rms_norm_gate_strided_failed": 0,
        "rms_norm_gate_compile_passed": 1, "rms_norm_gate_compile_failed": 1}


def test_a_crash_has_neither_speedup_nor_error_ratio():
    metrics = kernel_record.values(bench(failed(rms_norm(4), correctness=None))).metrics
    assert metrics["rms_norm/tiny-tp1-s4/correct"] == 0
    assert not any("speedup" in name or "ratio" in name for name in metrics)


def test_params_name_what_was_graded():
    result = bench(passed(rms_norm(4), tp=2), passed(rms_norm(4, model="large"), tp=16), failed(silu_and_mul()))
    assert kernel_record.values(result).params == {
        "op": "rms_norm,silu_and_mul", "model": "large,tiny", "level": "1", "tp": "1,2,16", "seed": "7",
        "device": "cpu", "providers": "native", "gpu": "NVIDIA H200", "cpu": "Xeon", "versions": "torch 2.13.0",
        "commit": "abc"}


def own_tags(result):
    """The tags but for those that MLflow reads, such as its note."""
    return {name: value for name, value in kernel_record.values(result).tags.items() if not name.startswith("mlflow.")}


def test_the_note_says_what_was_found_in_each_operator():
    wrong = passed(rms_norm(8), verdict=Verdict.WRONG_VALUES, timing=None, message="output: off by 1\nsecond line")
    lines = kernel_record.note(bench(passed(rms_norm(4)), wrong)).splitlines()
    assert lines[0].startswith("**2 scenarios: 1 passed, 1 wrong_values** on ")
    assert lines[4].startswith("| rms_norm | tiny | 1 | 1 passed, 1 wrong_values | ")
    assert lines[-1] == f"- `{wrong.id}` wrong_values: output: off by 1"


def test_tags_hold_the_hash_that_was_graded_and_what_it_was_measured_against():
    assert own_tags(bench()) == {
        "self_test": "false", "candidate_sha256.rms_norm": "ff" * 32, "baseline_provider.rms_norm": "native",
        "baseline_provider.silu_and_mul": "native"}
    mixed = bench(passed(rms_norm(4)), passed(rms_norm(8), baseline_provider="triton"))
    assert kernel_record.values(mixed).tags["baseline_provider.rms_norm"] == "native,triton"
    through = bench(passed(rms_norm(4), ran_through=("conch 1.2", "quack")))
    assert kernel_record.values(through).tags["ran_through.rms_norm"] == "conch 1.2, quack"


def test_a_run_of_self_tests_says_so():
    result = bench(passed(self_test=True), kernels=())
    assert own_tags(result) == {"self_test": "true", "baseline_provider.rms_norm": "native"}


def test_the_results_file_can_be_read_again(tmp_path):
    nan = passed(correctness=Correctness(math.nan, math.inf, 0.1, 1e-3, 0.01, 0.016, 9))
    result = bench(nan)
    (tmp_path / "results.json").write_bytes(kernel_record.results_file(result))
    assert str(read_result(tmp_path / "results.json")) == str(result)


def test_errors_hold_what_is_needed_to_find_the_fault():
    files = kernel_record.error_files(bench().results)
    assert list(files) == ["errors/silu_and_mul.txt"]
    assert files["errors/silu_and_mul.txt"].decode() == """\
1 failing scenario of silu_and_mul

silu_and_mul[tiny-tp1-s4]: wrong_values
  1 of 128 elements is outside the tolerance
  worst element: output[3, 31]: expected 1.25, got 0.0 (draw large@t4#2)
  max_error_ratio 77.0, max_abs_error 1.25
  reproduce: pytest 'silu_and_mul[tiny-tp1-s4]' --fk-seed=7
    Traceback:
      boom
"""


def test_hundreds_of_failures_are_all_named_and_some_in_full():
    text = kernel_record.error_files([failed(rms_norm(n)) for n in range(1, 301)])["errors/rms_norm.txt"].decode()
    assert all(f"rms_norm[tiny-tp1-s{n}]: wrong_values" in text for n in range(1, 301))
    assert text.count("Traceback") == kernel_record.SHOWN_ERRORS


