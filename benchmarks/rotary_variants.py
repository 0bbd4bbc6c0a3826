"""Rotary embeddings of known precision, honest and not, for tolerances.py and its test.

The heads are rotated in 48 of 64 elements, by angles that Llama 3's scaling gives.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from fastkernels.tasks.baseline.L1.rotary_emb import RotaryEmbedding, llama3_frequencies

Pair = tuple[torch.Tensor, torch.Tensor]
HEAD, ROTATED, POSITIONS, BASE = 64, 48, 32768, 500000.0
QUERY, KEY = 8 * HEAD, 2 * HEAD
SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192}
FP8 = torch.float8_e4m3fn


def build(dtype: torch.dtype, **changes: Any) -> RotaryEmbedding:
    """The operator, or one with other arguments."""
    given = {"head_size": HEAD, "rotary_dim": ROTATED, "max_position_embeddings": POSITIONS, "base": BASE,
             "dtype": dtype, "rope_scaling": SCALING}
    return RotaryEmbedding(**{**given, **changes})


def products_rounded(first: torch.Tensor, second: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
    """Every product and sum in half precision: Hugging Face, vLLM's CUDA kernel, Conch."""
    return first * cos - second * sin, second * cos + first * sin


def one_product_rounded(first: torch.Tensor, second: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
    """The other one is fused with the sum, as compilers make of the same formula: Liger."""
    a, b, c = (x.float() for x in (first, second, cos))
    return ((a * c - (second * sin).float()).to(first.dtype), (b * c + (first * sin).float()).to(first.dtype))


def in_float32(first: torch.Tensor, second: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
    """Rounded once."""
    a, b, c, s = (x.float() for x in (first, second, cos, sin))
    return (a * c - b * s).to(first.dtype), (b * c + a * s).to(first.dtype)


def turned_back(first: torch.Tensor, second: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
    """The sign of the sine flipped."""
    return in_float32(first, second, cos, -sin)


def halves_swapped(first: torch.Tensor, second: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
    """The two results in each other's place."""
    a, b = in_float32(first, second, cos, sin)
    return b, a


def last_pair_left(first: torch.Tensor, second: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
    """The last pair of every head is not rotated."""
    a, b = in_float32(first, second, cos, sin)
    a[..., -1], b[..., -1] = first[..., -1], second[..., -1]
    return a, b


def rotation(
    formula: Callable[..., Pair] = in_float32, table: Callable[[RotaryEmbedding], torch.Tensor] | None = None,
    later: int = 0, through: torch.dtype | None = None, interleaved: bool = False, width: int = ROTATED,
) -> Callable[..., Pair]:
    """A kernel with this formula and table; `later`: positions off; `through`: a dtype that heads pass through."""

    def kernel(module: RotaryEmbedding, positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> Pair:
        known = module.cos_sin_cache if table is None else table(module)
        rows = known[(positions + later) % len(known)].unsqueeze(1)
        return rotated(query, rows), rotated(key, rows)

    def rotated(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        heads = x.reshape(x.shape[0], -1, HEAD)
        heads = heads if through is None else heads.clamp(-448, 448).to(through).to(x.dtype)
        turned, kept = heads[..., :width], heads[..., width:]
        first, second = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, dim=-1)
        cos, sin = rows.chunk(2, dim=-1)
        pair = formula(first, second, cos, sin)
        joined = torch.stack(pair, dim=-1).flatten(-2) if interleaved else torch.cat(pair, dim=-1)
        return torch.cat((joined, kept), dim=-1).reshape(x.shape)

    return kernel


def of_float64(module: RotaryEmbedding) -> torch.Tensor:
    """Cosines and sines of angles in float64, rounded once: nearer to the truth than the operator's own."""
    return _exact().to(module.cos_sin_cache.dtype)


@cache
def _exact() -> torch.Tensor:
    exponents = torch.arange(0, ROTATED, 2, dtype=torch.float64) / ROTATED
    return _table(llama3_frequencies(BASE**-exponents, SCALING), torch.float64)


def of_rounded_frequencies(module: RotaryEmbedding) -> torch.Tensor:
    """Frequencies in half precision."""
    dtype = module.cos_sin_cache.dtype
    return _table(module.inverse_frequencies().to(dtype).float(), torch.float32).to(dtype)


def of_rounded_positions(module: RotaryEmbedding) -> torch.Tensor:
    """Positions in half precision."""
    dtype = module.cos_sin_cache.dtype
    return _table(module.inverse_frequencies(), dtype).to(dtype)


def of_other(**changes: Any) -> Callable[[RotaryEmbedding], torch.Tensor]:
    """The table of an operator with other arguments."""
    return lambda module: build(module.cos_sin_cache.dtype, **changes).cos_sin_cache


def in_fp8(module: RotaryEmbedding) -> torch.Tensor:
    """The operator's own through fp8."""
    return module.cos_sin_cache.to(FP8).to(module.cos_sin_cache.dtype)


def _table(frequencies: torch.Tensor, counted_in: torch.dtype) -> torch.Tensor:
    angles = torch.outer(torch.arange(POSITIONS).to(counted_in).to(frequencies.dtype), frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
ROTARY: tuple[tuple[str, torch.dtype, Callable[..., Pair], bool], ...] = (
    ("float32 inside", BF16, rotation(), True),
    ("products rounded (Hugging Face, vLLM)", BF16, rotation(products_rounded), True),
    ("one product rounded (Liger)", BF16, rotation(one_product_rounded), True),
    ("table of float64 angles", BF16, rotation(table=of_float64), True),
    ("the same, products rounded", BF16, rotation(products_rounded, of_float64), True),
    ("products rounded", FP16, rotation(products_rounded), True),
    ("table of float64 angles", FP32, rotation(table=of_float64), True),
    ("heads through fp8", BF16, rotation(through=FP8), False),
    ("table through fp8", BF16, rotation(table=in_fp8), False),
    ("frequencies in bf16", BF16, rotation(table=of_rounded_frequencies), False),
    ("positions in bf16", BF16, rotation(table=of_rounded_positions), False),
    ("another base", BF16, rotation(table=of_other(base=10000.0)), False),
    ("a base 0.1 % off", BF16, rotation(table=of_other(base=BASE * 1.001)), False),
    ("no scaling", BF16, rotation(table=of_other(rope_scaling=None)), False),
    ("a factor 2 % off", BF16, rotation(table=of_other(rope_scaling={**SCALING, "factor": 8.16})), False),
    ("one position on", BF16, rotation(later=1), False),
    ("halves swapped", BF16, rotation(halves_swapped), False),
    ("sign flipped", BF16, rotation(turned_back), False),
    ("interleaved", BF16, rotation(interleaved=True), False),
    ("last pair left", BF16, rotation(last_pair_left), False),
    ("whole heads rotated", BF16, rotation(table=of_other(rotary_dim=HEAD), width=HEAD), False),
)
"""(name, dtype, kernel, whether grading must pass it)."""
