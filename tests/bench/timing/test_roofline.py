from dataclasses import dataclass, replace

import pytest
import torch

from fastkernels.bench.timing import Peaks, floor_s, roofline_s
from fastkernels.bench.timing import peaks as peaks_module
from fastkernels.bench.timing.peaks import device_name, load_peaks, measure_peaks, peaks_path

CUDA = Peaks("NVIDIA H200", "cuda", bandwidth_bytes_s=4e12, cache_bandwidth_bytes_s=4e12, cache_bytes=60_000_000,
             flops_s={"bfloat16": 8e14, "float32": 4e14})
CPU = Peaks("a CPU", "cpu", bandwidth_bytes_s=2e10, cache_bandwidth_bytes_s=8e10, cache_bytes=1_000_000,
            flops_s={"float32": 1e11})


@dataclass
class Work:
    bytes: int
    flops: int = 0


def test_roofline_is_the_slower_of_memory_and_arithmetic():
    assert roofline_s(Work(4_000_000), "bfloat16", CUDA) == pytest.approx(1e-6)
    assert roofline_s(Work(4, 8 * 10**9), "torch.bfloat16", CUDA) == pytest.approx(1e-5)
    assert roofline_s(Work(4, 8 * 10**9), "float32", CUDA) == pytest.approx(2e-5)
    assert roofline_s(Work(4, 8 * 10**9), "int8", CUDA) == pytest.approx(1e-5)


def test_floor_on_cuda_counts_every_byte_through_memory():
    assert floor_s(Work(4_000_000), CUDA) == pytest.approx(0.8e-6)
    assert floor_s(Work(4, 8 * 10**9), CUDA) == pytest.approx(0.8e-5)


def test_floor_on_a_cpu_lets_the_working_set_lie_in_the_cache():
    assert floor_s(Work(800_000), CPU) == pytest.approx(0.5e-5)
    assert floor_s(Work(2_000_000), CPU) == pytest.approx(0.5 * (1e6 / 8e10 + 1e6 / 2e10))


def test_peaks_cross_processes_as_plain_data():
    assert Peaks.from_dict(CUDA.to_dict()) == CUDA


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTKERNELS_CACHE_DIR", str(tmp_path))
    measured = []
    monkeypatch.setattr(peaks_module, "_measure_cpu", lambda name: measured.append(name) or replace(CPU, device=name))
    return measured


def test_peaks_are_measured_once(cache):
    first = measure_peaks(torch.device("cpu"))
    assert measure_peaks(torch.device("cpu")) == first == load_peaks(device_name(torch.device("cpu")))
    assert len(cache) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"form": 0}', '{"form": 1, "device": "x"}'])
def test_a_damaged_cache_file_is_measured_anew(cache, content):
    path = peaks_path(device_name(torch.device("cpu")))
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert measure_peaks(torch.device("cpu")).bandwidth_bytes_s == CPU.bandwidth_bytes_s
    assert len(cache) == 1


def test_measured_cpu_peaks_are_positive(monkeypatch):
    monkeypatch.setattr(peaks_module, "_CPU_COPY_BYTES", 2**20)
    monkeypatch.setattr(peaks_module, "_CPU_MATMUL", 64)
    monkeypatch.setattr(peaks_module, "_best_s", lambda run, calls, budget_s: run() is None or 1e-3)
    found = peaks_module._measure_cpu("x")
    assert found.bandwidth_bytes_s > 0
    assert found.cache_bandwidth_bytes_s >= found.bandwidth_bytes_s
    assert set(found.flops_s) == {"float32", "bfloat16"}


@pytest.mark.gpu
def test_cuda_peaks(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTKERNELS_CACHE_DIR", str(tmp_path))
    found = measure_peaks(torch.device("cuda"))
    assert found.bandwidth_bytes_s > 1e11
    assert found.flops_s["bfloat16"] > 1e13
