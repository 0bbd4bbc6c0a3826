"""`fastkernels compare`: exit statuses, what is listed, options and what is refused."""

import gzip
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from results_by_hand import passed, rms_norm

from fastkernels.cli.compare import max_slowdown
from fastkernels.cli.main import main
from fastkernels.results import KernelBenchResult, LeftOut, Verdict, write_result

CONDITIONS = {"machine": {"cpu": "Xeon", "threads": 2}, "versions": {"torch": "2.11.0"}, "commit": "68fa15c0ffee"}


def timed(tokens, factor=1.0):
    """A scenario of 2x, or one whose candidate takes `factor` times as long; its interval is 0.5 % to each side."""
    result = passed(rms_norm(tokens))
    speedup = 2.0 / factor
    return replace(result, timing=replace(
        result.timing, speedup=speedup, speedup_low=speedup * 0.995, speedup_high=speedup * 1.005,
        candidate_s=result.timing.baseline_s / speedup))


def wrong(tokens):
    return replace(timed(tokens), verdict=Verdict.WRONG_VALUES, timing=None, message="output[3]: expected 1, got 2")


BASE = KernelBenchResult(results=tuple(map(timed, (1, 2, 4, 8))), environment=CONDITIONS,
                         started="2026-11-21T11:54:41+00:00")


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    """base.json in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_result(tmp_path / "base.json", BASE)
    return tmp_path


@pytest.fixture
def compared(base, capsys):
    """A function that compares base.json with these results: exit status and what was printed."""

    def run(*results, words=(), **changes):
        write_result(base / "new.json", replace(BASE, results=results, **changes))
        status = main(["compare", "base.json", "new.json", *words])
        return status, capsys.readouterr().out

    return run


def refused(capsys, *words):
    assert main(["compare", *words]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_equal_runs_pass(compared):
    status, said = compared(*BASE.results)
    assert status == 0
    assert "base  base.json: 4 scenarios, Xeon, 2 threads, 2026-11-21 11:54, commit 68fa15c0ff" in said
    assert said.endswith("PASSED: 4 same; limit 3 % slower.\n")


def test_a_kernel_slower_by_5_percent_fails(compared):
    status, said = compared(timed(1, 1.05), *BASE.results[1:])
    assert status == 1
    assert "slower by more than 3 % (1)" in said
    assert "rms_norm[tiny-tp1-s1]  " in said
    assert "2.00x  1.90x    +5.0 %  [+4.3, +5.7]         +5.0 %    +0.0 %" in said
    assert "FAILED: 1 scenario slower. Of the others: 3 same." in said


def test_a_wrong_kernel_fails(compared):
    status, said = compared(wrong(1), *BASE.results[1:])
    assert status == 1
    assert "newly failing (1)\n  rms_norm[tiny-tp1-s1]  passed -> wrong_values: output[3]: expected 1, got 2\n" in said
    assert "FAILED: 1 scenario newly failing" in said


def test_a_missing_scenario_fails_unless_it_may(compared):
    rest = BASE.results[1:]
    status, said = compared(*rest, left_out=(LeftOut("rms_norm[tiny-tp1-s1]", "no room"),))
    assert status == 1
    assert "gone (1)\n  rms_norm[tiny-tp1-s1]  no room\n" in said
    status, said = compared(*rest, words=["--allow-missing"])
    assert status == 0
    assert "PASSED: 1 gone, 3 same" in said


def test_a_faster_kernel_is_listed_and_passes(compared):
    status, said = compared(timed(1, 0.9), *BASE.results[1:])
    assert status == 0
    assert "faster by more than 3 % (1)" in said
    assert "PASSED: 1 faster, 3 same" in said


def test_what_fails_stands_last(compared):
    said = compared(timed(1, 1.3), timed(2, 0.7), wrong(4))[1]
    order = ("faster by", "gone (1)", "slower by", "newly failing (1)", "operator ", "FAILED:")
    places = [said.index(words) for words in order]
    assert places == sorted(places)


def test_the_limit_is_an_option(compared):
    results = (timed(1, 1.05), *BASE.results[1:])
    assert compared(*results, words=["--max-slowdown", "10%"])[0] == 0
    status, said = compared(timed(1, 1.012), *BASE.results[1:], words=["--max-slowdown=0%"])
    assert status == 1
    assert "slower by more than 0 %" in said


def test_another_cpu_is_named_and_fails(compared):
    other = {**CONDITIONS, "machine": {"cpu": "EPYC", "threads": 2}}
    status, said = compared(*BASE.results, environment=other)
    assert status == 1
    assert "NOT THE SAME MACHINE: CPU Xeon -> EPYC: times are not compared (--across-machines does)" in said
    assert "not comparable (4)\n  rms_norm[tiny-tp1-s1] and 3 more of rms_norm  CPU Xeon -> EPYC\n" in said
    assert "FAILED: no scenario's times can be compared" in said
    status, said = compared(*BASE.results, environment=other, words=["--across-machines"])
    assert status == 0
    assert "NOT THE SAME MACHINE: CPU Xeon -> EPYC: speedups are compared all the same" in said


def test_other_conditions_are_said(compared):
    said = compared(*BASE.results, environment={**CONDITIONS, "versions": {"torch": "2.13.0"}})[1]
    assert "\ndiffers: torch 2.11.0 -> 2.13.0\n" in said


def test_no_common_scenario_is_a_failure(compared):
    status, said = compared(timed(64), words=["--allow-missing"])
    assert status == 1
    assert "FAILED: no scenario is in both files" in said


def test_lines_are_short_and_lists_are_cut_unless_asked_for(base, compared, capsys):
    long = "a_name_of_an_operator_that_is_long"
    many = [replace(timed(i, 1.5 + i / 100), id=f"{long}[{long}-tp1-s{i}]", op=long, message="") for i in range(1, 41)]
    write_result(base / "base.json", replace(BASE, results=tuple(replace(timed(r.tokens), id=r.id, op=long)
                                                                 for r in many)))
    status, said = compared(*many[:35], *(replace(wrong(r.tokens), id=r.id, op=long, message="x" * 500)
                                          for r in many[35:]))
    assert status == 1
    assert max(map(len, said.splitlines())) <= 120
    assert "  ... 15 more (--all lists them)" in said
    assert "s35]" in said  # the slowest comes first
    assert "..." in compared(*many, words=["--all"])[1]
    assert "more (--all" not in compared(*many, words=["--all"])[1]


def test_json_holds_every_scenario_and_only_json(compared):
    odd = replace(timed(4), timing=replace(timed(4).timing, speedup=float("nan")))
    status, said = compared(timed(1, 1.05), timed(2), odd, words=["--json"])
    data = json.loads(said, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert status == 1
    assert data["passed"] is False
    assert data["failures"] == ["1 scenario slower", "1 scenario gone"]
    assert data["max_slowdown"] == 0.03
    assert [run["file"] for run in data["runs"]] == ["base.json", "new.json"]
    found = {item["id"]: item for item in data["scenarios"]}
    assert [item["status"] for item in found.values()] == ["slower", "same", "not comparable", "gone"]
    slower = found["rms_norm[tiny-tp1-s1]"]
    assert slower["slowdown"] == pytest.approx(0.05)
    assert slower["low"] < 0.05 < slower["high"]
    assert slower["new"]["speedup"] == pytest.approx(2 / 1.05)
    assert found["rms_norm[tiny-tp1-s4]"]["new"]["speedup"] is None
    assert found["rms_norm[tiny-tp1-s8]"]["new"] is None
    assert data["counts"]["slower"] == 1
    assert data["groups"][0]["op"] == "rms_norm"


def test_gzipped_files_are_read(base, capsys):
    (base / "base.json.gz").write_bytes(gzip.compress((base / "base.json").read_bytes()))
    assert main(["compare", "base.json.gz", "base.json"]) == 0
    assert "base  base.json.gz: 4 scenarios" in capsys.readouterr().out


@pytest.mark.parametrize(("content", "said"), [
    (None, "x.json: No such file or directory"),
    ("{", "x.json: no JSON"),
    ('{"schema_version": 2}', "x.json: schema_version: 2 is not 1"),
    ('{"schema_version": 1, "results": []}', "x.json: results: none"),
])
def test_files_that_cannot_be_read_are_refused(base, capsys, content, said):
    if content is not None:
        (base / "x.json").write_text(content)
    assert said in refused(capsys, "base.json", "x.json")
    assert said in refused(capsys, "x.json", "base.json")


@pytest.mark.parametrize(("text", "value"), [("3%", 0.03), ("0%", 0.0), ("2.5%", 0.025), (".5%", 0.005),
                                             ("1000%", 10.0)])
def test_a_limit_is_a_number_and_the_sign(text, value):
    assert max_slowdown(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "said"), [
    ("0.03", "'0.03' is no percentage: write a number from 0 to 1000 and the sign, such as 3%. "
             "Did you mean 3%, or 0.03%?"),
    ("3", "'3' is no percentage: write a number from 0 to 1000 and the sign, such as 3%. Did you mean 3%?"),
    ("3 %", "Did you mean 3%?"),
    ("-3%", "'-3%' is no percentage"),
    ("three", "'three' is no percentage"),
    ("nan%", "'nan%' is no percentage"),
    ("", "'' is no percentage"),
    ("1001%", "'1001%' is over 1000%"),
])
def test_another_limit_is_refused(capsys, text, said):
    assert said in refused(capsys, "base.json", "base.json", f"--max-slowdown={text}")


def test_one_file_is_not_enough(capsys):
    assert "the following arguments are required: NEW.json" in refused(capsys, "base.json")


@pytest.mark.parametrize(("word", "meant"), [
    ("--max-slowdwn=3%", "--max-slowdown"), ("--alow-missing", "--allow-missing"), ("--jason", "--json")])
def test_a_wrong_option_is_refused_with_the_nearest(capsys, word, meant):
    assert f"unrecognized arguments: {word}. Did you mean {meant!r}?" in refused(capsys, "base.json", "base.json", word)


def test_a_third_file_is_refused(capsys):
    assert "unrecognized arguments: c.json\n" in refused(capsys, "base.json", "base.json", "c.json")


def test_the_help_says_units_defaults_and_exit_statuses(capsys):
    assert main(["compare", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("Exit status 1 where a verdict got worse", "4 for a wrong command line",
                  "in per cent of its time, such as 0% or 2.5% (default: 3%)", "(default: they fail)",
                  "(default: 20 of each kind)", "or its .json.gz"):
        assert words in said, words


def test_the_extra_for_reports_is_not_needed(base):
    code = ("import sys\nsys.modules['matplotlib'] = sys.modules['jinja2'] = None\n"
            "from fastkernels.cli.main import main\nsys.exit(main(['compare', 'base.json', 'base.json']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=base, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "PASSED: 4 same" in done.stdout
