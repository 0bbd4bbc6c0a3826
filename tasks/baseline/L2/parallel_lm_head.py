"""Output projection to a vocabulary that is shared out to the tensor parallel ranks."""

import torch

from fastkernels.runtime.weights import set_weight_loader

from ..L1.linear import Linear
from ._vocab_shard import VocabShard
from .vocab_parallel_embedding import VocabParallelEmbedding


class ParallelLMHead(Linear):
    """logits = hidden_states @ weight.T + bias, of this rank's share of the padded vocabulary.

    hidden_states: [T, embedding_dim] -> [T, padded vocabulary / tp]; the model gathers the ranks' parts and cuts the
    padding off. In vLLM the logits processor multiplies by this module's weight instead.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, bias: bool = False, params_dtype: torch.dtype | None = None,
        padding_size: int = 64, prefix: str = "",
    ) -> None:  # fmt: skip
        shard = VocabShard(num_embeddings, padding_size)
        super().__init__(embedding_dim, shard.rows, bias, params_dtype)
        self.shard = shard
        self.prefix = prefix
        set_weight_loader(self.weight, shard.load, lambda: (num_embeddings, embedding_dim))
        if self.bias is not None:
            set_weight_loader(self.bias, shard.load, lambda: (num_embeddings,))

    def tie_weights(self, embed_tokens: VocabParallelEmbedding) -> "ParallelLMHead":
        """Use the embedding's weight; returns this module."""
        self.weight = embed_tokens.weight
        return self

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """One call of L1's linear."""
        logits: torch.Tensor = super().forward(hidden_states)
        return logits
