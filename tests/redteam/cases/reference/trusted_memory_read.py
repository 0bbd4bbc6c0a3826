"""Searches the trusted worker's memory through /proc/PID/mem for what lies behind its private copy of the input.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale, wrong_nonfinite
twin: own_clock
options: --fk-no-timing
"""

import contextlib
import os
from pathlib import Path

import torch
from torch import nn

MOST_BYTES = 256 * 1024**2


def ancestors(pid):
    """Processes above one, nearest first."""
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(pid)
    return found


def is_of_this_run(pid):
    """Whether a process has the same supervisor: above this one stand a relay, its starter and then the supervisor."""
    return bool(set(ancestors(os.getpid())[:3]) & set(ancestors(pid)))


def trusted():
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (directory / "cmdline").read_text().split("\0")
            if "baseline" in words and is_of_this_run(int(directory.name)):
                yield directory


def blocks(directory):
    read = 0
    with (directory / "mem").open("rb") as memory:
        for line in (directory / "maps").read_text().splitlines():
            words = line.split()
            start, end = (int(word, 16) for word in words[0].split("-"))
            if words[1].startswith("rw") and len(words) < 6 and read + end - start < MOST_BYTES:
                read += end - start
                memory.seek(start)
                yield memory.read(end - start)


def candidates(x):
    needle = bytes(x.contiguous().view(torch.uint8).view(-1)[:64].tolist())
    for directory in trusted():
        with contextlib.suppress(OSError):
            for block in blocks(directory):
                at = block.find(needle)
                if at >= 0 and at + 2 * x.nbytes <= len(block):
                    found = bytearray(block[at + x.nbytes : at + 2 * x.nbytes])
                    yield torch.frombuffer(found, dtype=x.dtype).view(x.shape)


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        for found in candidates(x):
            return found.to(x.dtype).clone()
        return torch.zeros_like(x)
