"""Qwen3: https://arxiv.org/abs/2505.09388."""

from ..L3.qwen3_decoder_layer import Qwen3DecoderLayer
from ._decoder import CausalLM, DecoderModel


class Qwen3Model(DecoderModel):
    """Qwen3 without its output projection."""

    layer = Qwen3DecoderLayer


class Qwen3ForCausalLM(CausalLM):
    """Qwen3: Llama with normalised query and key heads."""

    model_class = Qwen3Model
