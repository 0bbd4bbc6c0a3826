"""Compiles its kernel with a C compiler in a subprocess and loads it.

target: L1/rms_norm
"""

import ctypes
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import nn

SOURCE = """
#include <math.h>
void norm(const float *x, const float *w, float *y, long rows, long n, double eps) {
    for (long r = 0; r < rows; r++) {
        double sum = 0;
        for (long i = 0; i < n; i++) sum += (double)x[r * n + i] * x[r * n + i];
        float scale = 1.0 / sqrt(sum / n + eps);
        for (long i = 0; i < n; i++) y[r * n + i] = x[r * n + i] * scale * w[i];
    }
}
"""


def compiled():
    with tempfile.TemporaryDirectory() as directory:
        source, library = Path(directory) / "norm.c", Path(directory) / "norm.so"
        source.write_text(SOURCE)
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-lm"], check=True)
        return ctypes.CDLL(str(library))


KERNEL = compiled()


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        wide, weight = x.float().cpu().contiguous(), self.weight.float().cpu()
        output = torch.empty_like(wide)
        pointers = (ctypes.c_void_p(t.data_ptr()) for t in (wide, weight, output))
        rows = wide.numel() // wide.shape[-1]
        KERNEL.norm(*pointers, ctypes.c_long(rows), ctypes.c_long(wide.shape[-1]), ctypes.c_double(self.eps))
        return output.to(x.device, x.dtype)
