"""Gemma 3: https://arxiv.org/abs/2503.19786."""

import re

from ..L3.gemma3_decoder_layer import Gemma3DecoderLayer
from ._decoder import CausalLM
from ._gemma import GemmaModel

IMAGES = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\.")
"""Tensors of the part that reads images."""
TEXT = {"language_model.model.": "model.", "language_model.lm_head.": "lm_head.", "model.language_model.": "model."}
"""Prefixes of the text model's tensors, in published checkpoints or as transformers 5 names its parts, and ours."""


class Gemma3Model(GemmaModel):
    """Gemma 3's text model without its output projection."""

    layer = Gemma3DecoderLayer


class Gemma3ForCausalLM(CausalLM):
    """Gemma 3 for text (tied embeddings)."""

    model_class = Gemma3Model
    tied = True


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
