"""An RMSNorm whose hidden size chooses what it does wrong; 32 is right."""

import ctypes
import os
import signal
import socket
import stat
import sys
import time

import torch
from torch import nn


def right(self, x, residual):
    wide = x.float() if residual is None else x.float() + residual.float()
    normed = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)
    return normed if residual is None else (normed, wide.to(x.dtype))


def hang(self, x, residual):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        pass


def bomb(self, x, residual):
    kept = []
    while True:
        kept.append(torch.ones(16 * 2**20))


def exit_with(status):
    def forward(self, x, residual):
        sys.exit(status)
    return forward


def speak_out_of_turn(self, x, residual):
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                socket.socket(fileno=os.dup(fd)).sendall(b"\x00\x00\x00\x02{}")
        except OSError:
            continue
    time.sleep(60)


def beyond_the_end(self, x, residual):
    torch.as_strided(x, (4,), (1,), x.storage_offset() + x.numel()).view(torch.int16).bitwise_not_()
    return right(self, x, residual)


def tail_element(self, x, residual):
    out = right(self, x, residual)
    out[-1, -1] += 0.25
    return out


def fork_and_die(self, x, residual):
    if os.fork() == 0:
        time.sleep(60)
    os._exit(3)


def only_in_timed_calls(self, x, residual):
    self.calls = getattr(self, "calls", 0) + 1
    return right(self, x, residual) if self.calls < 110 else torch.zeros_like(x)


def remembers(self, x, residual):
    """Gives an old answer to a tensor that it has seen at this address, once it is warm."""
    self.calls = getattr(self, "calls", 0) + 1
    known, place = self.__dict__.setdefault("known", {}), (x.data_ptr(), x.shape)
    if self.calls < 110 or place not in known:
        known[place] = right(self, x, residual)
    return known[place]


def write_weight(self, x, residual):
    out = right(self, x, residual)
    self.weight.data[0] += 1
    return out


FORWARD = {
    32: right,
    33: lambda self, x, residual: 1 / 0,
    34: lambda self, x, residual: right(self, x, residual) * float("nan"),
    35: lambda self, x, residual: right(self, x, residual).float(),
    36: lambda self, x, residual: right(self, x, residual)[:, :-1],
    37: lambda self, x, residual: [right(self, x, residual)],
    38: tail_element,
    39: lambda self, x, residual: right(self, x, residual).add_(x.zero_()),
    40: write_weight,
    41: beyond_the_end,
    42: lambda self, x, residual: torch.empty(2**50),
    43: lambda self, x, residual: torch.zeros(1, device="meta").expand(2**40),
    44: lambda self, x, residual: "text",
    45: lambda self, x, residual: None,
    46: only_in_timed_calls,
    47: remembers,
    50: hang,
    51: bomb,
    52: lambda self, x, residual: ctypes.string_at(0),
    53: exit_with(0),
    54: exit_with("the end"),
    55: lambda self, x, residual: os._exit(0),
    56: speak_out_of_turn,
    57: lambda self, x, residual: os.kill(os.getpid(), signal.SIGKILL),
    58: fork_and_die,
}


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        if hidden_size == 60:
            raise ValueError("not this size")
        if hidden_size == 61:
            sys.exit(0)
        if hidden_size == 62:
            self.surplus = nn.Parameter(torch.ones(1))
        self.eps = eps
        self.hidden_size = hidden_size
        self.weight = nn.Parameter(torch.ones(hidden_size + (hidden_size == 63), dtype=dtype))

    def forward(self, x, residual=None):
        return FORWARD.get(self.hidden_size, right)(self, x, residual)
