import pytest
import torch

from fastkernels.bench.timing import TimingPlan, check_times, compare, cupti
from fastkernels.bench.timing.cupti import CuptiTimer, DeviceEvent, EventMismatchError, busy, call_durations
from fastkernels.bench.timing.wall import WallTimer

CUDA = torch.device("cuda")


def events(*rows):
    return sorted((DeviceEvent(name, start, start + length) for name, start, length in rows),
                  key=lambda event: event.start)


def test_kernels_after_a_flush_are_summed_over_one_call():
    found = events(("flush", 0, 30), ("k1", 31, 5), ("k2", 40, 3), ("flush", 50, 29), ("k1", 80, 6), ("k2", 90, 3))
    assert call_durations(found, "flush", 2) == [8, 9]


def test_copies_and_memsets_of_the_call_count():
    found = events(("flush", 0, 30), ("Memset (Device)", 31, 1), ("k", 33, 5), ("Memcpy DtoD", 40, 2))
    assert call_durations(found, "flush", 1) == [8]


def test_a_side_stream_counts_and_overlap_counts_once():
    found = events(("flush", 0, 30), ("main", 31, 10), ("side", 36, 10), ("flush", 50, 30), ("main", 81, 10))
    assert call_durations(found, "flush", 2) == [15, 10]


def test_work_left_running_on_a_side_stream_into_the_next_flush_counts():
    found = events(("flush", 0, 30), ("side", 31, 40), ("flush", 40, 30), ("k", 72, 4))
    assert call_durations(found, "flush", 2) == [40, 4]


def test_a_short_kernel_of_the_flushs_name_is_the_calls_own():
    found = events(("flush", 0, 30), ("flush", 31, 2), ("flush", 40, 30), ("flush", 71, 2), ("flush", 80, 30))
    assert call_durations(found, "flush", 3) == [2, 2, 0]


@pytest.mark.parametrize("recorded", [0, 1, 3])
def test_lost_or_additional_flushes_are_an_error(recorded):
    found = events(*(("flush", 40 * index, 30) for index in range(recorded)))
    with pytest.raises(EventMismatchError, match=f"2 calls were made, each after a flush; {recorded} flushes"):
        call_durations(found, "flush", 2)


def test_busy_time_of_nested_events():
    assert busy(events(("a", 0, 10), ("b", 2, 3), ("c", 9, 3), ("d", 20, 1))) == 13


def test_wall_timer_calls_with_rising_indices_and_times_each():
    timer, seen = WallTimer(), []
    samples = timer.measure(seen.append, 5)
    assert len(samples) == 5
    assert seen == list(range(len(seen)))
    assert (len(seen) - 1) % 5 == 0  # the first only settles, the rest is in five groups
    assert all(sample >= 0 for sample in samples)


def test_wall_timer_wastes_no_long_call():
    import time

    seen = []
    samples = WallTimer().measure(lambda index: (seen.append(index), time.sleep(0.002)), 2)
    assert seen == [0, 1]
    assert min(samples) >= 0.002


def test_wall_timer_replays_exactly():
    seen = []
    WallTimer().replay(seen.append, 7)
    assert seen == list(range(7))
    assert len(WallTimer().eager(seen.append, 3)) == 3


class Local:
    """A lane in this process."""

    def __init__(self, timer, call):
        self.timer, self.call = timer, call

    def measure(self, calls):
        return self.timer.measure(self.call, calls)

    def eager(self, calls):
        return self.timer.eager(self.call, calls)

    def replay(self, calls):
        self.timer.replay(self.call, calls)

    def threads(self):
        return {}  # a test does not depend on what else the machine does

    def slowdown(self):
        return 1.0


def test_wall_timer_through_a_comparison():
    def work(index):
        return sum(range(2000))

    timer = WallTimer()
    found = compare(Local(timer, work), Local(timer, work), TimingPlan(num_runs=40))
    assert found.method == "wall"
    assert found.speedup_low < found.speedup < found.speedup_high
    assert check_times(found, 1e-9) is None


@pytest.mark.gpu
def test_cupti_agrees_with_a_known_copy():
    source = torch.empty(2**28, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    samples = sorted(CuptiTimer(CUDA).measure(lambda index: target.copy_(source), 20))
    assert len(samples) == 20
    rate = 2 * source.nbytes / samples[len(samples) // 2]
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(20):
        target.copy_(source)
    end.record()
    end.synchronize()
    known = 2 * source.nbytes * 20 / (start.elapsed_time(end) * 1e-3)
    assert 0.85 < rate / known < 1.15


@pytest.mark.gpu
def test_cupti_counts_memsets_and_side_streams():
    timer, side = CuptiTimer(CUDA), torch.cuda.Stream()
    big, bigger = torch.empty(2**26, device="cuda"), torch.empty(2**26, device="cuda")

    def hidden(index):
        with torch.cuda.stream(side):
            bigger.add_(1)

    plain = sorted(timer.measure(lambda index: big.add_(1), 10))[5]
    zeroed = sorted(timer.measure(lambda index: big.zero_(), 10))[5]
    aside = sorted(timer.measure(hidden, 10))[5]
    assert zeroed > plain / 4
    assert aside > plain / 2


@pytest.mark.gpu
def test_cupti_reports_zero_for_a_call_without_device_work():
    assert CuptiTimer(CUDA).measure(lambda index: None, 5) == [0.0] * 5


@pytest.mark.gpu
def test_a_profiler_that_records_no_kernels_is_an_error(monkeypatch):
    monkeypatch.setattr(cupti, "device_events", lambda record: [])
    with pytest.raises(EventMismatchError, match="the profiler records no kernels"):
        CuptiTimer(CUDA)
