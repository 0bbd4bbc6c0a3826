"""Llama: https://arxiv.org/abs/2407.21783."""

from ..L3.llama_decoder_layer import LlamaDecoderLayer
from ._decoder import CausalLM, DecoderModel


class LlamaModel(DecoderModel):
    """Llama without its output projection."""

    layer = LlamaDecoderLayer


class LlamaForCausalLM(CausalLM):
    """Llama 3.1 and 3.2 (tied embeddings)."""

    model_class = LlamaModel
