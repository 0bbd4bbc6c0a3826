"""Measures what a device can do, once per machine, and keeps it in the cache directory."""

import json
import os
import platform
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from filelock import FileLock

from fastkernels.bench.timing.capture import timing_event
from fastkernels.bench.timing.roofline import Peaks
from fastkernels.env import cache_dir

FORM = 1
"""Raised when the way of measuring changes; older files are then measured anew."""
_CPU_COPY_BYTES = 2**28
_CPU_CACHED_COPIES_BYTES = (2**15, 2**17, 2**19)
_CPU_MATMUL = 1024
_CUDA_COPY_BYTES = 2**31
_CUDA_MATMUL = 8192


def measure_peaks(device: torch.device) -> Peaks:
    """The peaks of a device: from the cache directory, or measured now and kept there. Safe among processes."""
    name = device_name(device)
    path = peaks_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        known = load_peaks(name)
        if known is not None:
            return known
        peaks = _measure_cuda(device, name) if device.type == "cuda" else _measure_cpu(name)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({"form": FORM, **peaks.to_dict()}, indent=1))
        fresh.replace(path)
    return peaks


def load_peaks(name: str) -> Peaks | None:
    """The peaks kept for a device name, or None where there are none, or only such as cannot be read."""
    try:
        data = json.loads(peaks_path(name).read_text())
        return Peaks.from_dict(data) if data.pop("form", None) == FORM else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # absent, cut short or of another form: measured anew


def peaks_path(name: str) -> Path:
    """File for a device of this machine under this torch."""
    key = "-".join(re.sub(r"[^A-Za-z0-9.+]+", "_", part) for part in (platform.node(), name, torch.__version__))
    return cache_dir() / "peaks" / f"{key}.json"


def device_name(device: torch.device) -> str:
    """Name of the device; for a CPU its model and the threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.machine()} x{torch.get_num_threads()}"


def _measure_cpu(name: str) -> Peaks:
    memory = _cpu_copy_rate(_CPU_COPY_BYTES, 1, budget_s=0.6)
    cache = max(_cpu_copy_rate(size, 16, budget_s=0.1) for size in _CPU_CACHED_COPIES_BYTES)
    flops = {dtype: _matmul_rate(torch.device("cpu"), dtype, _CPU_MATMUL) for dtype in ("float32", "bfloat16")}
    return _peaks(name, "cpu", memory, cache, _cpu_cache_bytes(), flops)


def _cpu_copy_rate(size: int, copies: int, budget_s: float) -> float:
    """Bytes read plus written per second by a copy of `size` bytes."""
    source = torch.empty(size // 4).normal_()
    target = torch.empty_like(source)
    return 2 * size / _best_s(lambda: target.copy_(source), copies, budget_s)


def _measure_cuda(device: torch.device, name: str) -> Peaks:
    properties = torch.cuda.get_device_properties(device)
    size = min(_CUDA_COPY_BYTES, torch.cuda.mem_get_info(device)[0] // 8)
    copy_s = _cuda_copy_s(size, device)
    flops = {dtype: _matmul_rate(device, dtype, _CUDA_MATMUL) for dtype in ("bfloat16", "float16", "float32")}
    torch.cuda.empty_cache()
    return _peaks(name, "cuda", 2 * size / copy_s, 2 * size / copy_s, properties.L2_cache_size, flops)


def _cuda_copy_s(size: int, device: torch.device) -> float:
    source = torch.empty(size // 4, device=device).normal_()
    target = torch.empty_like(source)
    return _best_events_s(lambda: target.copy_(source), 1)


def _peaks(
    name: str, kind: str, bandwidth: float, cache_bandwidth: float, cache: int, flops: dict[str, float]
) -> Peaks:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Peaks(name, kind, bandwidth, max(bandwidth, cache_bandwidth), cache, flops, torch.__version__, now)


def _matmul_rate(device: torch.device, dtype: str, size: int) -> float:
    """Operations per second of a square product of random values; float32 with TF32 where the device has it."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        left, right = (torch.randn(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2))
        out = torch.empty_like(left)
        if device.type == "cuda":
            seconds = _best_events_s(lambda: torch.mm(left, right, out=out), 4)
        else:
            seconds = _best_s(lambda: torch.mm(left, right, out=out), 1, budget_s=0.5)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    return 2 * size**3 / seconds


def _best_s(run: Callable[[], object], calls: int, budget_s: float) -> float:
    """Shortest wall time a call, over as many repeats as the budget allows, two at least."""
    best, end = float("inf"), time.perf_counter() + budget_s
    repeats = 0
    while repeats < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        best = min(best, (time.perf_counter() - start) / calls)
        repeats += 1
    return best


def _best_events_s(run: Callable[[], object], calls: int, repeats: int = 10) -> float:
    """Shortest device time a call over `repeats` of `calls` calls between two events."""
    run()
    best = float("inf")
    for _ in range(repeats):
        start, end = timing_event(), timing_event()
        start.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end) * 1e-3 / calls)
    return best


def _cpu_cache_bytes() -> int:
    """Size of the last-level cache that the first core sees; 32 MiB where the system does not say."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        match = re.fullmatch(r"(\d+)([KM])", path.read_text().strip())
        if match:
            sizes.append(int(match[1]) * {"K": 2**10, "M": 2**20}[match[2]])
    return max(sizes, default=2**25)
