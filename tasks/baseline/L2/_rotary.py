"""Builds the rotary embedding that a model's config describes, once for all layers that share it."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fastkernels.runtime.sharing import shared

from ..L1.rotary_emb import RotaryEmbedding


class NoRotation(nn.Module):
    """The rotary embedding of a layer without positions (NoPE): query and key as they are."""

    def forward(
        self, positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(query, key)."""
        del positions
        return query, key


def rotary_embedding(
    head_size: int, max_position: int, rope_parameters: Mapping[str, Any] | None, dtype: torch.dtype | None = None,
    is_neox_style: bool = True,
) -> nn.Module:  # fmt: skip
    """The module for heads of this size; layers of one model that have equal arguments get the same one.

    rope_parameters: rope_theta, rope_type, partial_rotary_factor and what the type needs, as
    `runtime.model_config.rope_parameters` returns them; None for a layer without positions.
    """
    if rope_parameters is None:
        return NoRotation()
    scaling = dict(rope_parameters)
    base = float(scaling.pop("rope_theta", 10000.0))
    rotary_dim = int(head_size * scaling.pop("partial_rotary_factor", 1.0))
    arguments = (head_size, rotary_dim, max_position, base, is_neox_style, dtype or torch.get_default_dtype())
    key = (RotaryEmbedding, *arguments, json.dumps(scaling, sort_keys=True))
    return shared(key, lambda: RotaryEmbedding(*arguments, rope_scaling=scaling))
