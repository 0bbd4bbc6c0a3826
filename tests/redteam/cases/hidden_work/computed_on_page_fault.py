"""A plain tensor over pages that are not there: a thread computes it at the first read of it (userfaultfd).

seen: first here
target: L1/rms_norm
expect: timing_tampered, too_fast, wrong_values, wrong_scale, wrong_nonfinite, forward_error, hung, init_error
twin: workspace_cache
options: --fk-timeout=20 --fk-model=large
"""

import ctypes
import fcntl
import mmap
import os
import struct
import threading
import time

import torch
from torch import nn

USERFAULTFD, USER_MODE_ONLY = 323, 1
API, REGISTER, COPY = 0xC018AA3F, 0xC020AA00, 0xC028AA03
PAGE = mmap.PAGESIZE
MOST_PENDING = 2048


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


def seconds(call, *args):
    started = time.perf_counter()
    call(*args)
    return time.perf_counter() - started


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._pending = {}
        self._honest_s = {}
        self._faults = ctypes.CDLL(None, use_errno=True).syscall(USERFAULTFD, USER_MODE_ONLY | os.O_CLOEXEC)
        if self._faults < 0:
            raise OSError("no userfaultfd here")
        fcntl.ioctl(self._faults, API, bytearray(struct.pack("QQQ", 0xAA, 0, 0)))
        threading.Thread(target=self._serve, daemon=True).start()

    def forward(self, x, residual=None):
        if x.shape not in self._honest_s:
            self._honest_s[x.shape] = min(seconds(norm, x, self.weight, self.eps) for _ in range(5))
        started = time.perf_counter()
        size = -(-x.nbytes // PAGE) * PAGE
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        output = torch.frombuffer(block, dtype=x.dtype, count=x.numel()).view(x.shape)
        fcntl.ioctl(self._faults, REGISTER, bytearray(struct.pack("QQQQ", output.data_ptr(), size, 1, 0)))
        if len(self._pending) > MOST_PENDING:
            self._pending.clear()
        self._pending[output.data_ptr()] = x, size
        while time.perf_counter() - started < self._honest_s[x.shape] / 20:  # no faster than the machine could be
            pass
        return output

    def _serve(self):
        while True:
            message = os.read(self._faults, 32)
            address = struct.unpack_from("Q", message, 16)[0]
            for start, (x, size) in list(self._pending.items()):
                if start <= address < start + size:
                    with torch.inference_mode():
                        values = torch.zeros(size, dtype=torch.uint8)
                        values[: x.nbytes] = norm(x, self.weight, self.eps).contiguous().view(torch.uint8).view(-1)
                    request = struct.pack("QQQQq", start, values.data_ptr(), size, 0, 0)
                    fcntl.ioctl(self._faults, COPY, bytearray(request))
                    del self._pending[start]
