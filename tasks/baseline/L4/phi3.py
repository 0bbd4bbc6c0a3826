"""Phi-3 (https://arxiv.org/abs/2404.14219) and Phi-4 (https://arxiv.org/abs/2412.08905)."""

from ..L3.llama_decoder_layer import LlamaDecoderLayer
from ._decoder import CausalLM, DecoderModel


class Phi3Model(DecoderModel):
    """Phi-3 without its output projection."""

    layer = LlamaDecoderLayer


class Phi3ForCausalLM(CausalLM):
    """Phi-3 and Phi-4: Llama, whose fused projections the checkpoint stores as one tensor each."""

    model_class = Phi3Model
    stacked = ()
