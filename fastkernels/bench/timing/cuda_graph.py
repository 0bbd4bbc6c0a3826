"""CUDA device time of calls by graph replay: K times [flush, call] less K times [flush]."""

import time

import torch

from fastkernels.bench.timing.capture import NotCapturableError, capture
from fastkernels.bench.timing.flush import Flush
from fastkernels.bench.timing.timer import REPLAY_UNIT, Call

CALLS_PER_GRAPH = 5
"""Calls in one measured graph; its replay gives one sample, their mean."""

__all__ = ["CALLS_PER_GRAPH", "CudaGraphTimer", "NotCapturableError", "ReplayedGraphs", "capture", "timing_event"]


class ReplayedGraphs:
    """`eager`, `replay` and `reset` of both CUDA timers."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._call: Call | None = None
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._not_capturable: str | None = None

    def eager(self, call: Call, calls: int) -> list[float]:
        """Wall seconds of each call, from before the launch until the device is done."""
        clock, seconds = time.perf_counter, []
        torch.cuda.synchronize(self.device)
        for index in range(calls):
            start = clock()
            call(index)
            torch.cuda.synchronize(self.device)
            seconds.append(clock() - start)
        return seconds

    def replay(self, call: Call, calls: int) -> str | None:
        """Replay `calls` calls from a graph; or launch them one by one and return why they cannot be captured."""
        if call is not self._call:
            self.reset()
            self._call = call
        unit = REPLAY_UNIT if calls % REPLAY_UNIT == 0 else 1
        if self._not_capturable is None and unit not in self._graphs:
            try:
                self._graphs[unit] = capture(self.device, lambda: _run(call, unit))
            except NotCapturableError as error:
                self._not_capturable = str(error)
        if self._not_capturable is None:
            graph = self._graphs[unit]
            for _ in range(calls // unit):
                graph.replay()
        else:
            _run(call, calls)
        torch.cuda.synchronize(self.device)
        return self._not_capturable

    def reset(self) -> None:
        """Free the graphs of the last call."""
        self._call, self._not_capturable = None, None
        self._graphs.clear()


class CudaGraphTimer(ReplayedGraphs):
    """Device time from events around replayed graphs; the call must be capturable."""

    name = "cuda_graph"

    def __init__(self, device: torch.device, reason: str = "") -> None:
        super().__init__(device)
        self.reason = reason
        self._flush = Flush(device)
        self._empty = capture(device, lambda: self._flushes(CALLS_PER_GRAPH))
        self._measured: tuple[Call, torch.cuda.CUDAGraph] | None = None

    def measure(self, call: Call, calls: int) -> list[float]:
        """One sample for every CALLS_PER_GRAPH calls. Raises NotCapturableError."""
        graph = self._graph(call)
        self._empty.replay()
        graph.replay()
        samples = []
        for _ in range(max(1, calls // CALLS_PER_GRAPH)):
            without, seconds = self._replay_s(self._empty), self._replay_s(graph)
            samples.append(max(0.0, seconds - without) / CALLS_PER_GRAPH)
        return samples

    def reset(self) -> None:
        """Free the graphs of the last call."""
        super().reset()
        self._measured = None

    def _graph(self, call: Call) -> torch.cuda.CUDAGraph:
        if self._measured is None or self._measured[0] is not call:
            self._measured = None  # frees the last graph's memory first
            self._measured = (call, capture(self.device, lambda: self._flushed(call)))
        return self._measured[1]

    def _flushes(self, count: int) -> None:
        for _ in range(count):
            self._flush()

    def _flushed(self, call: Call) -> None:
        for index in range(CALLS_PER_GRAPH):
            self._flush()
            call(index)

    def _replay_s(self, graph: torch.cuda.CUDAGraph) -> float:
        start, end = timing_event(), timing_event()
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3


def timing_event() -> torch.cuda.Event:
    """Make an event that can be read as a time."""
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _run(call: Call, calls: int) -> None:
    for index in range(calls):
        call(index)
