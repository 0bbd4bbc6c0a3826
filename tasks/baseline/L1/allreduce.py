"""Sum over the tensor parallel ranks."""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.op import Op
from fastkernels.runtime.parallel import tp_group


class AllReduce(Op):
    """y = sum of all ranks' x, by the tensor parallel group that is set when the module is built.

    x: [...] -> [...], the same on every rank; may be written into x. A rank that stands alone (`OneRank`) returns x.
    As vLLM's tensor_model_parallel_all_reduce.
    """

    provider = "torch"
    rounds_often = True

    def __init__(self) -> None:
        super().__init__()
        self.tp_group = tp_group()

    def forward_native(self, x: torch.Tensor) -> torch.Tensor:
        """The group's own sum: gloo on CPUs, NCCL on GPUs, nothing for one rank."""
        return x if self.tp_group.size == 1 else self.tp_group.all_reduce(x)

    def donates(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """The sum may be written into x."""
        del inputs
        return ("x",)
