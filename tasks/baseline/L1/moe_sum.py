"""Sum of the rows that a token's experts gave."""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes


@triton.jit
def moe_sum_kernel(
    x_ptr, out_ptr, x_token, x_row, TOP_K: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):
    """out[t, d] = x[t, 0, d] + x[t, 1, d] + ... for BLOCK columns of one token, in float32 inside."""
    blocks: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    token = (tl.program_id(0) // blocks).to(tl.int64)
    col = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    mask = col < WIDTH
    total = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(TOP_K):
        total += tl.load(x_ptr + token * x_token + k * x_row + col, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + token * WIDTH + col, total.to(out_ptr.dtype.element_ty), mask=mask)


def launch_shape(width: int) -> tuple[int, int]:
    """(columns a program, warps a program): eight elements a thread, so that one token spreads over several SMs."""
    block = min(512, max(16, triton.next_power_of_2(width)))
    return block, max(1, block // 256)


class MoeSum(Op):
    """y[t] = sum over k of x[t, k].

    x: [T, top_k, H] -> [T, H], new memory; summed in float32 and rounded once. Mirrors vLLM's moe_sum.
    """

    provider = "triton"

    def forward_native(self, x: torch.Tensor) -> torch.Tensor:
        """Plain PyTorch, in float32 or better."""
        return x.sum(dim=1, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype)

    def forward_cuda(self, x: torch.Tensor) -> torch.Tensor:
        """One Triton kernel; tokens and rows may be strided."""
        x = x if x.stride(-1) == 1 else x.contiguous()
        tokens, top_k, width = x.shape
        out = torch.empty((tokens, width), dtype=x.dtype, device=x.device)
        block, num_warps = launch_shape(width)
        moe_sum_kernel[(tokens * triton.cdiv(width, block),)](
            x, out, x.stride(0), x.stride(1), TOP_K=top_k, WIDTH=width, BLOCK=block, num_warps=num_warps
        )
        return out

    def rounding_error(self, inputs: Mapping[str, Any], unit: float) -> torch.Tensor:
        """Every sum but the last rounded, in any order: none is larger than all terms of one sign together."""
        x = inputs["x"]
        largest = torch.maximum(x.clamp(min=0).sum(dim=1), -x.clamp(max=0).sum(dim=1))
        return largest * (max(0, x.shape[1] - 2) * unit)

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads x, writes y; an addition for each element but the first row's."""
        x = inputs["x"]
        return Work(bytes=tensor_bytes(x, *outputs), flops=x.numel() - outputs[0].numel())
