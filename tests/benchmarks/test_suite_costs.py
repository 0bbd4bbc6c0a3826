"""The costs of test files: added up by file, exact for what a test starts, the same under xdist."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.suite_costs import FileCost, add_up, difference, main, read, table

BURN = "import time\nt = time.process_time()\nwhile time.process_time() - t < 0.3:\n    pass\n"
TESTS = {
    "test_own.py": "def test_own():\n    exec({burn!r})\n",
    "test_below.py": "import subprocess, sys\ndef test_killed():\n"
                     "    code = {burn!r} + 'print(1, flush=True)\\ninput()'\n"
                     "    child = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE,\n"
                     "                             stdout=subprocess.PIPE)\n"
                     "    child.stdout.readline()\n    child.kill()\n    child.communicate()\n",
    "test_free.py": "import pytest\n@pytest.mark.parametrize('n', range(3))\ndef test_free(n):\n    pass\n",
}


def row(test, wall_s=1.0, own=1.0, below=0.0):
    return {"test": test, "wall_s": wall_s, "own_cpu_s": own, "below_cpu_s": below, "exact": True}


def test_costs_are_added_up_by_file_dearest_first():
    files = add_up([row("a.py::x"), row("b.py::T::y[1]", 2, 3, 4), row("a.py::z", 0.5, 0.25, 0.25)])
    assert list(files) == ["b.py", "a.py"]
    assert files["a.py"] == FileCost(2, 1.5, 1.25, 0.25)
    lines = table(files, 20.0, 1).splitlines()
    assert lines[1].split() == ["1", "2.0", "7.0", "3.0", "4.0", "7.00", "b.py"]
    assert lines[2] == "... 1 files more"
    assert lines[3].split()[:3] == ["3", "3.5", "8.5"]
    assert "20.0 CPU s, 11.5 of them in no file's tests" in lines[4]


def test_what_was_added_is_shown_and_noise_is_not():
    old = {"a.py": FileCost(2, 1, 10, 0), "b.py": FileCost(1, 1, 1, 1), "gone.py": FileCost(3, 1, 1, 1)}
    new = {"a.py": FileCost(2, 1, 10.9, 0), "b.py": FileCost(2, 1, 1, 5), "new.py": FileCost(1, 1, 0, 3)}
    assert difference(old, new).splitlines() == [
        "     +4.0 CPU s     +1 tests  b.py (was 2.0)", "     +3.0 CPU s     +1 tests  new.py (new)",
        "     -2.0 CPU s     -3 tests  gone.py (gone or not run)", "     +5.9 CPU s in all (14.0 before)"]
    assert difference(old, old).startswith("no file's cost has changed\n")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_is_measured(tmp_path, workers, monkeypatch, capfd):
    """Own work, work of a killed process and none, told apart; no shares are asserted, only what must be in there."""
    for name, code in TESTS.items():
        (tmp_path / name).write_text(code.format(burn=BURN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # this test's own worker
    old, out = tmp_path / "old.json", tmp_path / "costs.json"
    gone = {"tests": 1, "wall_s": 9, "own_cpu_s": 9, "below_cpu_s": 0}
    old.write_text(json.dumps({"files": {"test_gone.py": gone}}))
    assert main(["--json", str(out), "--against", str(old), "--", "-q", "-n", workers, str(tmp_path)]) == 0
    files = read(out)
    counted = {name: cost.tests for name, cost in files.items()}
    assert counted == {"test_own.py": 1, "test_below.py": 1, "test_free.py": 3}
    assert files["test_own.py"].own_cpu_s >= 0.25  # it is counted in ticks
    assert files["test_below.py"].below_cpu_s >= 0.3
    assert files["test_free.py"].cpu_s < files["test_own.py"].cpu_s
    assert json.loads(out.read_text())["total_cpu_s"] >= 0.6
    shown = capfd.readouterr().out
    assert " test_below.py\n" in shown
    assert "-9.0 CPU s     -1 tests  test_gone.py (gone or not run)" in shown


def test_the_exit_status_is_pytests(tmp_path):
    (tmp_path / "test_bad.py").write_text("def test_bad():\n    assert 0\n")
    script = Path(__file__).parents[2] / "benchmarks/suite_costs.py"
    done = subprocess.run([sys.executable, str(script), "--", "-q", "-p", "no:cacheprovider", str(tmp_path)],
                          cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "1 files" in done.stdout
