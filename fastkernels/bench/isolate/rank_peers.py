"""How the candidates' processes of several ranks find each other: torch.distributed over the loopback interface."""

import os
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from fastkernels.runtime.parallel import ProcessGroup

TIMEOUT = timedelta(hours=1)
"""Longest that torch.distributed waits; the supervisor's own limit ends a rank much earlier."""

LOOPBACK = "127.0.0.1"


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

    def join(self, rank: int, size: int, port: int) -> ProcessGroup:
        """Meet the others at rank 0's port; returns once all are there."""
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        store = self._store or dist.TCPStore(  # type: ignore[attr-defined]
            LOOPBACK, port, size, is_master=False, timeout=TIMEOUT)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        return ProcessGroup()
