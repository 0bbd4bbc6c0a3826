"""Whether this process has the device to itself: work of another one shows as gaps in a kernel that watches the clock.

Without MPS contexts take turns on a GPU in slices of some milliseconds. On an H200 a watch of 3 ms saw gaps of 32 to
64 ns alone, and of 1 to 2.5 ms beside a process that multiplied matrices.
"""

import time

import torch

from fastkernels.bench.isolate.sections.kernels import watch
from fastkernels.errors import FastKernelsError

WATCH_NS = 3_000_000
MOST_GAP_NS = 200_000
PATIENCE_S = 10.0
"""How long work that was queued before, and calls that other graders make beside timing, may take to end."""


class BusyError(FastKernelsError):
    """Somebody else works on the device."""


class IdleDevice:
    """Watches one device."""

    def __init__(self, device: torch.device) -> None:
        self._gap = torch.zeros(1, dtype=torch.int64, device=device)

    def wait(self) -> None:
        """Return once nobody else works on the device; BusyError after PATIENCE_S."""
        end = time.monotonic() + PATIENCE_S
        while (gap := self.longest_gap_ns()) > MOST_GAP_NS:
            if time.monotonic() > end:
                raise BusyError(f"another process works on the device: gaps of {gap / 1e6:.1f} ms")

    def longest_gap_ns(self) -> int:
        """Watch once; nanoseconds."""
        watch[(1,)](self._gap, WATCH_NS, num_warps=1)
        return int(self._gap)
