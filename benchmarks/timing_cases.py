"""Calls to time in `timing_aa`: operators on fixed shapes, several sets of inputs and weights each."""

import base64
import pickle
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch

from fastkernels.bench.timing.timer import Call

CUDA_CASES = (
    ("rms_norm_triton", 1, 4096), ("rms_norm_triton", 32, 4096), ("rms_norm_triton", 512, 4096),
    ("rms_norm_triton", 4096, 8192), ("rms_norm", 1, 4096), ("rms_norm", 32, 4096), ("rms_norm", 512, 4096),
    ("rms_norm", 4096, 8192), ("silu_mul", 32, 14336), ("silu_mul", 512, 14336), ("linear", 32, 4096),
    ("linear", 512, 4096),
)
CPU_CASES = (
    ("rms_norm", 1, 4096), ("rms_norm", 32, 4096), ("rms_norm", 512, 4096), ("silu_mul", 1, 14336),
    ("silu_mul", 32, 14336), ("linear", 1, 2048), ("linear", 32, 2048),
)
"""(operator, tokens, hidden size)."""
SETS = 4
"""Input sets and copies of the weights over which calls rotate."""
ARENA_BYTES = 2**31
_ALIGN = 2**21


class Arena:
    """Hands out memory: fresh allocations, or ever the same places of one block that both processes have mapped."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._block: torch.Tensor | None = None
        self._used = 0

    def share(self) -> str:
        """Make the block and return a handle for the other process."""
        self._block = torch.empty(ARENA_BYTES, dtype=torch.int8, device=self.device)
        return base64.b64encode(bytes(ForkingPickler.dumps(self._block))).decode()

    def attach(self, handle: str) -> None:
        """Map the other process's block."""
        self._block = pickle.loads(base64.b64decode(handle))

    def restart(self) -> None:
        """Hand out the block from its start again."""
        self._used = 0

    def random(self, *shape: int) -> torch.Tensor:
        """Normal bf16 values (float32 on a CPU)."""
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        values = torch.randn(*shape, device=self.device, dtype=dtype)
        if self._block is None:
            return values
        place = self._block[self._used : self._used + values.nbytes].view(dtype).view(shape)
        self._used += -(-values.nbytes // _ALIGN) * _ALIGN
        return place.copy_(values)


def make_call(case: Sequence[Any], arena: Arena) -> Call:
    """A call that rotates over SETS inputs and weights and keeps as many outputs alive."""
    name, tokens, hidden = case
    outputs: list[object] = [None] * SETS
    calls = [_MAKERS[name](tokens, hidden, arena) for _ in range(SETS)]

    def call(index: int) -> None:
        with torch.inference_mode():
            outputs[index % SETS] = calls[index % SETS]()

    for index in range(SETS):
        call(index)
    return call


def _rms_norm(tokens: int, hidden: int, arena: Arena) -> Callable[[], object]:
    x, weight = arena.random(tokens, hidden), arena.random(hidden)
    return lambda: torch.nn.functional.rms_norm(x, (hidden,), weight, 1e-5)


def _rms_norm_triton(tokens: int, hidden: int, arena: Arena) -> Callable[[], object]:
    from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm

    module = RMSNorm(hidden, 1e-5, torch.bfloat16).to(arena.device)
    module.weight.data = arena.random(hidden)
    x = arena.random(tokens, hidden)
    return lambda: module(x)


def _silu_mul(tokens: int, hidden: int, arena: Arena) -> Callable[[], object]:
    gate, up = arena.random(tokens, 2 * hidden).chunk(2, -1)
    return lambda: torch.nn.functional.silu(gate) * up


def _linear(tokens: int, hidden: int, arena: Arena) -> Callable[[], object]:
    x, weight = arena.random(tokens, hidden), arena.random(hidden, hidden)
    return lambda: torch.nn.functional.linear(x, weight)


_MAKERS = {"rms_norm": _rms_norm, "rms_norm_triton": _rms_norm_triton, "silu_mul": _silu_mul, "linear": _linear}
