"""The first half of the input serves as the output's memory.

seen: first here
target: L1/silu_and_mul
expect: aliased_output, mutated_input
twin: inductor
options: --fk-no-timing
"""

from torch import nn


class SiluAndMul(nn.Module):
    def forward(self, x):
        gate, up = x.chunk(2, dim=-1)
        gate.copy_((nn.functional.silu(gate.float()) * up.float()).to(x.dtype))
        return gate
