"""The body that Gemma 2 and 3 share."""

from typing import Any

import torch

from ..L1.gemma_rms_norm import GemmaRMSNorm
from ._decoder import DecoderModel


class GemmaModel(DecoderModel):
    """A decoder whose embeddings are scaled by the root of their width, with norms that add 1 to their weight."""

    last_norm = GemmaRMSNorm

    def __init__(self, config: Any, prefix: str = "") -> None:
        super().__init__(config, prefix)
        # Rounded to the weights' dtype, as the model was trained: the root of 3840 is 61.97, in bfloat16 62.
        scale = torch.tensor(config.hidden_size**0.5, dtype=self.embed_tokens.weight.dtype)
        self.normalizer: torch.Tensor
        self.register_buffer("normalizer", scale, persistent=False)

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embeddings [T, H] of the ids, times the root of H."""
        return super().embed_input_ids(input_ids) * self.normalizer
