"""The page's sections on several runs."""

import re
from dataclasses import replace
from html import unescape

import pytest

from fastkernels.report import NamedRun, page
from fastkernels.report.diff import MAX_ROWS, diff, history
from fastkernels.results import KernelSource, LeftOut, Verdict


def scaled(result, factor):
    """The scenario with a candidate that takes `factor` times as long."""
    t = result.timing
    return replace(result, timing=replace(
        t, candidate_s=t.candidate_s * factor, speedup=t.speedup / factor, speedup_low=t.speedup / factor * 0.995,
        speedup_high=t.speedup / factor * 1.005))


@pytest.fixture
def base(graded, run_of):
    return run_of(*(scaled(graded(op, tokens=tokens), 1.0) for op in ("linear", "rms_norm") for tokens in (1, 8, 512)),
                  kernels=(KernelSource("rms_norm", 1, "old/rms_norm.py", "a" * 64, "x = 1\ny = 2\n"),
                           KernelSource("linear", 1, "linear.py", "b" * 64, "z = 1\n")))


def with_changes(base, changes, **others):
    """The run with some results replaced, by place."""
    results = [changes.get(i, result) for i, result in enumerate(base.results)]
    return replace(base, results=tuple(result for result in results if result is not None), **others)


def text_of(*runs):
    shown = page([NamedRun(f"run{i}.json", run) for i, run in enumerate(runs)])
    section = shown[shown.index('id="diff"'):shown.index('id="speedup"')]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", section)))


def test_the_section_says_what_got_faster_slower_and_wrong(graded, base):
    wrong = replace(base.results[2], verdict=Verdict.WRONG_VALUES, timing=None, message="output: off by 1")
    new = with_changes(base, {0: scaled(base.results[0], 0.8), 2: wrong, 3: scaled(base.results[3], 1.25), 5: None},
                       left_out=(LeftOut(base.results[5].id, "no room"),))
    text = text_of(base, new)
    for words in ("From run0.json (2026-11-21 11:54) to run1.json",
                  "Worse. 1 scenario newly failing; 1 scenario slower; 1 scenario gone",
                  "passed → wrong_values output: off by 1 linear[llama31-8b-tp1-s512]",
                  "Gone 1 scenario no room rms_norm[llama31-8b-tp1-s512]",
                  "rms_norm[llama31-8b-tp1-s1] 1.50x 1.20x +25.0 % [+24.1, +25.9] +25.0 % +0.0 %",
                  "linear[llama31-8b-tp1-s1] 1.50x 1.88x -20.0 %"):
        assert words in text, words


def headline_of(*runs):
    shown = page([NamedRun(f"run{i}.json", run) for i, run in enumerate(runs)])
    return unescape(re.search(r"<h1>(.*?)</h1>", shown)[1])


def test_the_headline_says_what_got_worse_and_where(graded, base):
    wrong = replace(base.results[2], verdict=Verdict.WRONG_VALUES, timing=None, message="output: off by 1")
    new = with_changes(base, {0: scaled(base.results[0], 0.8), 2: wrong, 3: scaled(base.results[3], 1.25)})
    assert headline_of(base, new) == "Worse: 1 newly failing (linear), 1 slower (rms_norm, up to +25.0 %)"
    better = with_changes(base, {0: scaled(base.results[0], 0.8)})
    assert headline_of(base, better) == "Not worse: 1 faster (linear, up to -20.0 %)"
    assert headline_of(base, base) == "Not worse: nothing changed"
    assert headline_of(base) == "6 scenarios passed"


def test_equal_runs_say_so(base):
    text = text_of(base, base)
    assert "Not worse. Nothing got slower or worse." in text
    assert "Sources that differ" not in text


def test_what_got_better_is_no_worse(base):
    text = text_of(base, with_changes(base, {0: scaled(base.results[0], 0.5)}))
    assert "Not worse. Nothing got slower or worse; 1 faster." in text


def test_another_gpu_is_named(base):
    other = replace(base, environment={**base.environment, "gpu": {"name": "Other GPU"}})
    assert "Not the same machine. GPU Example GPU -> Other GPU: times are not compared." in text_of(base, other)


def test_changed_sources_are_shown_as_a_difference(base):
    kernels = (KernelSource("rms_norm", 1, "new/rms_norm.py", "c" * 64, "x = 1\ny = 3\n"),
               KernelSource("silu_and_mul", 1, "silu_and_mul.py", "d" * 64, "w = 1\n"))
    found = diff(NamedRun("a", base), NamedRun("b", replace(base, kernels=kernels)))
    assert [(name, what) for name, what, _ in found.sources] == [
        ("L1 rms_norm", "changed"), ("L1 silu_and_mul", "new"), ("L1 linear", "gone")]
    assert found.sources[0][2].splitlines()[0] == "--- old/rms_norm.py"
    assert {"-y = 2", "+y = 3"} <= set(found.sources[0][2].splitlines())


def test_long_lists_are_cut_with_the_largest_change_first(graded, run_of):
    results = [scaled(graded(tokens=i + 1), 1.0) for i in range(MAX_ROWS + 5)]
    slow = [scaled(result, 1.1 + i / 100) for i, result in enumerate(results)]
    found = diff(NamedRun("a", run_of(*results)), NamedRun("b", run_of(*slow)))
    (status, count, rows, more), = found.times
    assert (status, count, len(rows), more) == ("slower", MAX_ROWS + 5, MAX_ROWS, 5)
    assert rows[0].id == slow[-1].id
    assert "5 more measurements: fastkernels compare --all" in text_of(run_of(*results), run_of(*slow))


def test_operators_are_counted_by_what_became_of_them(base):
    found = diff(NamedRun("a", base), NamedRun("b", with_changes(base, {3: scaled(base.results[3], 1.25), 5: None})))
    rows = {row.op: dict(zip(found.columns, row.counts, strict=True)) for row in found.operators}
    assert rows["rms_norm"] == {"newly failing": 0, "slower": 1, "gone": 1, "faster": 0, "newly passing": 0, "same": 1}
    assert rows["linear"]["same"] == 3


def test_history_is_the_mean_over_shapes_that_every_run_timed(base, graded):
    runs = [base, with_changes(base, {0: scaled(base.results[0], 0.5)}), with_changes(base, {1: None})]
    found = history([NamedRun(f"run{i}", run) for i, run in enumerate(runs)])
    rows = {op: (shapes, [mean for mean, _ in cells]) for op, shapes, cells in found.rows}
    assert rows["linear"][0] == 2
    assert rows["linear"][1] == pytest.approx([1.5, 1.5 * 2**0.5, 1.5])
    assert rows["rms_norm"] == (3, pytest.approx([1.5, 1.5, 1.5]))
    assert [run[2] for run in found.runs] == ["6 of 6", "6 of 6", "5 of 5"]
    assert found.devices == 1


def test_history_of_operators_that_not_every_run_has(base, graded, run_of):
    added = replace(base, results=(*base.results, graded("embedding")))
    found = history([NamedRun("a", base), NamedRun("b", base), NamedRun("c", added)])
    assert ("embedding", 0, ((None, "none"),) * 3) in found.rows
    assert "The runs are not of one machine" in text_of(base, base, replace(base, environment={"gpu": {"name": "B"}}))


def test_two_runs_are_no_history(base):
    assert history([NamedRun("a", base)] * 2) is None
    assert "History" not in text_of(base, base)
    assert "Geometric mean of the speedup of each operator in 3 runs" in text_of(base, base, base)
