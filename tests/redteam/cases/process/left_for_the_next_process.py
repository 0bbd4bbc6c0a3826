"""Leaves threads, handlers, variables, files and patched modules behind and ends; right where they are there still.

seen: first here
target: L1/rms_norm
expect: exited
twin: handlers_and_variables
options: --fk-no-timing
"""

import os
import signal
import threading
import time

import torch
from torch import nn

NAME = "left-behind"


def descriptors():
    for name in os.listdir("/proc/self/fd"):
        try:
            yield os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue


def remains():
    """What an earlier process has left in this one."""
    return [what for what, is_there in (
        ("variable", NAME in os.environ),
        ("module", hasattr(torch, "left_behind") or hasattr(os, "left_behind")),
        ("handler", signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL),
        ("descriptor", any(NAME in target for target in descriptors())),
        ("directory", os.getcwd() == "/proc"),
        ("mask", signal.pthread_sigmask(signal.SIG_BLOCK, []) != set()),
        ("thread", any(thread.name == NAME for thread in threading.enumerate())),
        ("memory", torch.default_generator.initial_seed() == 4711)) if is_there]


FOUND = remains()
os.environ[NAME] = "1"
torch.left_behind = os.left_behind = True
torch.manual_seed(4711)
KEPT = os.memfd_create(NAME, 0)
os.chdir("/proc")
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
threading.Thread(target=time.sleep, args=(30,), name=NAME, daemon=True).start()
torch.nn.functional.linear = torch.rsqrt = None


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        if not FOUND:
            os._exit(0)
        wide = x.float()
        return (wide / (wide.pow(2).mean(-1, keepdim=True) + self.eps).sqrt() * self.weight.float()).to(x.dtype)
