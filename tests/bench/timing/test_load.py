"""Load as the kernel counts it, from counters that are made up: which rounds it spoils, and which it does not."""

import pytest

from fastkernels.bench.timing.known_work import KnownWork
from fastkernels.bench.timing.load import (
    SLICE_S,
    WAKE_S,
    Cores,
    OthersMeter,
    Waits,
    read_cores,
    read_threads,
    waits_between,
)


def thread(proc, pid, tid, schedstat=None, switches=None):
    folder = proc / str(pid) / "task" / str(tid)
    folder.mkdir(parents=True)
    if schedstat is not None:
        (folder / "schedstat").write_text(schedstat)
    if switches is not None:
        switched = f"voluntary_ctxt_switches:\t90\nnonvoluntary_ctxt_switches:\t{switches}\n"
        (folder / "status").write_text(f"Name:\tx\n{switched}")


def test_threads_are_read_with_what_they_waited(tmp_path):
    thread(tmp_path, 5, 5, "9000000 3000000 4\n")
    thread(tmp_path, 5, 6, "9000000 1000000 2\n")
    thread(tmp_path, 7, 7, "1 0 1\n")
    assert read_threads([5, 404], tmp_path) == {5: (0.003, 4), 6: (0.001, 2)}


def test_without_times_of_waiting_involuntary_switches_count(tmp_path):
    """As in containers whose kernel keeps none: each counts as a slice."""
    thread(tmp_path, 5, 5, "0 0 0\n", switches=3)
    thread(tmp_path, 5, 6, switches=0)
    before, after = {5: (0.0, 0), 6: (0.0, 0)}, read_threads([5], tmp_path)
    assert waits_between(before, after) == Waits(2, pytest.approx(3 * SLICE_S))


def test_waking_is_no_disturbance():
    """An idle machine: each call wakes the pool's threads, and each takes some microseconds to run."""
    before, after = {1: (5.0, 100), 2: (0.0, 0)}, {1: (5.0 + 50 * 20e-6, 150), 2: (30 * 90e-6, 30)}
    found = waits_between(before, after)
    assert found == Waits(49 + 29, 0.0)
    assert not found.disturb(calls=50, took_s=0.005)


@pytest.mark.parametrize(("waits", "calls", "took_s", "disturbed"), [
    (Waits(5, 0.0134), 300, 0.0119, False),    # one row of the demo beside one busy process: 17 us as ever
    (Waits(227, 0.09), 100, 0.12, True),       # 50 us have become 6 ms
    (Waits(22, 0.0065), 5, 0.0208, True),      # 0.7 ms have become 1.1
    (Waits(1, 0.0003), 1, 0.03, False),        # a call of 30 ms that a kernel thread took the core from
    (Waits(1, 0.008), 1, 0.03, True),
    (Waits(2, 0.008), 8, 0.05, True),
    (Waits(1, 0.004), 8, 0.05, False),         # one sample of eight, left out with the longest third
    (Waits(0, 0.004), 1, 0.005, False),        # it was woken late, before the first call
])  # fmt: skip
def test_waits_disturb_where_they_hit_the_typical_call(waits, calls, took_s, disturbed):
    assert waits.disturb(calls, took_s) is disturbed


def test_a_thread_that_has_come_or_gone_counts_from_nothing_or_not_at_all():
    assert waits_between({1: (0.5, 9)}, {2: (0.004, 3)}) == Waits(2, pytest.approx(0.004 - 3 * WAKE_S))


def test_cores_of_others_are_what_is_busy_less_our_own():
    clock, cores, own = iter((0.0, 10.0)), iter((Cores(100.0, 2.0), Cores(118.0, 3.0))), iter((5.0, 11.0))
    assert OthersMeter(lambda: next(own), lambda: next(cores), lambda: next(clock)).cores() == pytest.approx(1.3)
    clock, own = iter((0.0, 1.0)), iter((0.0, 0.5))
    assert OthersMeter(lambda: next(own), lambda: None, lambda: next(clock)).cores() is None
    clock, cores, own = iter((0.0, 1.0)), iter((Cores(1.0, 0.0), Cores(1.49, 0.0))), iter((0.0, 0.5))
    assert OthersMeter(lambda: next(own), lambda: next(cores), lambda: next(clock)).cores() == 0.0  # a tick behind


def test_only_the_cores_that_may_be_used_count(tmp_path, monkeypatch):
    from fastkernels.bench.timing import load

    monkeypatch.setattr(load.os, "sched_getaffinity", lambda pid: {1, 2}, raising=False)
    monkeypatch.setattr(load.os, "sysconf", lambda name: 100)
    (tmp_path / "stat").write_text("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 0 0 0 0 0 100 0 0\n"
                                   "cpu1 100 20 30 999 999 5 45 50 7 0\ncpu2 0 0 100 0 0 0 0 0 0 0\nintr 5\n")
    assert read_cores(tmp_path) == Cores(busy_s=3.0, stolen_s=0.5)
    assert read_cores(tmp_path / "none") is None


def test_known_work_is_slower_than_ever_where_neighbours_cannot_be_seen():
    took = iter([1.0, 1.0, 1.5, 3.0, 2.9, 0.9, 9.0, 1.0, 1.0])  # seconds of each doing
    now = [0.0]

    def do():
        now[0] += next(took)

    work = KnownWork(do, lambda: now[0])
    assert work.slowdown() == 1.0
    assert work.slowdown() == pytest.approx(2.9 / 0.9)  # it was never faster: nothing is, for want of quiet
    assert work.slowdown() == pytest.approx(1.0 / 0.9)  # one slice taken says nothing
