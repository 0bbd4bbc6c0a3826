"""CI's parts: the first that fails ends the run with its status, and what ran is in the table whatever happens."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import ci_run
import pytest
from ci_budgets import Budget, Budgets, Cost

ROOT = Path(__file__).parents[2]
RUN = """
import sys; sys.path.insert(0, {folder!r})
import ci_run
ci_run.PARTS = {parts!r}
ci_run.BROWSER = "exit 1"
ci_run.shutil.which = lambda name: "/bin/chromium"
sys.exit(ci_run.main())
"""


def make_run(work_s=1.0, cpu_s=100.0):
    return ci_run.Run(Budgets({name: Budget(cpu_s, 1, "why") for name in ci_run.NAMES}, "m", 1.0), lambda: work_s)


def shell(text):
    return ["sh", "-c", text]


def test_all_parts_run_and_are_in_the_table(capfd):
    run = make_run()
    run.all({"install": shell("echo one"), "test": shell("echo two")}, shell("echo browser"))
    assert sorted(cost.part for cost in run.costs) == ["browser", "install", "test"]
    assert ci_run.report(run) == 0
    out = capfd.readouterr().out
    assert out.index("one") < out.index("two") < out.index("part ")
    assert "OVER" not in out


def test_a_part_that_fails_is_the_last(capfd):
    run = make_run()
    with pytest.raises(ci_run.PartFailed, match="check failed with exit status 5") as error:
        run.all({"install": shell("true"), "check": shell("exit 5"), "test": shell("echo never")}, None)
    assert error.value.status == 5
    assert [cost.part for cost in run.costs] == ["install", "check"]
    assert "never" not in capfd.readouterr().out


def test_a_part_that_is_killed_fails_as_a_shell_would_say():
    with pytest.raises(ci_run.PartFailed, match="exit status 137"):
        make_run().all({"test": shell("kill -9 $$")}, None)


def test_a_browser_that_cannot_be_had_fails_before_the_tests_and_says_why(capfd):
    run = make_run()
    with pytest.raises(ci_run.PartFailed, match="browser failed with exit status 100"):
        run.all({"install": shell("echo one"), "test": shell("echo never")}, shell("echo no such package; exit 100"))
    out = capfd.readouterr().out
    assert "no Chromium could be installed:\nno such package" in out
    assert "one" in out
    assert "never" not in out


def test_the_browser_is_ended_with_a_run_that_fails(tmp_path):
    pid = tmp_path / "pid"
    with pytest.raises(ci_run.PartFailed):
        make_run().all({"install": shell(f"while [ ! -s {pid} ]; do sleep 0.05; done; exit 2")},
                       shell(f"echo $$ > {pid}; exec sleep 60"))
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_slow_machine_is_seen_before_and_after(capfd):
    took = iter([1.0, 1.5, 3.0])
    run = ci_run.Run(make_run().budgets, lambda: next(took))
    run.all({"install": shell("true"), "check": shell("true")}, None)
    assert [cost.scale for cost in run.costs] == [1.5, 3.0]


def test_costs_over_twice_the_budget_fail_and_say_so(capfd):
    run = make_run()
    run.costs = [Cost("test", 1, 250)]
    assert ci_run.report(run) == ci_run.TOO_DEAR
    out = capfd.readouterr().out
    assert "OVER BUDGET: test took 250 CPU s, 2.50 times its budget of 100" in out
    assert "FAILED: over twice the budget" in out
    run.costs = [Cost("test", 1, 150)]
    assert ci_run.report(run) == 0
    assert "OVER BUDGET: test took 150" in capfd.readouterr().out


def command(parts):
    return [sys.executable, "-c", RUN.format(folder=str(ROOT / ".ci"), parts=parts)]


def test_the_table_is_printed_when_a_run_fails_or_is_ended():
    failed = subprocess.run(command({"install": shell("true"), "check": shell("exit 4")}), capture_output=True,
                            text=True, timeout=120, check=False)
    assert failed.returncode == 4, failed.stderr
    assert re.search(r"\ninstall .*\ncheck .*\nsum ", failed.stdout)
    assert failed.stdout.endswith("FAILED: check failed with exit status 4\n")
    with subprocess.Popen(command({"install": shell("echo started; exec sleep 60")}), stdout=subprocess.PIPE,
                          text=True) as ended:
        assert ended.stdout
        for line in ended.stdout:
            if line == "started\n":
                ended.send_signal(signal.SIGTERM)
                break
        assert re.search(r"\ninstall .*\nsum ", ended.stdout.read())
        assert ended.wait(60) == 128 + signal.SIGTERM


def test_ci_calls_the_makefiles_targets():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for tool, target in ci_run.PARTS.values():
        assert (tool, target in targets) == ("make", True)
    text = (ROOT / ".ci/run").read_text()
    assert "unset PYTHONDONTWRITEBYTECODE" in text
    assert "export FASTKERNELS_REQUIRE_BROWSER=1" in text


@pytest.mark.parametrize(("target", "size"), [("test", ""), ("test-all", "all"), ("test-quick", "quick")])
def test_the_three_sizes_of_the_suite(target, size, tmp_path):
    own = ("JOBS", "ARGS", "MAKEFLAGS", "MAKELEVEL")  # make sets them where it runs these tests
    environment = {name: value for name, value in os.environ.items() if name not in own}
    line = subprocess.run(["make", "-n", target, f"VENV={tmp_path}", "ARGS=-x tests/ci"], cwd=ROOT, env=environment,
                          capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()[-1]
    prefix = f"FASTKERNELS_TESTS={size} " if size else ""
    assert re.fullmatch(rf"{prefix}{tmp_path}/bin/pytest -n [234] --dist worksteal --durations=20 -x tests/ci", line)
