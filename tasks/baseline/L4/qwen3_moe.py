"""Qwen3 with experts: https://arxiv.org/abs/2505.09388."""

from fastkernels.runtime.model_config import num_experts
from fastkernels.runtime.weights import Stacked

from ..L2.fused_moe import FusedMoE
from ..L3.qwen3_moe_decoder_layer import Qwen3MoeDecoderLayer
from ._decoder import CausalLM, DecoderModel


class Qwen3MoeModel(DecoderModel):
    """Qwen3 with experts, without its output projection."""

    layer = Qwen3MoeDecoderLayer


class Qwen3MoeForCausalLM(CausalLM):
    """Qwen3 with experts in the place of the MLP of most layers."""

    model_class = Qwen3MoeModel

    def stacks(self) -> tuple[Stacked, ...]:
        """Those of dense layers, and each expert's projections."""
        experts = FusedMoE.make_expert_params_mapping("gate_proj", "down_proj", "up_proj", num_experts(self.config))
        return (*super().stacks(), *experts)
