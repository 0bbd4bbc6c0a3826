"""Timing has the device alone; other work shares it and cannot put timing off."""

import threading
import time

import pytest

from fastkernels.bench.kernels import locks
from fastkernels.bench.kernels.locks import timing_section, work_section


@pytest.fixture(autouse=True)
def own_directory(monkeypatch, tmp_path):
    monkeypatch.setattr(locks, "lock_root", lambda: tmp_path)


def in_thread(section, device="cpu"):
    """Enter a section in another thread; gives (entered, leave). Locks on separate openings exclude each other."""
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with section(device):
            entered.set()
            leave.wait(10)

    threading.Thread(target=hold, daemon=True).start()
    return entered, leave


def test_work_is_shared():
    _, leave = in_thread(work_section)
    other, also_leave = in_thread(work_section)
    assert other.wait(5)
    leave.set()
    also_leave.set()


@pytest.mark.parametrize(("first", "second"), [
    (timing_section, timing_section), (timing_section, work_section), (work_section, timing_section)])
def test_timing_excludes_everything(first, second):
    entered, leave = in_thread(first)
    assert entered.wait(5)
    other, also_leave = in_thread(second)
    assert not other.wait(0.2)
    leave.set()
    assert other.wait(5)
    also_leave.set()


def test_work_that_comes_later_waits_behind_timing():
    entered, leave = in_thread(work_section)
    assert entered.wait(5)
    timing, timed = in_thread(timing_section)
    time.sleep(0.2)
    later, done = in_thread(work_section)
    assert not later.wait(0.2)
    leave.set()
    assert timing.wait(5)
    assert not later.is_set()
    timed.set()
    assert later.wait(5)
    done.set()


def test_devices_do_not_wait_for_each_other(monkeypatch):
    entered, leave = in_thread(timing_section)
    assert entered.wait(5)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with timing_section("cuda") as waited_s:
        assert waited_s < 5
    leave.set()


def test_the_gpus_of_one_process_are_one_device():
    entered, leave = in_thread(work_section, "cuda:1")
    assert entered.wait(5)
    timing, also_leave = in_thread(timing_section, "cuda")
    assert not timing.wait(0.2)
    leave.set()
    assert timing.wait(5)
    also_leave.set()
