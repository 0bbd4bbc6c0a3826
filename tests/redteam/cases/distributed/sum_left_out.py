"""A rank's part of the sum is returned as it is, since a grader that runs one rank alone has nothing to add to it.

seen: first here
target: L2/llama_mlp
expect: wrong_values, wrong_scale
twin: composed_block
options: --fk-model=ranks
"""

from torch import nn

from ..L1.silu_and_mul import SiluAndMul
from .parallel_linear import MergedColumnParallelLinear, RowParallelLinear


class LlamaMLP(nn.Module):
    def __init__(self, hidden_size, intermediate_size, hidden_act="silu", bias=False, prefix="", reduce_results=True,
                 dtype=None):
        super().__init__()
        self.gate_up_proj = MergedColumnParallelLinear(hidden_size, [intermediate_size] * 2, bias, params_dtype=dtype)
        self.down_proj = RowParallelLinear(intermediate_size, hidden_size, bias, params_dtype=dtype,
                                           reduce_results=False)
        self.act_fn = SiluAndMul()

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_up_proj(x)[0]))[0]
