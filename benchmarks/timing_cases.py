"""Calls to time in `timing_aa`: operators on fixed shapes, several sets of inputs and weights each."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fastkernels.bench.timing.timer import Call

CASES = (
    ("rms_norm", 1, 4096), ("rms_norm", 32, 4096), ("rms_norm", 512, 4096), ("silu_mul", 1, 14336),
    ("silu_mul", 32, 14336), ("linear", 1, 2048), ("linear", 32, 2048),
)
"""(operator, tokens, hidden size)."""
SETS = 4
"""Input sets and copies of the weights over which calls rotate."""


def make_call(case: Sequence[Any]) -> Call:
    """A call that rotates over SETS inputs and weights and keeps as many outputs alive."""
    name, tokens, hidden = case
    outputs: list[object] = [None] * SETS
    calls = [_MAKERS[name](tokens, hidden) for _ in range(SETS)]

    def call(index: int) -> None:
        with torch.inference_mode():
            outputs[index % SETS] = calls[index % SETS]()

    for index in range(SETS):
        call(index)
    return call


def _rms_norm(tokens: int, hidden: int) -> Callable[[], object]:
    x, weight = torch.randn(tokens, hidden), torch.randn(hidden)
    return lambda: torch.nn.functional.rms_norm(x, (hidden,), weight, 1e-5)


def _silu_mul(tokens: int, hidden: int) -> Callable[[], object]:
    gate, up = torch.randn(tokens, 2 * hidden).chunk(2, -1)
    return lambda: torch.nn.functional.silu(gate) * up


def _linear(tokens: int, hidden: int) -> Callable[[], object]:
    x, weight = torch.randn(tokens, hidden), torch.randn(hidden, hidden)
    return lambda: torch.nn.functional.linear(x, weight)


_MAKERS = {"rms_norm": _rms_norm, "silu_mul": _silu_mul, "linear": _linear}
