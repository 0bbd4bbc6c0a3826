"""Which experts tokens go to, and the order of their rows by expert: several inputs of one call that agree."""

import torch

from fastkernels.bench.grade.hard import MIXED
from fastkernels.bench.grade.noise import seeded
from fastkernels.bench.grade.request import Request

LEAST_BLOCK, MOST_BLOCK = 16, 128
"""Rows of the smallest and of the largest block that the block of experts chooses; powers of two."""


def topk_ids(request: Request) -> torch.Tensor:
    """[T, top_k]: different experts of `experts` for each token, in no order; all tokens' alike in draws with ties.

    In mixed draws one expert's rows fill whole blocks, and another's all but the last row.
    """
    tokens, top_k = request.shape
    return _choices(request, tokens, top_k).to(request.dtype)


def expert_choices(request: Request) -> torch.Tensor:
    """[T * top_k]: the expert of each row, in order of tokens."""
    return _choices(request, request.tokens, request.args["top_k"]).flatten().to(request.dtype)


def sorted_token_ids(request: Request) -> torch.Tensor:
    """Rows in order of their expert, each expert's padded with T * top_k to whole blocks; unused blocks hold padding.

    Its length is that of the most blocks that there can be for T * top_k rows, not the manifest's shape.
    """
    return _order(request)[0].to(request.dtype)


def block_experts(request: Request) -> torch.Tensor:
    """The expert of each block of sorted_token_ids; -1 for unused ones."""
    return _order(request)[1].to(request.dtype)


def padded_rows(request: Request) -> torch.Tensor:
    """[1]: rows of the blocks that are used."""
    return _order(request)[2].to(request.dtype)


def _choices(request: Request, tokens: int, top_k: int) -> torch.Tensor:
    """The call's choice, the same for each input that asks."""
    generator = seeded(request.device, request.seed, "experts")
    noise = torch.rand(tokens, request.args["experts"], generator=generator, device=request.device)
    if request.hard == "ties":
        noise[:] = noise[:1].clone()
    if request.hard in MIXED and top_k > 1:
        _fill_blocks(noise, top_k, generator)
    return noise.argsort(dim=1)[:, :top_k]


def _fill_blocks(noise: torch.Tensor, top_k: int, generator: torch.Generator) -> None:
    """Make one expert the choice of exactly as many tokens as a block has rows, another of one less; in place.

    The block is the largest that has so few rows as there are tokens: it is whole blocks of the smaller sizes too.
    """
    tokens, experts = noise.shape
    size = 1 << (min(tokens, MOST_BLOCK).bit_length() - 1) if tokens else 0
    if size < LEAST_BLOCK or experts < top_k + 2:
        return
    pair = torch.randperm(experts, generator=generator, device=noise.device)[:2].tolist()
    for expert, count in zip(pair, (size, size - 1), strict=True):
        order = torch.randperm(tokens, generator=generator, device=noise.device)
        noise[order[:count], expert] -= 1.0
        noise[order[count:], expert] += 1.0


def _order(request: Request) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(sorted_token_ids, block_experts, padded_rows)."""
    experts, size = request.args["experts"], request.args["block_size"]
    chosen = _choices(request, request.tokens, request.args["top_k"]).flatten()
    rows = chosen.numel()
    busy = min(experts, rows)
    most = busy + (rows - busy) // size  # each expert but for whole blocks has one that is not full
    counts = chosen.bincount(minlength=experts)
    blocks = (counts + size - 1) // size
    first = (blocks.cumsum(0) - blocks) * size
    by_expert, order = chosen.sort(stable=True)
    within = torch.arange(rows, device=chosen.device) - (counts.cumsum(0) - counts)[by_expert]
    ids = torch.full((most * size,), rows, device=chosen.device)
    ids[first[by_expert] + within] = order
    owners = torch.full((most,), -1, device=chosen.device)
    used = torch.arange(experts, device=chosen.device).repeat_interleave(blocks)
    owners[: used.numel()] = used
    return ids, owners, (blocks.sum() * size).view(1)
