"""Tensor parallel rules, as vLLM applies them: what one rank holds of each dimension."""

from dataclasses import dataclass

from fastkernels.manifest.config import ModelConfig

VOCAB_PADDING = 64
"""vLLM pads the vocabulary to a multiple of this before sharding it."""


@dataclass(frozen=True)
class Shard:
    """One rank's sizes; what is not here (hidden size, router, norms) is replicated."""

    config: ModelConfig
    """The unsharded model."""
    tp: int
    """Tensor parallel degree."""

    @property
    def use(self) -> str:
        """`llama31-8b-tp2`."""
        return f"{self.config.name}-tp{self.tp}"

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.config.num_heads // self.tp

    @property
    def kv_heads(self) -> int:
        """Key and value heads; each is held by several ranks where there are fewer heads than ranks."""
        return max(1, self.config.num_kv_heads // self.tp)

    @property
    def q_size(self) -> int:
        """Width of the query."""
        return self.heads * self.config.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the key, and of the value."""
        return self.kv_heads * self.config.head_dim

    @property
    def qkv_size(self) -> int:
        """Width of the fused projection that queries, keys and values are slices of."""
        return self.q_size + 2 * self.kv_size

    @property
    def latent_size(self) -> int:
        """Width of the projection that latents and the rotated part of keys are slices of; 0 without latents."""
        latent = self.config.latent
        return latent.q_lora_rank + latent.kv_lora_rank + latent.qk_rope_head_dim if latent else 0

    @property
    def intermediate_size(self) -> int:
        """Width of the dense MLP."""
        return self.config.intermediate_size // self.tp

    @property
    def expert_size(self) -> int:
        """Width of one expert."""
        return self.config.expert_size // self.tp

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding and of lm_head."""
        padded = -(-self.config.vocab_size // VOCAB_PADDING) * VOCAB_PADDING
        return padded // self.tp


def divides(config: ModelConfig, tp: int) -> bool:
    """Return whether vLLM can run this model at this TP degree."""
    kv_fits = config.num_kv_heads % tp == 0 or tp % config.num_kv_heads == 0
    padded = Shard(config, 1).vocab_size
    widths = (config.num_heads, config.intermediate_size, config.expert_size, padded)
    return kv_fits and all(width % tp == 0 for width in widths)
