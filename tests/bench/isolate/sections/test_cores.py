"""One core for both sides, beside that of the clock: chosen by the machine's topology, taken and given back."""

import os
import subprocess
import sys

import pytest

from fastkernels.bench.isolate import process_tree
from fastkernels.bench.isolate.sections import cores
from fastkernels.bench.isolate.sections.cores import SharedCore, core_beside


@pytest.fixture
def topology(tmp_path):
    """Four physical cores of two threads: 0 and 4, 1 and 5, 2 and 6, 3 and 7."""
    for core in range(8):
        folder = tmp_path / f"cpu{core}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{core % 4},{core % 4 + 4}\n")
    return tmp_path


@pytest.mark.parametrize(("allowed", "preferred", "chosen"), [
    (range(8), 5, 5), (range(8), 4, 7), (range(8), 0, 7), ({0, 4, 2}, 4, 2), ({0, 4}, 4, None), ({0}, 0, None),
    ({1, 2}, 7, 2),  # one that this process may not use is not taken
])
def test_sides_run_on_another_physical_core_than_the_clock(topology, allowed, preferred, chosen):
    assert core_beside(0, allowed, preferred, topology) == chosen


def test_ranges_of_siblings_and_a_system_that_does_not_say(topology, tmp_path):
    (topology / "cpu0/topology/thread_siblings_list").write_text("0-3\n")
    assert core_beside(0, range(8), 2, topology) == 7
    assert core_beside(0, {0, 1}, 1, tmp_path / "nothing") == 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_both_sides_are_held_on_one_core_and_let_go(monkeypatch, tmp_path):
    monkeypatch.setattr(cores.core_beside, "__defaults__", (tmp_path,))  # each core is one of its own
    sides = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
    pids = [side.pid for side in sides]
    before = os.sched_getaffinity(0)
    shared = SharedCore()
    try:
        core = shared.take(pids)
        assert [os.sched_getaffinity(pid) for pid in pids] == [{core}] * 2
        own = os.sched_getaffinity(0)
        assert len(own) == 1
        assert core not in own
        sides[0].kill()
        sides[0].wait()
        shared.give_back()
        assert os.sched_getaffinity(0) == os.sched_getaffinity(pids[1]) == before
    finally:
        os.sched_setaffinity(0, before)
        for side in sides:
            side.kill()
            side.wait()
            side.stdin.close()


def test_where_others_may_not_be_placed_nobody_is(monkeypatch, tmp_path):
    monkeypatch.setattr(cores.core_beside, "__defaults__", (tmp_path,))
    before, place = os.sched_getaffinity(0), os.sched_setaffinity

    def refuse(pid, wanted):
        if pid:
            raise PermissionError
        place(pid, wanted)

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    shared = SharedCore()
    assert shared.take([os.getppid()]) is None
    assert os.sched_getaffinity(0) == before


def test_the_core_of_a_process_is_one_that_it_may_run_on():
    assert process_tree.core(os.getpid()) in os.sched_getaffinity(0)
