"""What cannot be captured in a CUDA graph is told with its reason, and leaves the process as it was."""

import ctypes
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from fastkernels.bench.timing import capture as module
from fastkernels.bench.timing.capture import EMPTY, LEGACY, NotCapturableError, capture, why_not

CUDA = torch.device("cuda")

IMPLICIT = "CUDA error: operation would make the legacy stream depend on a capturing blocking stream\nSearch for more."
INVALIDATED = "CUDA error: operation failed due to a previous error during capture\nSearch for more."
ASKED = "CUDA error: operation not permitted when stream is capturing\nCUDA kernel errors might be reported later."


def failed(end, within=None):
    """The exception of a capture that ended with `end` after `within` was raised in it."""
    try:
        try:
            raise within or RuntimeError(end)
        except RuntimeError:
            if within is None:
                raise
            raise RuntimeError(end)  # noqa: B904  the end of the capture raises anew, as torch's does
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(("error", "unordered", "reason"), [
    (failed(INVALIDATED, RuntimeError(IMPLICIT)), None, LEGACY),
    (failed(IMPLICIT), None, LEGACY),
    (failed(INVALIDATED, RuntimeError("Triton Error [CUDA]: operation would make the legacy stream depend on a "
                                      "capturing blocking stream")), None, LEGACY),
    (failed(INVALIDATED, RuntimeError("CUDA_ERROR_STREAM_CAPTURE_IMPLICIT: operation would ...")), None, LEGACY),
    (failed(INVALIDATED), True, LEGACY),
    (failed(INVALIDATED, RuntimeError(INVALIDATED)), True, LEGACY),
    (failed(INVALIDATED), False, INVALIDATED.partition("\n")[0]),
    (failed(INVALIDATED, RuntimeError(ASKED)), None, ASKED.partition("\n")[0]),
    (NotCapturableError(EMPTY), None, EMPTY),
    (ValueError(), None, "ValueError"),
], ids=["checked later", "at the end", "triton", "cupy", "unchecked", "told late", "another reason", "asks the host",
        "empty", "no words"])
def test_the_reason_is_what_failed_first(error, unordered, reason):
    def captures():
        assert unordered is not None, "nobody need ask"
        return unordered

    assert why_not(error, captures) == reason


class Graph:
    """A CUDA graph that warns as torch does where nothing was captured, or fails at the end of the capture."""

    end = warnings.warn

    def capture_begin(self, capture_error_mode):
        assert capture_error_mode == "thread_local"

    def capture_end(self):
        type(self).end("The CUDA Graph is empty. This usually means that the graph was ...")


@pytest.fixture
def without_cuda(monkeypatch):
    """Captures with nothing of CUDA behind them."""
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    for name in ("synchronize", "memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    return monkeypatch


def test_a_graph_without_nodes_is_no_capture(without_cuda):
    with pytest.raises(NotCapturableError, match="launches nothing on the current stream"):
        module._captured(SimpleNamespace(device=CUDA), lambda: None)


def test_what_the_end_of_a_capture_hides_is_found(without_cuda):
    def fail(_):
        raise RuntimeError(INVALIDATED)

    def ask():
        raise RuntimeError(ASKED)

    without_cuda.setattr(Graph, "end", fail)
    with pytest.raises(RuntimeError) as caught:
        module._captured(SimpleNamespace(device=CUDA), ask)
    assert why_not(caught.value, lambda: False) == ASKED.partition("\n")[0]


@pytest.fixture
def ones():
    return torch.ones(64, device=CUDA)


def set_by_the_driver(tensor, stream=None):
    """Fill a tensor as a launch without a look at what it returns does."""
    ctypes.CDLL("libcuda.so.1").cuMemsetD8Async(
        ctypes.c_void_p(tensor.data_ptr()), ctypes.c_ubyte(0), ctypes.c_size_t(tensor.nbytes), stream)


def on_the_default_stream(tensor):
    with torch.cuda.stream(torch.cuda.default_stream()):
        tensor.add_(1)


def on_its_own_stream(tensor):
    with torch.cuda.stream(torch.cuda.Stream()):
        tensor.add_(1)


@pytest.mark.gpu
@pytest.mark.parametrize(("call", "reason"), [
    (set_by_the_driver, LEGACY), (on_the_default_stream, LEGACY),
    (lambda ones: (ones.add_(1), set_by_the_driver(ones)), LEGACY),
    (lambda ones: (set_by_the_driver(ones), ones.add_(1)), LEGACY),
    (on_its_own_stream, EMPTY), (lambda ones: None, EMPTY), (lambda ones: ones.sum().item(), "captur"),
], ids=["unchecked", "checked", "after another", "before another", "own stream", "nothing", "asks the host"])
def test_what_a_graph_would_lack_is_not_captured(ones, call, reason):
    before = torch.cuda.current_stream()
    with pytest.raises(NotCapturableError, match=reason):
        capture(CUDA, lambda: call(ones))
    assert torch.cuda.current_stream() == before
    assert ones.sum().item() >= 0  # nothing of the failure is left behind
    graph = capture(CUDA, lambda: ones.add_(1))
    ones.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert ones.tolist() == [1.0] * 64


@pytest.mark.gpu
def test_captures_are_made_on_a_stream_that_the_default_one_waits_for():
    flags = ctypes.c_uint(1)
    stream = module.capture_stream(CUDA)
    assert ctypes.CDLL("libcuda.so.1").cuStreamGetFlags(
        ctypes.c_void_p(stream.cuda_stream), ctypes.byref(flags)) == 0
    assert flags.value == 0  # CU_STREAM_DEFAULT, not CU_STREAM_NON_BLOCKING
