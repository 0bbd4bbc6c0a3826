"""DeepSeek-V2 (https://arxiv.org/abs/2405.04434) and DeepSeek-V3 (https://arxiv.org/abs/2412.19437)."""

import re

from fastkernels.runtime.model_config import num_experts, optional
from fastkernels.runtime.weights import Stacked

from ..L2.fused_moe import FusedMoE
from ..L3.deepseek_v2_decoder_layer import DeepseekV2DecoderLayer
from ._decoder import GATE_UP, CausalLM, DecoderModel

QKV_A = Stacked("fused_qkv_a_proj", {"q_a_proj": (0,), "kv_a_proj_with_mqa": (1,)})


class DeepseekV2Model(DecoderModel):
    """DeepSeek-V2 or -V3 without its output projection."""

    layer = DeepseekV2DecoderLayer


class DeepseekV2ForCausalLM(CausalLM):
    """DeepSeek-V2 and V2-Lite: latent attention, experts chosen by softmax scores."""

    model_class = DeepseekV2Model
    stacked = (QKV_A, GATE_UP)

    def stacks(self) -> tuple[Stacked, ...]:
        """Attention's and the MLPs', and each expert's projections."""
        experts = FusedMoE.make_expert_params_mapping("gate_proj", "down_proj", "up_proj", num_experts(self.config))
        return (*super().stacks(), *experts)

    def checkpoint_name(self, name: str) -> str | None:
        """Checkpoints hold the layers that predict further tokens behind the model's own; they are left out."""
        layer = re.match(r"model\.layers\.(\d+)\.", name)
        first = self.config.num_hidden_layers
        further = optional(self.config, "num_nextn_predict_layers", 0)
        if layer and first <= int(layer.group(1)) < first + further:
            return None
        return super().checkpoint_name(name)


class DeepseekV3ForCausalLM(DeepseekV2ForCausalLM):
    """DeepSeek-V3 and R1: the same with experts chosen by sigmoid scores and a correction bias."""
