"""Lookup of token embeddings."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes


@triton.jit
def embedding_kernel(ids_ptr, weight_ptr, out_ptr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """out[t] = weight[ids[t]], BLOCK columns of one row a program."""
    blocks: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    token = (tl.program_id(0) // blocks).to(tl.int64)
    col = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    mask = col < WIDTH
    row = tl.load(ids_ptr + token).to(tl.int64)
    values = tl.load(weight_ptr + row * WIDTH + col, mask=mask)
    tl.store(out_ptr + token * WIDTH + col, values, mask=mask)


def launch_shape(width: int) -> tuple[int, int]:
    """(columns a program, warps a program): on an H200 the best of 512 to 4096 x 1 to 8 at 32 and 4096 tokens."""
    block = min(2048, max(16, triton.next_power_of_2(width)))
    return block, max(1, block // 1024)


class Embedding(Op):
    """y[t] = weight[input_ids[t]].

    input_ids: [...] int32 or int64, each in 0 .. num_embeddings - 1 -> [..., embedding_dim], new memory. CUDA does not
    check the range; a tensor parallel rank passes ids of its own shard.
    """

    provider = "triton"

    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        weight = torch.empty(num_embeddings, embedding_dim, dtype=dtype or torch.get_default_dtype())
        self.weight = nn.Parameter(nn.init.normal_(weight))

    def forward_native(self, input_ids: torch.Tensor) -> torch.Tensor:
        """ATen's lookup; copies, so it rounds nothing."""
        return F.embedding(input_ids, self.weight)

    def forward_cuda(self, input_ids: torch.Tensor) -> torch.Tensor:
        """One Triton kernel."""
        ids = input_ids.contiguous()
        out = torch.empty((*ids.shape, self.embedding_dim), dtype=self.weight.dtype, device=ids.device)
        block, num_warps = launch_shape(self.embedding_dim)
        grid = (ids.numel() * triton.cdiv(self.embedding_dim, block),)
        embedding_kernel[grid](ids, self.weight, out, WIDTH=self.embedding_dim, BLOCK=block, num_warps=num_warps)
        return out

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads the ids and each different row once, writes y; no arithmetic."""
        ids = inputs["input_ids"]
        rows = ids.unique().numel() * self.embedding_dim * self.weight.element_size()
        return Work(bytes=tensor_bytes(ids, *outputs) + rows, flops=0)
