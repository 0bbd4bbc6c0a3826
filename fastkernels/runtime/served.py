"""One call of a whole model as a server makes it: the forward pass, then the logits of the rows that are asked for."""

from typing import Any

import torch
from torch import nn


def served(cls: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass whose `forward` is what a model runner does in one step.

    `cls` is a class of level 4: forward(input_ids, positions) -> hidden states [T, H], and
    compute_logits(hidden states [rows, H]) -> [rows, vocab]. The subclass's forward takes `logits_indices` besides,
    [rows] int64, and returns (hidden states [T, H], logits [rows, vocab]). Weights keep their names.
    """

    def forward(
        self: Any, input_ids: torch.Tensor, positions: torch.Tensor, logits_indices: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden_states = cls.forward(self, input_ids, positions)
        return hidden_states, self.compute_logits(hidden_states[logits_indices])

    return type(cls.__name__, (cls,), {"forward": forward, "__doc__": cls.__doc__, "__module__": cls.__module__})
