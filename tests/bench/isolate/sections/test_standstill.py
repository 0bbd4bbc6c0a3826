"""Trees of processes held still: none runs, none is missed, and who wakes itself is found."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fastkernels.bench.isolate import process_tree
from fastkernels.bench.isolate.sections.standstill import AwakeError, Standstill

BUSY = """
import os
for _ in range(2):
    if os.fork() == 0:
        break
os.write(1, b"%d\\n" % os.getpid())
while True:
    pass
"""


@pytest.fixture
def tree():
    """A process and the children that it has forked, all at work."""
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, start_new_session=True)
    pids = [int(process.stdout.readline()) for _ in range(3)]
    yield process.pid, pids
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_the_whole_tree_stands_still_and_goes_on(tree):
    root, pids = tree
    still = Standstill(root)
    still.stop()
    assert {process_tree.state(pid) for pid in pids} == {b"T"}
    before = [process_tree.own_cpu_s(pid) for pid in pids]
    time.sleep(0.02)
    assert [process_tree.own_cpu_s(pid) for pid in pids] == before
    still.check()
    still.go_on()
    end = time.monotonic() + 10
    while any(process_tree.state(pid) == b"T" for pid in pids):
        assert time.monotonic() < end, "stopped for good"


def test_who_runs_while_it_should_stand_still_is_found(tree):
    root, pids = tree
    still = Standstill(root)
    still.stop()
    os.kill(pids[1], signal.SIGCONT)  # as a timer of the process's own sends it
    with pytest.raises(AwakeError, match="ran for"):
        check_for(still, 10)
    still.go_on()


def check_for(still, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        still.check()


def test_a_family_sees_who_has_come_and_forgets_who_is_gone(tree):
    root, pids = tree
    family = process_tree.Family(root)
    assert sorted(family.members()) == sorted(process_tree.members(root)) == sorted(pids)
    os.kill(next(pid for pid in pids if pid != root), signal.SIGKILL)
    assert family.members()[0] == root
    late = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        own = process_tree.Family(os.getpid())
        assert late.pid in own.members()
        assert root in own.members()
    finally:
        late.kill()
        late.wait()
    assert late.pid not in own.members()
