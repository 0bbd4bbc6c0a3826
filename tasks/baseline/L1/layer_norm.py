"""Layer normalization with weight and bias."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes


@triton.jit(do_not_specialize=["eps"])
def layer_norm_kernel(
    x_ptr, weight_ptr, bias_ptr, out_ptr, x_row, eps, HIDDEN: tl.constexpr, BLOCK: tl.constexpr,
):
    """out = (x - mean) / sqrt(var + eps) * weight + bias, one row of HIDDEN elements a program, in registers.

    Mean and variance in float32, the variance of the centred row.
    """
    row = tl.program_id(0).to(tl.int64)
    col = tl.arange(0, BLOCK)
    mask = col < HIDDEN
    x = tl.load(x_ptr + row * x_row + col, mask=mask, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + col, mask=mask, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + col, mask=mask, other=0.0).to(tl.float32)
    centred = tl.where(mask, x - tl.sum(x, axis=0) * (1.0 / HIDDEN), 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, axis=0) * (1.0 / HIDDEN) + eps)
    y = centred * scale * weight + bias
    tl.store(out_ptr + row * HIDDEN + col, y.to(out_ptr.dtype.element_ty), mask=mask)


def warps(block: int) -> int:
    """Warps of a program whose padded row has `block` elements: 512 elements each, as rms_norm's few rows have."""
    return min(32, max(4, block // 512))


class LayerNorm(Op):
    """y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias (Ba et al., 2016), the variance that of the population.

    x: [..., normalized_shape] -> the same shape, new memory. Mirrors torch.nn.LayerNorm over the last dimension, which
    vLLM's models use as it is.
    """

    provider = "triton"

    def __init__(self, normalized_shape: int, eps: float = 1e-5, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.normalized_shape = normalized_shape
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(normalized_shape, dtype=dtype or torch.get_default_dtype()))
        self.bias = nn.Parameter(torch.zeros(normalized_shape, dtype=dtype or torch.get_default_dtype()))

    def forward_native(self, x: torch.Tensor) -> torch.Tensor:
        """Plain PyTorch, in float32 or better, rounded once."""
        return self._normed(x).to(x.dtype)

    def _normed(self, x: torch.Tensor, with_bias: bool = True) -> torch.Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        bias = self.bias.to(wide) if with_bias else None
        return F.layer_norm(x.to(wide), (self.normalized_shape,), self.weight.to(wide), bias, self.eps)

    def forward_cuda(self, x: torch.Tensor) -> torch.Tensor:
        """One Triton kernel, in float32 inside; rows may be strided."""
        hidden = self.normalized_shape
        rows = x.reshape(-1, hidden)
        rows = rows if rows.stride(1) == 1 else rows.contiguous()
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        block = triton.next_power_of_2(hidden)
        layer_norm_kernel[(rows.shape[0],)](
            rows, self.weight, self.bias, out, rows.stride(0), self.eps, HIDDEN=hidden, BLOCK=block,
            num_warps=warps(block),
        )
        return out

    def rounding_error(self, inputs: Mapping[str, Any], unit: float) -> torch.Tensor:
        """The scaled row rounded before the bias is added."""
        return unit * self._normed(inputs["x"], with_bias=False).abs()

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads x, weight and bias, writes y; seven operations an element."""
        moved = tensor_bytes(inputs["x"], self.weight, self.bias, *outputs)
        return Work(bytes=moved, flops=7 * outputs[0].numel())
