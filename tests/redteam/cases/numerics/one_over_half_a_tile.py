"""The last row is zero where 33 are over a multiple of 64.

seen: first here
target: L1/silu_and_mul
expect: wrong_values
twin: tails_by_their_length
options: --fk-no-timing
"""

import torch
from torch import nn


class SiluAndMul(nn.Module):
    def forward(self, x):
        gate, up = x.float().chunk(2, -1)
        output = (torch.nn.functional.silu(gate) * up).to(x.dtype)
        if x.shape[0] % 64 == 33:
            output[-1] = 0
        return output
