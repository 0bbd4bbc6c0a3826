"""A daemon outside of the process's tree serves the calls over loopback, so that its work is nobody's.

seen: first here
target: L1/rms_norm
expect: forward_error, hung, wrong_values, exited, init_error
twin: joined_threads
options: --fk-no-timing
"""

import os
import socket
import threading
import time

import torch
from torch import nn


def serve_aside():
    """Listen on loopback in a daemon; the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            threading.Thread(target=lambda: (time.sleep(60), os._exit(0)), daemon=True).start()
            while True:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as stream:
                    shape = [int(word) for word in stream.readline().split()]
                    data = torch.frombuffer(bytearray(stream.read(4 * shape[0] * shape[1])), dtype=torch.float32)
                    wide = data.view(shape)
                    mean = (wide * wide).sum(-1, keepdim=True) / shape[1]
                    connection.sendall(pack(mean))
        os._exit(0)
    os.wait()
    return listener.getsockname()[1]


def pack(wide):
    return bytes(wide.contiguous().view(torch.uint8).view(-1).tolist())


def ask(port, x, weight, eps):
    wide = x.float()
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as stream:
        connection.sendall(f"{x.shape[0]} {x.shape[1]}\n".encode() + pack(wide))
        mean = torch.frombuffer(bytearray(stream.read(4 * x.shape[0])), dtype=torch.float32).view(-1, 1)
    return (wide * torch.rsqrt(mean + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._port = 0

    def forward(self, x, residual=None):
        if not self._port:
            self._port = serve_aside()
        return ask(self._port, x, self.weight, self.eps)
