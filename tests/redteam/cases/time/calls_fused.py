"""All calls of a section are made at once, in one launch over all of their inputs.

seen: first here
target: L1/rms_norm
expect: mutated_input, wrong_values, wrong_scale, timing_tampered, too_fast
twin: triton_norm
needs: cuda
options: --fk-model=large
most_speedup: 1.1
"""

import torch
import triton
import triton.language as tl
from torch import nn

from fastkernels.bench.isolate.sections import side


@triton.jit
def kernel(x, weight, out, eps, HIDDEN: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * HIDDEN
    col = tl.arange(0, HIDDEN)
    row = tl.load(x + start + col).to(tl.float32)
    row *= tl.rsqrt(tl.sum(row * row) / HIDDEN + eps)
    tl.store(out + start + col, (row * tl.load(weight + col).to(tl.float32)).to(out.dtype.element_ty))


def norm(x, weight, eps):
    x, out = x.contiguous(), torch.empty_like(x)
    kernel[(x.numel() // x.shape[-1],)](x, weight, out, eps, HIDDEN=x.shape[-1], num_warps=8)
    return out


ROOMS = []
init, one_by_one = side.SectionSide.__init__, side.Calls._all


def remember(self, room, *rest):
    ROOMS.append(room)
    init(self, room, *rest)


def at_once(self):
    if self.link is None:
        return one_by_one(self)
    with torch.inference_mode():
        x = ROOMS[-1].stack("x")[:self.count]
        self.outputs = list(norm(x, MODULES[-1].weight, MODULES[-1].eps).unbind(0))


side.SectionSide.__init__, side.Calls._all = remember, at_once
MODULES = []


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        MODULES.append(self)

    def forward(self, x, residual=None):
        return norm(x, self.weight, self.eps)
