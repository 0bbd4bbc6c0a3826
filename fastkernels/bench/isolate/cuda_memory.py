"""CUDA memory that two processes see: allocated and exported through the driver, outside torch's caching allocator.

The caching allocator exports whole blocks, in which expected outputs may lie; these allocations hold the arena alone.
"""

from typing import Any

import torch

from fastkernels.bench.isolate import cuda_driver


class CudaMemory:
    """One exported allocation; grows by a new one, and the old one goes once the other process has let go of it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._address = 0
        self._handle = b""
        self._retired: list[int] = []
        self._outdated: list[int] = []
        self.view = torch.empty(0, dtype=torch.uint8, device=device)

    def grow(self, size: int) -> None:
        """Allocate anew where the block is too small."""
        if size <= self.view.numel():
            return
        if self._address:
            self._retired.append(self._address)
        address = cuda_driver.allocate(size, self._device)
        self._handle = cuda_driver.export(address, self._device)
        self._see(address, size)

    def reference(self) -> dict[str, Any]:
        """Size and handle. The other process reads it before this is called again, which frees what it has left."""
        torch.cuda.synchronize(self._device)
        for address in self._outdated:
            cuda_driver.free(address, self._device)
        self._outdated, self._retired = self._retired, []
        return {"bytes": self.view.numel(), "handle": self._handle.hex()}

    def follow(self, reference: dict[str, Any]) -> None:
        """Open the block, and close the one before."""
        handle = bytes.fromhex(reference["handle"])
        if handle == self._handle:
            return
        torch.cuda.synchronize(self._device)
        if self._address:
            cuda_driver.close_exported(self._address, self._device)
        address = cuda_driver.open_exported(handle, self._device)
        self._handle = handle
        self._see(address, reference["bytes"])

    def release(self) -> None:
        """Nothing: the block is kept for the next scenario."""

    def _see(self, address: int, size: int) -> None:
        self._address = address
        self.view = cuda_driver.see(address, size, self._device)
