"""Qwen2: https://arxiv.org/abs/2407.10671."""

from ..L3.qwen2_decoder_layer import Qwen2DecoderLayer
from ._decoder import CausalLM, DecoderModel


class Qwen2Model(DecoderModel):
    """Qwen2 without its output projection."""

    layer = Qwen2DecoderLayer


class Qwen2ForCausalLM(CausalLM):
    """Qwen2 and Qwen2.5: Llama with a bias on queries, keys and values."""

    model_class = Qwen2Model
