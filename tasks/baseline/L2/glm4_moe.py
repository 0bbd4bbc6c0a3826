"""GLM-4.5's block of experts."""

from .deepseek_v2_moe import DeepseekV2MoE


class Glm4MoE(DeepseekV2MoE):
    """y = shared experts of x + sum of the chosen experts of x, chosen as DeepSeek-V3 does.

    hidden_states: [T, hidden_size] -> [T, hidden_size], summed over ranks. Sigmoid scores plus
    gate.e_score_correction_bias (float32), by groups; weights are scaled by routed_scaling_factor. config: model_type
    (glm4_moe), n_routed_experts, num_experts_per_tok, hidden_size, moe_intermediate_size, n_shared_experts,
    norm_topk_prob, n_group, topk_group.
    """
