"""Captures calls in a CUDA graph."""

from collections.abc import Callable

import torch


class NotCapturableError(RuntimeError):
    """A call that cannot be captured in a CUDA graph; the reason is the message."""


def capture(device: torch.device, run: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """Capture what `run` launches, after one eager run. Raises NotCapturableError with the first line of the reason."""
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        run()
    stream.synchronize()
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            run()
    except Exception as error:  # whatever graded code raises under capture means the same: it cannot be captured
        torch.cuda.synchronize(device)
        raise NotCapturableError(str(error).partition("\n")[0] or type(error).__name__) from error
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph


def timing_event() -> torch.cuda.Event:
    """Make an event that can be read as a time."""
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
