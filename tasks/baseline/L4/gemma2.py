"""Gemma 2: https://arxiv.org/abs/2408.00118."""

from ..L3.gemma2_decoder_layer import Gemma2DecoderLayer
from ._decoder import CausalLM
from ._gemma import GemmaModel


class Gemma2Model(GemmaModel):
    """Gemma 2 without its output projection."""

    layer = Gemma2DecoderLayer


class Gemma2ForCausalLM(CausalLM):
    """Gemma 2: soft caps on scores and logits, a window in every other layer (tied embeddings)."""

    model_class = Gemma2Model
    tied = True
