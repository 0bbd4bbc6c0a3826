"""GPT-OSS with unquantized experts: https://arxiv.org/abs/2508.10925."""

from ..L2.gpt_oss_moe import EXPERT_STACKS
from ..L3.gpt_oss_decoder_layer import TransformerBlock
from ._decoder import QKV, CausalLM, DecoderModel


class GptOssModel(DecoderModel):
    """GPT-OSS without its output projection."""

    layer = TransformerBlock


class GptOssForCausalLM(CausalLM):
    """GPT-OSS in a dtype that its experts' weights are computed in, as checkpoints in bfloat16 hold them."""

    model_class = GptOssModel
    stacked = (QKV, *EXPERT_STACKS)
