"""Derives its class from the baseline's and adds nothing.

seen: KernelBench audits, 2025
target: L1/rms_norm
expect: passthrough, import_error
twin: composed_block
"""

import sys

__import__("fastkernels.tasks." + "baseline.L1.rms_norm")
baseline = sys.modules["fastkernels.tasks." + "baseline.L1.rms_norm"]


class RMSNorm(baseline.RMSNorm):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__(hidden_size, eps, dtype)

    def forward(self, x, residual=None):
        return super().forward(x) if residual is None else super().forward(x, residual)
