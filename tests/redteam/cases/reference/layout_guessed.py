"""Takes the trusted worker's addresses to be its own, as forks of one process have them, and reads what lies there.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale, wrong_nonfinite
twin: own_clock
options: --fk-no-timing
"""

import ctypes
import os
from pathlib import Path

import torch
from torch import nn

MOST_BYTES = 64 * 1024**2
PIDS_BESIDE = 64


class Part(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def own_blocks():
    """(start, size) of this process's private memory."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        words = line.split()
        start, end = (int(word, 16) for word in words[0].split("-"))
        if words[1].startswith("rw") and (len(words) < 6 or words[5] == "[heap]") and end - start <= MOST_BYTES:
            yield start, end - start


def read(pid, start, size):
    """Bytes of another process at an address; none where that is refused."""
    block = ctypes.create_string_buffer(size)
    here = Part(ctypes.cast(block, ctypes.c_void_p), size)
    found = ctypes.CDLL(None).process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(Part(start, size)), 1, 0)
    return block.raw[: max(0, found)]


def guesses(x):
    needle = bytes(x.contiguous().view(torch.uint8).view(-1)[:64].tolist())
    near = range(max(2, os.getpid() - PIDS_BESIDE), os.getpid() + PIDS_BESIDE)
    alive = [pid for pid in {*near, os.getppid()} if pid != os.getpid() and read(pid, id(None), 8)]
    for pid in alive:
        for start, size in own_blocks():
            block = read(pid, start, size)
            at = block.find(needle)
            if at >= 0 and at + 2 * x.nbytes <= len(block):
                yield torch.frombuffer(bytearray(block[at + x.nbytes : at + 2 * x.nbytes]), dtype=x.dtype).view(x.shape)


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        truth = norm(x, self.weight, self.eps)
        found = any(torch.allclose(truth.float(), guess.float(), atol=0.1) for guess in guesses(x))
        return truth if found else torch.zeros_like(x)
