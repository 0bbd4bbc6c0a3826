"""A supervisor that is killed leaves its finished results and no process."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels.log import ResultLog
from fastkernels.env import STARTERS

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_supervisor_loses_nothing_that_was_finished_and_leaves_no_orphans(tmp_path, monkeypatch):
    (tmp_path / "L1").mkdir()
    (tmp_path / "L1" / "rms_norm.py").write_text((HERE / "bad_rms_norm.py").read_text())
    log = tmp_path / "kernels.jsonl"
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    monkeypatch.delenv(STARTERS, raising=False)  # its workers are then below it, and not below this run's starters
    supervisor = subprocess.Popen([sys.executable, str(HERE / "run_and_hang.py"), str(log), str(tmp_path)],
                                  env={**os.environ, "PYTHONPATH": path})
    try:
        wait_until(lambda: log.exists() and log.read_bytes().endswith(b"\n"), 60)
        wait_until(lambda: spins(supervisor.pid), 60)
        workers = psutil.Process(supervisor.pid).children(recursive=True)
        assert len(workers) >= 2
    finally:
        supervisor.kill()
        supervisor.wait()
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    (line,) = log.read_text().splitlines()
    assert ResultLog(log).find_equal(rms_norm().shape_key, line.split('"')[3]) is not None


def spins(pid):
    """Whether a worker has worked for longer than it takes to start: it is in the scenario that hangs."""
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):  # one that is about to be reaped, such as a probe's
            if "--role" in child.cmdline() and child.cpu_times().user > 1:
                return True
    return False


def wait_until(condition, timeout_s):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
