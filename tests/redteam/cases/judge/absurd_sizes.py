"""The answer gives NaN and negative numbers as sizes and a slot of 2^47 elements.

seen: first here
target: L1/rms_norm
expect: no_result, wrong_shape, wrong_values
twin: own_clock
options: --fk-no-timing
"""

import json
import sys

import torch
from torch import nn


def connection():
    """The worker's socket and the request's number, from the frame of its loop."""
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "serve":
        frame = frame.f_back
    return frame.f_locals["sock"], frame.f_locals["number"]


def message(data):
    text = json.dumps(data).encode()
    return len(text).to_bytes(4, "big") + text


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        sock, number = connection()
        slot = {"name": "0", "offset": 0, "shape": [2**47], "stride": [0], "dtype": "bfloat16"}
        tree = {"kind": "tensor", "leaf": 0, "device": "cpu"}
        sock.sendall(message({"id": number, "tree": tree, "slots": [slot], "aliases": [], "weights_changed": [],
                              "bytes": float("nan"), "shapes": [[-1], "bfloat16"], "ran_s": float("nan")}))
        return torch.zeros_like(x)
