"""GLM-4.5: https://arxiv.org/abs/2508.06471."""

from ..L3.glm4_moe_decoder_layer import Glm4MoeDecoderLayer
from ._decoder import GATE_UP, QKV, DecoderModel
from .deepseek_v2 import DeepseekV2ForCausalLM


class Glm4MoeModel(DecoderModel):
    """GLM-4.5 without its output projection."""

    layer = Glm4MoeDecoderLayer


class Glm4MoeForCausalLM(DeepseekV2ForCausalLM):
    """GLM-4.5 and GLM-4.5-Air: DeepSeek-V3's experts behind grouped-query attention."""

    model_class = Glm4MoeModel
    stacked = (QKV, GATE_UP)
