"""DeepSeek's first projections of latent attention, fused into one product."""

import torch

from fastkernels.runtime.parallel import OneRank, set_tp_group

from .parallel_linear import MergedColumnParallelLinear


class DeepSeekV2FusedQkvAProjLinear(MergedColumnParallelLinear):
    """The projections to the latents of queries and of keys and values as one product, whole on every rank.

    x: [T, input_size] -> ([T, sum(output_size)], None). The loader's shard is the part's place in output_size.
    """

    def __init__(
        self, input_size: int, output_size: list[int], prefix: str = "", bias: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        with set_tp_group(OneRank()):
            super().__init__(input_size, output_size, bias, params_dtype=dtype, prefix=prefix)
