"""Gemma 3: https://arxiv.org/abs/2503.19786."""

import re
from typing import Any

import torch

from fastkernels.runtime.model_config import optional

from ..L1.gemma_rms_norm import GemmaRMSNorm
from ..L3.gemma3_decoder_layer import Gemma3DecoderLayer
from ._decoder import CausalLM, DecoderModel

IMAGES = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\.")
"""Tensors of the part that reads images."""
TEXT = {"language_model.model.": "model.", "language_model.lm_head.": "lm_head.", "model.language_model.": "model."}
"""Prefixes of the text model's tensors, in published checkpoints or as transformers 5 names its parts, and ours."""


class Gemma3Model(DecoderModel):
    """Gemma 3's text model without its output projection."""

    layer = Gemma3DecoderLayer
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


class Gemma3ForCausalLM(CausalLM):
    """Gemma 3 for text (tied embeddings)."""

    model_class = Gemma3Model

    def is_tied(self) -> bool:
        """Tied where the config does not say otherwise, as published configs leave it out."""
        return bool(optional(self.config, "tie_word_embeddings", True))


class Gemma3ForConditionalGeneration(Gemma3ForCausalLM):
    """The text part of Gemma 3's models that read images too; config: their `text_config`."""

    def checkpoint_name(self, name: str) -> str | None:
        """The text model's tensors under one more prefix; those of images are left out."""
        if IMAGES.match(name):
            return None
        for theirs, ours in TEXT.items():
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
                break
        return super().checkpoint_name(name)
