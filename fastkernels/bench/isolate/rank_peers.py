"""How the candidates' processes of several ranks find each other: torch.distributed over the loopback interface.

NCCL writes to /dev alone (its shared memory lies in /dev/shm), passes descriptors through abstract sockets and connects
over TCP: what the sandbox leaves to ranks on CUDA.
"""

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from fastkernels.runtime.parallel import ProcessGroup

TIMEOUT = timedelta(hours=1)
"""Longest that torch.distributed waits; the supervisor's own limit ends a rank much earlier."""

LOOPBACK = "127.0.0.1"

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}

ENVIRONMENTS = {
    "cpu": {"GLOO_SOCKET_IFNAME": "lo"},
    "cuda": {"NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1", "NCCL_RAS_ENABLE": "0", "NCCL_RUNTIME_CONNECT": "0",
             "NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1"},
}
"""Variables that are set before ranks meet, whatever the user has set: no network but loopback, no port of NCCL's own
monitor, all connections at once. NVLink multicast, whose state is the whole fabric's, is off: ranks are killed at any
time."""


class Peers:
    """One rank's way to the others."""

    def __init__(self) -> None:
        self._store: Any = None

    def open(self, size: int) -> int:
        """On rank 0: open the store in which ranks meet; returns its port."""
        store = dist.TCPStore(  # type: ignore[attr-defined]
            LOOPBACK, 0, size, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
        self._store = store
        return int(store.port)

    def join(self, rank: int, size: int, port: int, device: torch.device) -> ProcessGroup:
        """Meet the others at rank 0's port; returns once all have exchanged something, RuntimeError where that fails.

        On CUDA each rank has the device of its own number.
        """
        os.environ.update(ENVIRONMENTS[device.type])
        store = self._store or dist.TCPStore(  # type: ignore[attr-defined]
            LOOPBACK, port, size, is_master=False, timeout=TIMEOUT)
        dist.init_process_group(BACKENDS[device.type], store=store, rank=rank, world_size=size, timeout=TIMEOUT,
                                device_id=device if device.type == "cuda" else None)
        group = ProcessGroup()
        found = group.all_reduce(torch.ones(1, device=device)).item()  # NCCL may connect only here
        if found != size:
            raise RuntimeError(f"the sum of 1 over {size} ranks is {found:g}")
        return group
