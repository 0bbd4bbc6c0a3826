"""One rank's share of a vocabulary that is padded so that it can be shared out evenly."""

from dataclasses import dataclass, field

import torch
from torch import nn

from fastkernels.runtime.parallel import TensorParallelGroup, divide, tp_group


@dataclass(frozen=True)
class VocabShard:
    """Rows `start` to `end` of the padded vocabulary."""

    size: int
    """Entries of the vocabulary."""
    padding_size: int
    """The padded size is a multiple of this."""
    group: TensorParallelGroup = field(default_factory=tp_group)
    """The ranks."""

    @property
    def padded(self) -> int:
        """Entries with padding."""
        return -(-self.size // self.padding_size) * self.padding_size

    @property
    def rows(self) -> int:
        """Entries of each rank."""
        return divide(self.padded, self.group.size, "padded vocabulary")

    @property
    def start(self) -> int:
        """First entry of this rank."""
        return self.group.rank * self.rows

    def load(self, parameter: nn.Parameter, tensor: torch.Tensor) -> None:
        """Copy this rank's rows of the unpadded tensor; padding is zeros."""
        there = max(0, min(self.size - self.start, self.rows))
        parameter[:there].copy_(tensor.narrow(0, min(self.start, self.size), there))
        parameter[there:].zero_()
