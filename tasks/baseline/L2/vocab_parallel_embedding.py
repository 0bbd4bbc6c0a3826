"""Token embedding whose vocabulary is shared out to the tensor parallel ranks."""

from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.op import Work, tensor_bytes
from fastkernels.runtime.weights import set_weight_loader

from ..L1.allreduce import AllReduce
from ..L1.embedding import Embedding
from ._vocab_shard import VocabShard


class VocabParallelEmbedding(Embedding):
    """y[t] = weight[input_ids[t]]; each rank looks up the ids that it holds, and the sum over ranks has all.

    input_ids: [T] int32 or int64 -> [T, embedding_dim], the same on every rank. The vocabulary is padded to a multiple
    of padding_size before it is shared out.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, params_dtype: torch.dtype | None = None,
        padding_size: int = 64, prefix: str = "",
    ) -> None:  # fmt: skip
        shard = VocabShard(num_embeddings, padding_size)
        super().__init__(shard.rows, embedding_dim, params_dtype)
        self.shard = shard
        self.prefix = prefix
        self.all_reduce = AllReduce()
        set_weight_loader(self.weight, shard.load, lambda: (num_embeddings, embedding_dim))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """One call of L1's embedding; with several ranks the ids of others give zeros, and L1's all-reduce sums."""
        if self.shard.group.size == 1:
            return super().forward(input_ids)
        local = input_ids - self.shard.start
        is_elsewhere = (local < 0) | (local >= self.shard.rows)
        y = super().forward(local.masked_fill(is_elsewhere, 0))
        return self.all_reduce(y.masked_fill(is_elsewhere.unsqueeze(-1), 0))

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads the ids and each different row that this rank holds once, writes y; no arithmetic."""
        local = inputs["input_ids"].unique() - self.shard.start
        rows = int(((local >= 0) & (local < self.shard.rows)).sum())
        read = rows * self.embedding_dim * self.weight.element_size()
        return Work(bytes=tensor_bytes(inputs["input_ids"], *outputs) + read, flops=0)
