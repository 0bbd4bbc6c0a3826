"""Captures calls in a CUDA graph; what would not be in the graph makes the capture fail, with the reason."""

import ctypes
import warnings
from collections.abc import Callable
from functools import cache

import torch

LEGACY = "launches on the legacy default stream are not captured"
"""Why calls of kernels that were launched without a stream (`<<<grid, block>>>`) cannot be captured."""

EMPTY = "the captured call launches nothing on the current stream; launches on other streams are not captured"
"""Why a graph without work is no capture of anything."""

MOST_CACHED_BYTES = 1024**3
"""Memory that the allocator may keep unused beside a graph's, which has memory of its own."""

_EMPTY_WORDS = "The CUDA Graph is empty"
"""How torch warns of a graph without nodes."""

_LEGACY_WORDS = ("depend on a capturing blocking stream", "streamcaptureimplicit", "stream_capture_implicit")
"""How CUDA, torch, Triton and cupy tell of such a launch, in small letters."""

_INVALIDATED_WORDS = ("previous error during capture", "streamcaptureinvalidated", "stream_capture_invalidated")
"""How the end of a capture tells that something in it failed, which need not have been told by itself."""


class NotCapturableError(RuntimeError):
    """A call that cannot be captured in a CUDA graph; the reason is the message."""


def capture(device: torch.device, run: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """Capture what `run` launches, after one eager run. Raises NotCapturableError with the first line of the reason.

    The capture's stream is ordered with the legacy default stream, as torch's own side streams are not: CUDA refuses a
    launch on that while the other is captured, where it would otherwise run at once, unnoticed, and be missing in every
    replay. What runs on a third stream that was never joined is noticed only where nothing else was captured.
    """
    before, stream = torch.cuda.current_stream(device), capture_stream(device)
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        run()
    stream.synchronize()
    try:
        graph = _captured(stream, run)
    except Exception as error:  # whatever graded code raises under capture means the same: it cannot be captured
        torch.cuda.synchronize(device)
        raise NotCapturableError(why_not(error, lambda: _captures(device, run))) from error
    before.wait_stream(stream)
    return graph


def why_not(error: BaseException, captures_unordered: Callable[[], bool]) -> str:
    """One line on why a capture failed.

    captures_unordered: whether a stream that is not ordered with the legacy one captures the same; asked where a kernel
    was launched without a look at what the launch returned, so that the end of the capture alone tells of a failure.
    """
    inner = error.__context__ if _tells(error, _INVALIDATED_WORDS) and error.__context__ is not None else error
    if _tells(error, _LEGACY_WORDS) or _tells(inner, _LEGACY_WORDS):
        return LEGACY
    if _tells(inner, _INVALIDATED_WORDS) and captures_unordered():
        return LEGACY
    return str(inner).partition("\n")[0] or type(inner).__name__


@cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream that this process captures on: one that is ordered with the legacy default stream where CUDA has it.

    One for all captures, so that what eager runs allocate on it is used again.
    """
    stream = _ordered_stream(device)
    try:
        _captured(stream, lambda: torch.zeros(1, device=device))
    except RuntimeError:  # no capture at all on such a stream here: then on one that misses such launches
        torch.cuda.synchronize(device)
        return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


def _ordered_stream(device: torch.device) -> torch.cuda.Stream:
    """A stream made with CUDA's default flags; torch makes its own with cudaStreamNonBlocking."""
    handle = ctypes.c_void_p()
    with torch.cuda.device(device):
        status = torch.cuda.cudart().cudaStreamCreate(ctypes.addressof(handle))  # type: ignore[no-untyped-call]
    if int(status) != 0 or handle.value is None:
        raise RuntimeError(f"CUDA gives no stream: error {int(status)}")
    return torch.cuda.ExternalStream(handle.value, device=device)  # type: ignore[no-untyped-call]


def _captured(stream: torch.cuda.Stream, run: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """Capture on this stream; the current one is what it was afterwards, also where that fails.

    torch.cuda.graph would besides empty the allocator's cache, which has all of it to be had from CUDA again.
    """
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize(stream.device)
    if torch.cuda.memory_reserved(stream.device) - torch.cuda.memory_allocated(stream.device) > MOST_CACHED_BYTES:
        torch.cuda.empty_cache()
    with warnings.catch_warnings(record=True) as told, torch.cuda.stream(stream):
        warnings.simplefilter("always")
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            run()
        finally:
            graph.capture_end()
    if any(_EMPTY_WORDS in str(warning.message) for warning in told):
        raise NotCapturableError(EMPTY)
    return graph


def _captures(device: torch.device, run: Callable[[], None]) -> bool:
    """Whether a stream of torch's own captures this, whatever the graph then lacks."""
    try:
        _captured(torch.cuda.Stream(device), run)  # type: ignore[no-untyped-call]
    except NotCapturableError:  # nothing but launches on the legacy stream
        return True
    except Exception:  # whatever graded code raises
        torch.cuda.synchronize(device)
        return False
    return True


def _tells(error: BaseException | None, words: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(word in text for word in words)


def timing_event() -> torch.cuda.Event:
    """Make an event that can be read as a time."""
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
