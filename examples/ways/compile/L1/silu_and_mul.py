"""silu_and_mul as plain PyTorch under torch.compile."""

import torch
from torch import nn


@torch.compile(dynamic=True)  # one graph for all shapes: of a function torch keeps eight
def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """Return silu(first half) * second half of the last dimension, in float32 inside."""
    gate, up = x.float().chunk(2, dim=-1)
    return (nn.functional.silu(gate) * up).to(x.dtype)


class SiluAndMul(nn.Module):
    """silu(x[..., :D]) * x[..., D:]. x: [..., 2 * D] -> [..., D], in new memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activate the rows."""
        return silu_and_mul(x)
