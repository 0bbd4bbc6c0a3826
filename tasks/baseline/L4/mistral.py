"""Mistral: https://arxiv.org/abs/2310.06825."""

from ..L3.llama_decoder_layer import LlamaDecoderLayer
from ._decoder import CausalLM, DecoderModel


class MistralModel(DecoderModel):
    """Mistral without its output projection."""

    layer = LlamaDecoderLayer


class MistralForCausalLM(CausalLM):
    """Mistral: Llama with a sliding window where its config names one."""

    model_class = MistralModel
