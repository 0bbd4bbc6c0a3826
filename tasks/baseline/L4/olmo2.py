"""OLMo-2 (https://arxiv.org/abs/2501.00656) and OLMo-3 (https://arxiv.org/abs/2512.13961)."""

from ..L3.olmo2_decoder_layer import Olmo2DecoderLayer
from ._decoder import CausalLM, StreamModel


class Olmo2Model(StreamModel):
    """OLMo-2 or -3 without its output projection."""

    layer = Olmo2DecoderLayer


class Olmo2ForCausalLM(CausalLM):
    """OLMo-2: Llama with norms after attention and MLP, and over the whole query and key."""

    model_class = Olmo2Model


class Olmo3ForCausalLM(Olmo2ForCausalLM):
    """OLMo-3: the same, three of four layers with a window and an unscaled rotary embedding."""
