"""The benchmark's reading of a profile: kernels belong to the call after whose flush they ran."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")
SPEC = importlib.util.spec_from_file_location(
    "device_time", Path(__file__).resolve().parents[2] / "benchmarks/device_time.py"
)
device_time = importlib.util.module_from_spec(SPEC)


@pytest.fixture(autouse=True, scope="module")
def _loaded():
    import sys

    sys.modules["device_time"] = device_time
    SPEC.loader.exec_module(device_time)
    yield
    del sys.modules["device_time"]


def event(name, start, us, kind="CUDA"):
    device = getattr(torch.autograd.DeviceType, kind)
    return SimpleNamespace(name=name, device_type=device, time_range=SimpleNamespace(start=start), device_time=us)


FILL = "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<signed char>>"


def test_kernels_are_grouped_by_the_flush_before_them_in_order_of_start():
    events = [
        event("flash_attn_prefill_kernel", 12, 3.0), event(FILL, 10, 40.0), event("cudaLaunchKernel", 11, 9.0, "CPU"),
        event("warm-up", 1, 7.0), event(FILL, 20, 40.0), event("Memset (Device)", 21, 1.0), event("gemm", 22, 5.0),
    ]  # fmt: skip
    assert device_time.split_at_flush(events) == [[3.0], [1.0, 5.0]]


def test_summary_adds_the_kernels_of_a_call():
    times = device_time.summary([[1.0, 2.0], [2.0, 3.0], [3.0, 7.0]])
    assert (times.mean_us, times.median_us, times.p10_us, times.p90_us, times.kernels) == (6.0, 5.0, 3.0, 10.0, 2)
