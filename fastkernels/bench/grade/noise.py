"""Seeded normal noise, quick enough for weights and caches of real size."""

import hashlib

import torch

BLOCK = 1_048_573
"""Elements drawn at most on a CPU (10 ns each); what is larger repeats them. A prime, so that no two rows are alike."""


def seeded(device: torch.device, *parts: object) -> torch.Generator:
    """A generator whose seed is a hash of all parts."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def fill_normal(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Fill a contiguous float tensor in place with standard normal noise; returns it."""
    if tensor.dtype.itemsize == 1:
        return tensor.copy_(fill_normal(torch.empty_like(tensor, dtype=torch.float32), generator))
    flat = tensor.view(-1)
    if tensor.is_cuda or flat.numel() <= BLOCK:
        flat.normal_(generator=generator)
        return tensor
    block = flat[:BLOCK].normal_(generator=generator)
    for start in range(BLOCK, flat.numel(), BLOCK):
        part = flat[start:start + BLOCK]
        part.copy_(block[: part.numel()])
    return tensor
