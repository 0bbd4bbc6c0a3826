"""A timer of the process's own lets it go on while it is held still, and a thread then works on the GPU.

seen: first here
target: L1/rms_norm
expect: timing_tampered
twin: triton_norm
needs: cuda
options: --fk-model=large
most_speedup: 1.1
"""

import ctypes
import signal
import threading
import time

import torch
import triton
import triton.language as tl
from torch import nn


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



class Event(ctypes.Structure):
    _fields_ = (("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int),
                ("pad", ctypes.c_int * 12))


def wake_for_ever():
    signal.signal(signal.SIGCONT, lambda *_: None)  # the kernel gives up timers whose signal is ignored
    libc, timer = ctypes.CDLL(None), ctypes.c_void_p()
    libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(Event(None, signal.SIGCONT, 0)), ctypes.byref(timer))
    every_ms = (ctypes.c_long * 4)(0, 1_000_000, 0, 1_000_000)
    libc.timer_settime(timer, 0, every_ms, None)


def hog():
    a = torch.randn(4096, 4096, dtype=torch.bfloat16, device="cuda")
    stream, end = torch.cuda.Stream(), time.monotonic() + 60
    while time.monotonic() < end:
        with torch.cuda.stream(stream):
            torch.mm(a, a)
        stream.synchronize()
        time.sleep(0.0005)


wake_for_ever()
threading.Thread(target=hog, daemon=True).start()


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        return norm(x, self.weight, self.eps)
