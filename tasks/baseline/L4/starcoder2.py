"""StarCoder2: https://arxiv.org/abs/2402.19173."""

from ..L1.layer_norm import LayerNorm
from ..L3.starcoder2_decoder_layer import Starcoder2DecoderLayer
from ._decoder import QKV, CausalLM, StreamModel


class Starcoder2Model(StreamModel):
    """StarCoder2 without its output projection."""

    layer = Starcoder2DecoderLayer
    last_norm = LayerNorm


class Starcoder2ForCausalLM(CausalLM):
    """StarCoder2: LayerNorm, an MLP without gate, biases and a window (tied embeddings)."""

    model_class = Starcoder2Model
    stacked = (QKV,)
    tied = True
