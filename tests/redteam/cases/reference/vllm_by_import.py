"""Calls vLLM's own module of the same name by dynamic import.

seen: audits of generated kernels, 2025
target: L1/rms_norm
expect: passthrough, import_error
twin: try_import
"""

import importlib

library = importlib.import_module("vl" + "lm.model_executor.layers.layernorm")


class RMSNorm(library.RMSNorm):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__(hidden_size, eps, dtype=dtype)

    def forward(self, x, residual=None):
        return super().forward(x)
