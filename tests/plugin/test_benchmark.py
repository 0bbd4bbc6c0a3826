"""pytest-benchmark's files, table and comparisons, with and without xdist."""

import json
import sys

import pytest

XDIST = pytest.mark.parametrize("xdist", [(), ("-n2",)])


@XDIST
def test_every_timing_is_in_the_json_and_can_be_compared(project, xdist):
    result = project.run("--fk-level=1", "--benchmark-json=out.json", "-W", "error", *xdist, subprocess=bool(xdist))
    result.assert_outcomes(passed=7, **({} if xdist else {"deselected": 2}))
    assert "PytestBenchmarkWarning" not in result.stdout.str() + result.stderr.str()
    marks = json.loads((project.path / "out.json").read_text())["benchmarks"]
    assert sorted(m["fullname"] for m in marks) == sorted(r["id"] for r in project.results()["results"])
    mark = next(m for m in marks if m["name"] == "rms_norm[tiny-a-tp2-s8]")
    assert mark["stats"]["data"] == [0.9e-5, 1e-5, 1.1e-5]
    assert mark["params"] == {"op": "rms_norm", "model": "tiny-a", "tp": 2, "tokens": 8, "variant": ""}
    assert mark["extra_info"]["speedup"] == 1.5
    compared = project.pytester.run(sys.executable, "-m", "pytest_benchmark", "compare", "out.json")
    assert compared.ret == 0
    compared.stdout.fnmatch_lines(["*rms_norm[[]tiny-a-tp2-s8[]]*"])


@XDIST
def test_save_compare_and_compare_fail(project, xdist):
    project.run("--fk-level=1", "--benchmark-autosave", *xdist)
    again = project.run("--fk-level=1", "--benchmark-compare", "--benchmark-compare-fail=mean:5%", *xdist)
    assert again.ret == pytest.ExitCode.OK
    again.stdout.fnmatch_lines(["*rms_norm[[]tiny-a-tp1-s8[]] (NOW)*"])
    if xdist:
        return  # the comparison itself is the same code
    path = project.path / "conftest.py"
    path.write_text(path.read_text().replace("candidate_samples_s=(0.9e-5", "candidate_samples_s=(9e-5"))
    slower = project.run("--fk-level=1", "--benchmark-compare", "--benchmark-compare-fail=mean:5%", *xdist)
    assert slower.ret != pytest.ExitCode.OK


@XDIST
def test_benchmark_only_runs_scenarios_and_skips_other_tests(project, xdist):
    project.pytester.makepyfile(test_own="def test_own(): pass")
    result = project.run("test_own.py", "silu_and_mul[tiny-a-tp1-s1]", "--benchmark-only", "--benchmark-json=o.json",
                         *xdist)
    result.assert_outcomes(passed=1, skipped=1)
    assert len(json.loads((project.path / "o.json").read_text())["benchmarks"]) == 1


@pytest.mark.parametrize("off", [("--benchmark-disable",), ("-p", "no:benchmark"), ("--benchmark-skip",)])
def test_turned_off_by_the_user(project, off):
    result = project.run("--fk-level=1", *off, subprocess="-p" in off)  # a run in this process names it by -p itself
    result.assert_outcomes(passed=7, deselected=2)
    assert "benchmark 'rms_norm" not in result.stdout.str()


def test_no_samples_without_a_passed_verdict_or_without_timing(project):
    project.fake(tiny_b="wrong_values")
    project.run("--fk-level=1", "--benchmark-json=out.json")
    assert len(json.loads((project.path / "out.json").read_text())["benchmarks"]) == 5


def test_the_printed_table_leaves_out_equal_shapes_and_says_so(project):
    result = project.run("--fk-level=1")
    text = result.stdout.str()
    assert "rms_norm[tiny-a-tp1-s8]  " in text
    assert "rms_norm[tiny-a-tp2-s8]  " not in text
    result.stdout.fnmatch_lines(["pytest-benchmark's table: 2 rows not shown (-v shows all, its files hold all)"])
    assert max(len(line) for line in result.outlines if line.startswith(("Name (", "rms_norm["))) <= 120
    assert "rms_norm[tiny-a-tp2-s8]  " in project.run("--fk-level=1", "-v").stdout.str()
