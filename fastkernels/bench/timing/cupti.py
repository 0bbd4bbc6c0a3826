"""CUDA device time of calls as CUPTI records it, through torch.profiler, the L2 cache flushed before every call.

An instrument of benchmarks: what it reads in a process, that process can change, so no grading rests on it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from fastkernels.bench.timing.flush import Flush
from fastkernels.bench.timing.timer import Call

SETTLE_CALLS = 2
"""Calls at the head of every session that are not reported: clocks and instruction caches settle in them."""
LONGEST_SHARE = 0.5
"""An event of the flush's name is a flush only if it lasts at least this share of the median one."""


class EventMismatchError(RuntimeError):
    """The recorded events do not show as many calls as were made."""


@dataclass(frozen=True)
class DeviceEvent:
    """One kernel, copy or memset on the device; nanoseconds or microseconds, alike throughout a session."""

    name: str
    start: float
    end: float


class CuptiTimer:
    """Sums what ran on the device for each call, on any stream; time in which kernels overlap counts once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._flush = Flush(device)
        self._flush_name = self._learn_flush_name()

    def measure(self, call: Call, calls: int) -> list[float]:
        """Seconds of each of `calls` calls. Raises EventMismatchError where events and calls cannot be matched."""
        total = SETTLE_CALLS + calls
        torch.cuda.synchronize(self.device)
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as record:
            for index in range(total):
                self._flush()
                call(index)
            torch.cuda.synchronize(self.device)
        events = device_events(record)
        return [us * 1e-6 for us in call_durations(events, self._flush_name, total)[SETTLE_CALLS:]]

    def _learn_flush_name(self) -> str:
        """Name under which the flush is recorded. Raises EventMismatchError where nothing is recorded at all."""
        self._flush()
        torch.cuda.synchronize(self.device)
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as record:
            self._flush()
            torch.cuda.synchronize(self.device)
        events = device_events(record)
        if not events:
            raise EventMismatchError("the profiler records no kernels")
        return max(events, key=lambda event: event.end - event.start).name


def device_events(record: Any) -> list[DeviceEvent]:
    """Everything that a profiler session saw on the device, in microseconds, by start time."""
    return sorted(
        (DeviceEvent(event.name, event.time_range.start, event.time_range.end)
         for event in record.events() if event.device_type.name == "CUDA"),
        key=lambda event: event.start,
    )


def call_durations(events: Sequence[DeviceEvent], flush_name: str, calls: int) -> list[float]:
    """Busy device time between each flush and the next, by the start of the events; `events` is sorted by start.

    A short event of the flush's name is the call's own. Raises EventMismatchError unless there are `calls` flushes.
    """
    named = sorted(event.end - event.start for event in events if event.name == flush_name)
    shortest = LONGEST_SHARE * named[len(named) // 2] if named else 0.0
    groups: list[list[DeviceEvent]] = []
    for event in events:
        if event.name == flush_name and event.end - event.start >= shortest:
            groups.append([])
        elif groups:
            groups[-1].append(event)
    if len(groups) != calls:
        raise EventMismatchError(f"{calls} calls were made, each after a flush; {len(groups)} flushes are recorded")
    return [busy(group) for group in groups]


def busy(events: Iterable[DeviceEvent]) -> float:
    """Length of the union of the events' times; `events` is sorted by start."""
    total, until = 0.0, float("-inf")
    for event in events:
        total += max(0.0, event.end - max(event.start, until))
        until = max(until, event.end)
    return total
