"""Temporaries lie elsewhere after a renewal."""

import subprocess
import sys

COUNT_PLACES = """
import torch
from fastkernels.bench.isolate.placement import RandomPlacement

placement = RandomPlacement()


def count_places(renew):
    found = set()
    for _ in range(32):
        if renew:
            placement.renew()
        found.add(torch.empty(2_000_000, dtype=torch.uint8).data_ptr())
    return len(found)


count_places(renew=True)  # the allocator learns from the first large blocks
placement.clear()
print(count_places(renew=False), count_places(renew=True))
"""
"""Addresses that a temporary gets over 32 rounds, in a process of its own: a worker's heap is as young."""


def test_a_renewal_moves_what_a_call_allocates():
    ran = subprocess.run([sys.executable, "-c", COUNT_PLACES], capture_output=True, text=True, check=True)
    unmoved, moved = map(int, ran.stdout.split())
    assert moved > 2 * unmoved
