"""Mixtral: https://arxiv.org/abs/2401.04088."""

from fastkernels.runtime.model_config import num_experts
from fastkernels.runtime.weights import Stacked

from ..L2.fused_moe import FusedMoE
from ..L3.mixtral_decoder_layer import MixtralDecoderLayer
from ._decoder import CausalLM, DecoderModel


class MixtralModel(DecoderModel):
    """Mixtral without its output projection."""

    layer = MixtralDecoderLayer


class MixtralForCausalLM(CausalLM):
    """Mixtral: Mistral with experts in the place of the MLP."""

    model_class = MixtralModel

    def stacks(self) -> tuple[Stacked, ...]:
        """Attention's, and each expert's projections."""
        experts = FusedMoE.make_expert_params_mapping("w1", "w2", "w3", num_experts(self.config))
        return (*super().stacks(), *experts)

    def checkpoint_name(self, name: str) -> str | None:
        """The checkpoint calls the experts `block_sparse_moe`."""
        return super().checkpoint_name(name.replace(".block_sparse_moe.", ".mlp."))
