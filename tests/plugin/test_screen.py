"""The screen of a run while it goes on and at its end: rows, time left, what comes after what."""

import os
import threading
import time
from types import SimpleNamespace

import pytest

from fastkernels.bench.kernels import locks
from fastkernels.bench.kernels.advice import TRITON, advised
from fastkernels.results import Correctness, Verdict, WorstElement
from pytest_fastkernels import estimate, report
from pytest_fastkernels.estimate import Estimate, duration, long_run_lines
from pytest_fastkernels.failure import failure_text
from tests.plugin.test_report import result

SHAPES = [SimpleNamespace(shape_key=str(number // 2), level=1) for number in range(20)]


def test_a_small_run_has_a_row_for_each_shape_with_the_time_left(project):
    project.fake(tiny_b_tp1_s8="wrong_values")
    shown = project.run("--fk-level=1")
    shown.stdout.fnmatch_lines([
        "rms_norm[[]tiny-a-tp1-s1[]]     self-test  1.50x [[]1.40, 1.60[]]   250 ms  about * s left",
        "rms_norm[[]tiny-a-tp1-s8[]]     self-test *",
        "rms_norm[[]tiny-b-tp1-s1[]]     self-test *",
        "rms_norm[[]tiny-b-tp1-s8[]]     wrong_values  error ratio 77       250 ms  about * s left",
        "silu_and_mul[[]tiny-a-tp1-s1[]] self-test  1.50x [[]1.40, 1.60[]]   250 ms"], consecutive=True)


def test_equal_shapes_cost_once_and_what_is_done_tells_what_is_left():
    guess = Estimate(SHAPES, "cpu", timing=True, processes=1)
    assert guess.shapes == 10
    assert guess.total_s == pytest.approx(estimate.START_S + 10 * estimate.KNOWN_S["cpu", True][1])
    assert guess.left_s() is None
    guess.note([result(0, shape_key="0", wall_s=5.0), result(1, shape_key="0", wall_s=5.0, shared_with="op[m0]")], 8.0)
    assert guess.left_s() == pytest.approx(9 * 5.0)
    guess.note([result(1, shape_key="1", wall_s=1.0)], 9.0)  # the first one's start does not count any more
    assert guess.left_s() == pytest.approx(8 * 1.0)
    guess.note([result(2, shape_key="2", wall_s=1.0)], 19.0)  # it has waited for others
    assert guess.left_s() == pytest.approx(7 * 5.5)
    guess.note([result(n, shape_key=str(n), wall_s=5.0) for n in range(3, 10)], 60.0)
    assert guess.left_s() == 0


def test_a_run_of_over_ten_minutes_says_so_at_its_start(project, monkeypatch):
    project.run("--fk-level=1").stdout.no_fnmatch_line("*take about*")
    monkeypatch.setitem(estimate.KNOWN_S, ("cpu", True), {1: 400.0})
    project.run("--fk-level=1").stdout.fnmatch_lines([
        "fastkernels: 5 shapes take about 33 min on this machine; *--fk-model*--fk-resume goes on after Ctrl+C"])
    assert long_run_lines(Estimate(SHAPES, "cuda", timing=False, processes=1), ()) == []


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (7.4, "7 s"), (42, "40 s"), (100, "2 min"),
                                               (7200, "2.0 h")])
def test_an_estimate_is_no_more_exact_than_it_is(seconds, text):
    assert duration(seconds) == text


def test_the_table_is_there_although_another_plugin_fails_at_the_end(project):
    path = project.path / "conftest.py"
    path.write_text(path.read_text() + "\ndef pytest_terminal_summary():\n    raise RuntimeError('another plugin')\n")
    shown = project.run("--fk-target=silu_and_mul", subprocess=True)
    text = shown.stdout.str() + shown.stderr.str()
    assert "another plugin" in text
    shown.stdout.fnmatch_lines(["*= kernels =*", "silu_and_mul *", "results: bench/results/kernels.json"])


def test_waiting_for_another_grader_is_shown(monkeypatch, tmp_path):
    monkeypatch.setattr(locks, "lock_root", lambda: tmp_path)
    monkeypatch.setattr(report, "WAITING_S", 0.0)
    shown = report.Report.__new__(report.Report)
    shown.running, shown.estimate = {}, None
    shown.fk = SimpleNamespace(grader=None, record=SimpleNamespace(results=[], expected={"a": 1}, wall_s=2.0))

    def grade() -> None:
        with locks.timing_section("cpu"):
            pass

    with locks.work_section("cpu"):
        assert locks.waiting_since(os.getpid()) is None
        other = threading.Thread(target=grade)
        other.start()
        until = time.monotonic() + 10
        while locks.waiting_since(os.getpid()) is None and time.monotonic() < until:
            time.sleep(0.01)
        assert "waiting for another grader on this machine for " in shown._describe()
        assert locks.waiting_since(os.getppid()) is not None, "xdist's controller sees what its workers wait for"
    other.join()
    assert "waiting" not in shown._describe()


def test_the_worst_element_is_named_once():
    numbers = Correctness(0.25, 2.0, 1e-3, 1e-3, 0.01, 0.016, 5, WorstElement("output", (3, 7), 1.25, 1.0), "normal")
    message = "output (element 3, 7): expected 1.25, got 1 (error ratio 2, 1 of 64 elements, draw normal)"
    text = failure_text(result(1, Verdict.WRONG_VALUES, message=message, correctness=numbers))
    assert text.splitlines()[:2] == [f"wrong_values: {message}", "allowed: atol 0.01, rtol 0.016"]
    right = Correctness(0.25, 0.2, 1e-3, 1e-3, 0.01, 0.016, 5, WorstElement("output", (3, 7), 1.25, 1.25), "normal")
    assert "worst" not in failure_text(result(1, Verdict.TIMING_TAMPERED, message="no", correctness=right))
    other = failure_text(result(1, Verdict.WRONG_SCALE, message="output: relative L2 error 0.2", correctness=numbers))
    assert other.splitlines()[1].startswith("worst element: output[3, 7] is 1, expected 1.25 (error ratio 2, atol 0.01")


def test_a_triton_kernel_without_a_gpu_says_how_to_run_it():
    for words in ("forward raised RuntimeError: 0 active drivers ([]). There should only be one.",
                  "forward raised ValueError: Pointer argument (at 0) cannot be accessed from Triton (cpu tensor?)"):
        assert advised(Verdict.FORWARD_ERROR, words, "") == f"{words}\n{TRITON}"
    assert "TRITON_INTERPRET=1" in TRITON
    assert advised(Verdict.FORWARD_ERROR, "forward raised ValueError: no", "") == "forward raised ValueError: no"
