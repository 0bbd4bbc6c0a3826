"""SmolLM3: https://huggingface.co/blog/smollm3."""

from ..L3.smollm3_decoder_layer import SmolLM3DecoderLayer
from ._decoder import CausalLM, DecoderModel


class SmolLM3Model(DecoderModel):
    """SmolLM3 without its output projection."""

    layer = SmolLM3DecoderLayer


class SmolLM3ForCausalLM(CausalLM):
    """SmolLM3: Llama, of whose layers every fourth has no positions (tied embeddings)."""

    model_class = SmolLM3Model
    tied = True
