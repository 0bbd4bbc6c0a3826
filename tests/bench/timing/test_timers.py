import pytest
import torch

from fastkernels.bench.timing import TimingPlan, check_times, compare
from fastkernels.bench.timing.chooser import open_timer
from fastkernels.bench.timing.cupti import DeviceEvent, EventMismatchError, busy, call_durations
from fastkernels.errors import DeviceError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


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
    timer, seen = open_timer(CPU), []
    samples = timer.measure(seen.append, 5)
    assert len(samples) == 5
    assert seen == list(range(len(seen)))
    assert (len(seen) - 1) % 5 == 0  # the first only settles, the rest is in five groups
    assert all(sample >= 0 for sample in samples)
    assert timer.name == "wall"


def test_wall_timer_wastes_no_long_call():
    import time

    seen = []
    samples = open_timer(CPU).measure(lambda index: (seen.append(index), time.sleep(0.002)), 2)
    assert seen == [0, 1]
    assert min(samples) >= 0.002


def test_wall_timer_replays_exactly():
    seen = []
    assert open_timer(CPU).replay(seen.append, 7) is None
    assert seen == list(range(7))
    assert len(open_timer(CPU).eager(seen.append, 3)) == 3


@pytest.mark.parametrize(("device", "method", "message"), [
    (CPU, "cupti", "timer on cpu: 'cupti' is not one of wall"),
    (CPU, "wal", "timer on cpu (no such timer): 'wal' is not one of wall. Did you mean 'wall'?"),
    (torch.device("meta"), None, "timer: 'meta' is not one of cpu, cuda"),
])
def test_a_method_that_the_device_lacks_is_an_error(device, method, message):
    with pytest.raises(DeviceError) as caught:
        open_timer(device, method)
    assert str(caught.value) == message


class Local:
    """A lane in this process."""

    def __init__(self, timer, call):
        self.timer, self.call = timer, call

    def measure(self, calls):
        return self.timer.measure(self.call, calls)

    def eager(self, calls):
        return self.timer.eager(self.call, calls)

    def replay(self, calls):
        return self.timer.replay(self.call, calls)


def test_wall_timer_through_a_comparison():
    def work(index):
        return sum(range(2000))

    timer = open_timer(CPU)
    found = compare(Local(timer, work), Local(timer, work), TimingPlan(num_runs=40))
    assert found.method == "wall"
    assert found.speedup_low < found.speedup < found.speedup_high
    assert check_times(found, 1e-9) is None


@pytest.fixture
def linear():
    x, weight = (torch.randn(2048, 2048, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return lambda index: torch.nn.functional.linear(x, weight)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["cupti", "cuda_graph"])
def test_cuda_timers_agree_with_a_known_copy(method):
    source = torch.empty(2**28, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    timer = open_timer(CUDA, method)
    samples = sorted(timer.measure(lambda index: target.copy_(source), 20))
    assert 1 <= len(samples) <= 20
    rate = 2 * source.nbytes / samples[len(samples) // 2]
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(20):
        target.copy_(source)
    end.record()
    end.synchronize()
    known = 2 * source.nbytes * 20 / (start.elapsed_time(end) * 1e-3)
    assert 0.85 < rate / known < 1.15
    timer.reset()


@pytest.mark.gpu
def test_cupti_counts_memsets_and_side_streams():
    timer, side = open_timer(CUDA, "cupti"), torch.cuda.Stream()
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
    assert open_timer(CUDA, "cupti").measure(lambda index: None, 5) == [0.0] * 5


@pytest.mark.gpu
def test_replay_says_what_cannot_be_captured_and_recovers(linear):
    timer = open_timer(CUDA)
    ones = torch.ones(4, device="cuda")
    assert timer.replay(lambda index: ones.sum().item(), 8) is not None
    timer.reset()
    assert timer.replay(linear, 8) is None
    assert timer.replay(linear, 3) is None


@pytest.mark.gpu
def test_replay_runs_exactly_as_often_as_asked():
    timer, count = open_timer(CUDA), torch.zeros((), device="cuda")

    def add(index):
        count.add_(1)

    timer.replay(add, 16)
    before = count.item()
    timer.replay(add, 24)
    assert count.item() - before == 24


@pytest.mark.gpu
def test_an_honest_cuda_comparison_passes_its_checks(linear):
    timer = open_timer(CUDA)
    found = compare(Local(timer, linear), Local(timer, linear), TimingPlan(method=timer.name))
    assert check_times(found, 2 * 2048**3 / 2e15) is None
    assert abs(found.speedup - 1) < 0.05


@pytest.mark.gpu
def test_a_method_that_reads_no_kernels_is_replaced_with_a_reason(monkeypatch):
    from fastkernels.bench.timing import cupti

    monkeypatch.setattr(cupti, "device_events", lambda record: [])
    timer = open_timer(CUDA)
    assert (timer.name, timer.reason) == ("cuda_graph", "cupti: the profiler records no kernels")
