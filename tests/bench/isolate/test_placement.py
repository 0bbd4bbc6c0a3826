"""Temporaries lie elsewhere after a renewal."""

import torch

from fastkernels.bench.isolate.placement import RandomPlacement


def places(placement, renew):
    """Addresses of a temporary over 16 rounds."""
    found = set()
    for _ in range(16):
        if renew:
            placement.renew()
        found.add(torch.empty(2_000_000, dtype=torch.uint8).data_ptr())
    return found


def test_a_renewal_moves_what_a_call_allocates():
    placement = RandomPlacement()
    assert len(places(placement, renew=True)) > 4
    placement.clear()
    assert len(places(placement, renew=False)) <= 2
