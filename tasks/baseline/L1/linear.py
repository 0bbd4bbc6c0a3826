"""Matrix product with a weight, and an optional bias."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fastkernels.runtime.op import Op, Work, tensor_bytes


class Linear(Op):
    """y = x @ weight.T + bias.

    x: [..., input_size] -> [..., output_size], new memory; weight: [output_size, input_size]. The products of half
    precision inputs are summed in float32 by the libraries behind torch.nn.functional.linear (oneDNN, cuBLAS).
    """

    provider = "torch"

    def __init__(
        self, input_size: int, output_size: int, bias: bool = False, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        dtype = dtype or torch.get_default_dtype()
        weight = torch.empty(output_size, input_size, dtype=dtype)
        self.weight = nn.Parameter(nn.init.uniform_(weight, -(input_size**-0.5), input_size**-0.5))
        self.bias = nn.Parameter(torch.zeros(output_size, dtype=dtype)) if bias else None

    def forward_native(self, x: torch.Tensor) -> torch.Tensor:
        """One call of ATen's linear, in the dtype of x and weight."""
        return F.linear(x, self.weight, self.bias)

    def strided_inputs(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """DeepSeek's latents are a slice of the projection before."""
        del inputs
        return ("x",)

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Moves x, weight, bias and y once; a multiply-add for each weight and token."""
        x = inputs["x"]
        tokens = x.numel() // self.input_size
        flops = 2 * tokens * self.input_size * self.output_size
        return Work(bytes=tensor_bytes(x, self.weight, self.bias, *outputs), flops=flops)
