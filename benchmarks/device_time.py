"""Device time of eager calls: CUPTI through torch.profiler, the L2 cache flushed before every call."""

import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
import triton

from fastkernels.bench.timing.capture import capture, timing_event

FLUSH_BYTES = 120 * 2**20
"""Written before each call: twice the H200's L2."""
WARMUP_CALLS = 4
REPLAYS, BUSY_CYCLES = 20, 200_000
FLUSH_NAME = re.compile("(?i)(?<!pre)fill")
"""Name of the kernel that zero_() is; cuBLAS clears its workspace by a memset, which counts as its own."""


@dataclass(frozen=True)
class DeviceTime:
    """Microseconds of the kernels of one call."""

    mean_us: float
    median_us: float
    p10_us: float
    p90_us: float
    kernels: int
    """Kernels that one call launches."""


def device_time(call: Callable[[], object], repeats: int = 50) -> DeviceTime:
    """Device time of one call, summed over its kernels, each call on a flushed L2."""
    return device_times([call], repeats)[0]


def device_times(calls: Sequence[Callable[[], object]], repeats: int = 50) -> list[DeviceTime]:
    """The same for several calls, interleaved round by round in one profiler session, so that drift hits all alike."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")
    for call in calls:
        for _ in range(WARMUP_CALLS):
            call()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as record:
        for _ in range(repeats):
            for call in calls:
                flush.zero_()
                call()
        torch.cuda.synchronize()
    groups = split_at_flush(record.events())
    if len(groups) != repeats * len(calls):
        raise RuntimeError(f"{len(groups)} flushes recorded, {repeats * len(calls)} made")
    return [summary(groups[index :: len(calls)]) for index in range(len(calls))]


def replay_s(graph: torch.cuda.CUDAGraph) -> float:
    """Seconds that the device takes for one replay of a captured graph, the gaps between its kernels included."""
    start, end = timing_event(), timing_event()
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def replay_us(call: Callable[[], object]) -> float:
    """Median microseconds of a graph of one call, on a flushed L2; the device is busy until the replay is queued."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    graph = capture(torch.device("cuda"), call)
    times = []
    for _ in range(REPLAYS):
        flush.zero_()
        torch.cuda._sleep(BUSY_CYCLES)
        times.append(replay_s(graph) * 1e6)
    return statistics.median(times)


def split_at_flush(events: Any) -> list[list[float]]:
    """Durations in us of the kernels between one flush and the next."""
    on_device = sorted(
        (event for event in events if event.device_type == torch.autograd.DeviceType.CUDA),
        key=lambda event: event.time_range.start,
    )
    groups: list[list[float]] = []
    for event in on_device:
        if FLUSH_NAME.search(event.name):
            groups.append([])
        elif groups:
            groups[-1].append(event.device_time)
    return groups


def summary(groups: list[list[float]]) -> DeviceTime:
    """Statistics over the calls of one function."""
    totals = sorted(sum(kernels) for kernels in groups)
    tenth = len(totals) // 10
    return DeviceTime(
        statistics.fmean(totals), statistics.median(totals), totals[tenth], totals[-1 - tenth], len(groups[0])
    )


def conditions() -> dict[str, str]:
    """What a published figure must carry: machine, versions, date, command."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return {
        "gpu": torch.cuda.get_device_name(),
        "driver": subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["PYTHONPATH=. python3", *sys.argv]),
        "method": f"CUPTI, eager calls, {FLUSH_BYTES} bytes written before each call",
    }
