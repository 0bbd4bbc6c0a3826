"""The page: what it says, that it needs nothing else, and that nothing in it is taken for markup."""

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from fastkernels.errors import ReportError, install_command
from fastkernels.report import NamedRun, figures, page
from fastkernels.report.findings import MAX_EVIDENCE, MAX_FINDINGS, findings
from fastkernels.results import (
    GateOutcome,
    GateResult,
    KernelSource,
    LeftOut,
    Subsumed,
    Timing,
    Verdict,
    WorstElement,
    write_result,
)

MAX_MB = 2.0
"""Size that a page of 2,000 scenarios stays under."""
VOID = {"meta", "link", "br", "wbr", "rect", "use", "path", "img"}
OPTIONAL_END = {"tr", "td", "th", "li"}


class Reader(HTMLParser):
    """Text, ids, links and the balance of tags."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.ids, self.targets, self.open, self.wrong, self.attributes = [], [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.texts += [" "] if tag == "dd" else []
        self.attributes += attrs
        self.ids += [given["id"]] if "id" in given else []
        self.targets += [given["href"]] if "href" in given else []
        if tag not in VOID | OPTIONAL_END:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag in VOID | OPTIONAL_END:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append((tag, self.getpos()))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))


def read(*runs):
    return Reader(page([NamedRun(f"run{i}.json", run) for i, run in enumerate(runs)]))


def test_the_summary_says_what_ran_where_and_what_came_of_it(small_run):
    text = read(small_run).text
    for words in ("29 of 141 scenarios failed", "run0.json on Example GPU", "passed 112", "wrong_values 12",
                  "crashed 12", "wrong_nonfinite 4", "too_slow 1", "operators 5", "models 2", "torch 2.11.0",
                  "SM 1980 MHz", "68fa15c", "2026-11-21 11:54:41 UTC", "35.8 s", "seed 7", "num_runs 100",
                  "L1.silu_and_mul: nothing selected uses it", "L1.embedding: L2.block no longer uses it",
                  "1 selected scenario was not graded", "1 scenario: no room",
                  "rms_norm[llama31-8b-tp1-s8192-residual]"):
        assert words in text, words


def test_gates_have_a_column_where_one_applied(graded, run_of):
    none = {"stream": GateResult(GateOutcome.NOT_APPLICABLE, "needs CUDA")}
    bad = {**none, "strided": GateResult(GateOutcome.PASSED), "compile": GateResult(GateOutcome.FAILED, "a <break>")}
    assert "gates" not in read(run_of(replace(graded(), gates=none))).text.partition("max abs error")[2]
    reader = read(run_of(replace(graded(), gates=bad)))
    assert "strided passed, compile failed" in reader.text
    assert ("title", "a <break>") in reader.attributes
    assert reader.wrong == []


def test_a_run_without_failures_says_so(graded, run_of):
    reader = read(run_of(graded()))
    assert "1 scenario passed" in reader.text
    assert "failures" not in reader.ids
    assert "Self-test" not in reader.text


def test_packages_that_calls_ran_through_are_named(graded, run_of):
    assert "rms_norm: liger_kernel 0.6.2" in read(run_of(graded(ran_through=("liger_kernel 0.6.2",)))).text
    assert "calls ran through" not in read(run_of(graded())).text


def test_self_tests_are_labelled(graded, run_of):
    whole = read(run_of(graded(self_test=True))).text
    assert "Self-test. Every scenario grades the baseline against itself" in whole
    part = read(run_of(graded(self_test=True), graded("linear"))).text
    assert "Self-test. 1 scenario grades the baseline against itself" in part


def test_without_times_the_maps_show_verdicts(graded, run_of):
    reader = read(run_of(graded(timing=None)))
    assert "Verdicts by model, TP degree and tokens" in reader.text
    assert "roofline" not in reader.ids
    assert "samples" not in reader.ids


def test_each_failing_finding_has_worst_element_evidence_and_command(graded, run_of):
    failed = graded(verdict=Verdict.WRONG_VALUES, message="output: off by 1", evidence="Traceback: line 3")
    worst = replace(failed.correctness, worst=WorstElement("output[1]", (0, 7), 1.5, math.nan), draw="large@t3#1")
    text = read(run_of(replace(failed, correctness=worst))).text
    for words in ("1 distinct finding in 1 scenario", "output: off by 1", "output[1][0, 7]: expected 1.5, got NaN",
                  "draw large@t3#1", "Traceback: line 3", "python -m pytest 'rms_norm[llama31-8b-tp1-s8]' --fk-seed=7",
                  "kernels/L1/rms_norm.py"):
        assert words in text, words


def test_findings_that_differ_in_numbers_only_are_one_shown_by_the_worst(graded):
    def wrong(tokens, ratio, word="off"):
        result = graded(tokens=tokens, verdict=Verdict.WRONG_VALUES,
                        message=f"output {word} by {ratio} at (3, {tokens}), draw large@t{tokens}#1")
        return replace(result, correctness=replace(result.correctness, max_error_ratio=ratio))

    found = findings([wrong(1, 2.0), wrong(2, math.inf), wrong(4, 1.5), graded(), wrong(8, 3.0, "misses"),
                      replace(wrong(16, 2.0), verdict=Verdict.WRONG_SCALE)])
    assert [item.first.tokens for item in found] == [2, 8, 16]
    assert found[0].others == (wrong(1, 2.0).id, wrong(4, 1.5).id)


def test_long_evidence_and_many_findings_are_bounded(graded, run_of):
    words = [chr(ord("a") + i // 26) + chr(ord("a") + i % 26) for i in range(MAX_FINDINGS + 5)]
    results = [graded(tokens=i + 1, verdict=Verdict.CRASHED, message=word, evidence="start " + "x" * 50000 + " end")
               for i, word in enumerate(words)]
    found = findings(results)
    assert len(found[0].evidence) < MAX_EVIDENCE + 100
    assert found[0].evidence.startswith("start ")
    assert found[0].evidence.endswith(" end")
    assert "characters cut" in found[0].evidence
    text = read(run_of(*results)).text
    assert f"{MAX_FINDINGS + 5} distinct findings" in text
    assert "5 more findings in the table of scenarios" in text


def test_every_scenario_is_in_the_table_sorted(graded, run_of):
    results = [graded(tokens=tokens, model=model) for model in ("b", "a") for tokens in (512, 8, 16)]
    text = read(run_of(*results)).text
    table = text[text.index("All 6 scenarios"):]
    order = [f"rms_norm[{model}-tp1-s{tokens}]" for model in ("a", "b") for tokens in (8, 16, 512)]
    assert re.findall(r"rms_norm\[\S+\]", table) == order


def test_sources_are_shown_with_path_and_hash(graded, run_of):
    code = 'x = "<b>" if 1 < 2 else "&amp;"\n'
    text = read(run_of(graded(), kernels=(KernelSource("rms_norm", 1, "L1/rms_norm.py", "ab" * 32, code),
                                          KernelSource("_common", 0, "_common.py", "cd" * 32, "")))).texts
    assert code in text
    assert "ab" * 32 in text
    assert "L1/rms_norm.py" in text


EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}</style></title></pre>"


def test_nothing_that_comes_with_the_results_is_taken_for_markup(graded, run_of):
    bad = graded(EVIL, EVIL, verdict=Verdict.WRONG_VALUES, message=EVIL, evidence=EVIL, candidate_path=EVIL,
                 reproduce=EVIL, baseline_provider=EVIL, shared_with=EVIL, variant=EVIL)
    bad = replace(bad, correctness=replace(bad.correctness, worst=WorstElement(EVIL, (1,), 1.0, 2.0), draw=EVIL))
    good = graded(EVIL, EVIL, tokens=16)
    good = replace(good, timing=replace(good.timing, method=EVIL))
    run = run_of(bad, good, kernels=(KernelSource(EVIL, 1, EVIL, EVIL, EVIL),), left_out=(LeftOut(EVIL, EVIL),),
                 subsumed=(Subsumed(EVIL, EVIL),), settings={EVIL: EVIL, "candidates_dir": EVIL}, started=EVIL,
                 environment={"gpu": {"name": EVIL, "driver": EVIL}, "versions": {EVIL: EVIL}, "commit": EVIL,
                              "machine": {"cpu": EVIL, "system": EVIL}})
    text = page([NamedRun(EVIL, run), NamedRun(EVIL, run)])
    assert "&lt;script&gt;alert(1)" in text
    assert "{{ 7 * 7 }}" in text
    assert text.count("<script") == text.count("</script") == 1
    assert "<img" not in text
    assert text.count("</title>") == 1 + text.count("<svg ")
    assert text.count("</style>") == 1
    reader = Reader(text)
    assert reader.wrong == []
    assert not [name for name, _ in reader.attributes if name.startswith("on")]


@pytest.mark.parametrize("environment", [{}, {"gpu": "H200", "machine": [1], "versions": None},
                                         {"gpu": {"name": None, "clock_sm_mhz": "fast", "driver": 3}, "commit": 4}])
def test_free_form_data_of_any_shape_is_survived(graded, run_of, environment):
    assert "1 scenario passed" in read(run_of(graded(), environment=environment, settings={}, started="",
                                              wall_s=0.0)).text


def test_odd_numbers_are_survived(graded, run_of):
    results = []
    for i, value in enumerate((math.nan, math.inf, -math.inf, 0.0, -1.0)):
        item = graded(tokens=i + 1)
        numbers = {name: value for name, form in Timing.__annotations__.items() if form is float}
        results.append(replace(item, timing=replace(item.timing, **numbers), correctness=replace(
            item.correctness, max_abs_error=value, max_error_ratio=value)))
    reader = read(run_of(*results))
    assert "NaN" in reader.text
    assert reader.wrong == []


def test_what_html_cannot_hold_is_replaced(graded, run_of):
    text = page([NamedRun("a", run_of(graded(verdict=Verdict.CRASHED, message="\x1b[31mred\x00 \ud800 ok\ttab")))])
    assert "\ufffd[31mred\ufffd \ufffd ok\ttab" in text
    text.encode()


def test_the_page_asks_for_nothing_from_outside(small_run):
    text = page([NamedRun("a", small_run), NamedRun("b", small_run)])
    assert not re.findall(r"https?:|//[a-z]|\bsrc=|@import|url\(|@font-face|<link|<iframe|<object|fetch\(",
                          re.sub(r"url\(#[^)]*\)|// [A-Z][^\n]*", "", text))
    assert all(target.startswith("#") for target in Reader(text).targets)


def test_the_markup_is_sound(small_run):
    reader = read(small_run, small_run)
    assert reader.wrong == []
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert {target[1:] for target in reader.targets} <= set(reader.ids)


def test_equal_runs_give_equal_pages_in_any_process(small_run, tmp_path):
    path = tmp_path / "kernels.json"
    write_result(path, small_run)
    code = ("import sys, hashlib, pathlib\nfrom fastkernels.report import page, read_run\n"
            "run = read_run(pathlib.Path('kernels.json'))\n"
            "print(hashlib.sha256(page([run, run]).encode()).hexdigest())")
    seen = {subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True,
                           env={**os.environ, "PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")}
    assert len(seen) == 1


def test_a_page_of_2000_scenarios_is_small(large_run):
    assert len(large_run.results) == 2000
    assert len(page([NamedRun("a", large_run)]).encode()) < MAX_MB * 1e6


def test_no_run_is_an_error():
    with pytest.raises(ReportError, match="one run at least"):
        page([])


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_a_missing_extra_is_named(missing):
    with pytest.raises(ReportError, match=f"{missing}, which is not installed: {re.escape(install_command('report'))}"):
        figures.require_extra(find=lambda name: None if name == missing else object())


def test_the_extra_is_asked_for_before_it_is_imported(small_run, monkeypatch):
    monkeypatch.setattr(figures, "EXTRA", ("fastkernels_absent",))
    for make in (lambda: page([NamedRun("a", small_run)]), lambda: figures.plots(small_run)):
        with pytest.raises(ReportError, match="fastkernels_absent"):
            make()
