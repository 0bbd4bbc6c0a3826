"""The least time that a device needs for given bytes and operations, from its measured peaks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

CUDA_MARGIN = 0.8
"""Part of the least time that still counts as possible: peaks are measured, and a data sheet's are up to 1.2 higher."""
CPU_MARGIN = 0.5
"""The same on a CPU, whose peaks may have been measured while the machine was busy."""


class WorkLike(Protocol):
    """Least bytes and operations of a call."""

    @property
    def bytes(self) -> int:
        """Bytes read and written at least once."""

    @property
    def flops(self) -> int:
        """Floating-point operations."""


@dataclass(frozen=True)
class Peaks:
    """What one device reached when it was measured."""

    device: str
    """Name of the device."""
    device_type: str
    """`cpu` or `cuda`."""
    bandwidth_bytes_s: float
    """Copy through memory, bytes read plus bytes written per second."""
    cache_bandwidth_bytes_s: float
    """Copy within the cache of a CPU, read plus written per second; on CUDA the same as through memory."""
    cache_bytes: int
    """Size of the largest cache."""
    flops_s: Mapping[str, float] = field(default_factory=dict)
    """Operations per second of a matrix product, by torch dtype name; `float32` with TF32 where the device has it."""
    torch_version: str = ""
    """torch that measured."""
    measured: str = ""
    """UTC time of the measurement, ISO 8601."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Peaks":
        """Build peaks from `to_dict`'s data."""
        return cls(**data)

    def matmul_flops_s(self, dtype: str) -> float:
        """Peak rate for a dtype; for one that was not measured, the highest of all."""
        return self.flops_s.get(dtype.removeprefix("torch."), max(self.flops_s.values()))


def roofline_s(work: WorkLike, dtype: str, peaks: Peaks) -> float:
    """Seconds that the slower of memory and arithmetic takes at its peak; what a result's roofline share refers to."""
    return max(work.bytes / peaks.bandwidth_bytes_s, work.flops / peaks.matmul_flops_s(dtype))


def floor_s(work: WorkLike, peaks: Peaks) -> float:
    """Seconds below which a reported time is impossible, margin included.

    Operations count at the highest rate of any dtype. On CUDA all bytes pass through memory, since the cache is
    flushed with writes before each call: no kernel tried on an H200 gained by its outputs staying in the cache. On a
    CPU, where inputs may lie in the cache, as many bytes as it holds count at the cache's bandwidth.
    """
    arithmetic = work.flops / max(peaks.flops_s.values())
    if peaks.device_type == "cuda":
        return CUDA_MARGIN * max(work.bytes / peaks.bandwidth_bytes_s, arithmetic)
    cached = min(work.bytes, peaks.cache_bytes)
    memory = cached / peaks.cache_bandwidth_bytes_s + (work.bytes - cached) / peaks.bandwidth_bytes_s
    return CPU_MARGIN * max(memory, arithmetic)
