"""Rotary position embedding of queries and keys."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from fastkernels.runtime.jit import tl, triton
from fastkernels.runtime.op import Op, Work, tensor_bytes

ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn", "deepseek_yarn")
YARN_TYPES = ("yarn", "deepseek_yarn")

ANGLE_ERROR = 2.0**-22
"""Relative error of a float32 angle beside one of float64: power, scaling and product are rounded, 0.03 at position
131071. The exponent's rounding adds a quarter of it for each unit of the frequency's logarithm."""


@triton.jit
def head_pointers(
    x_ptr, x_head, head, HEADS: tl.constexpr, BLOCK: tl.constexpr, HALF: tl.constexpr, HALF_BLOCK: tl.constexpr,
    NEOX: tl.constexpr,
):
    """Pointers and mask of BLOCK heads of the token at x_ptr: their first halves (NEOX) or all rotated elements."""
    head = head + tl.arange(0, BLOCK)[:, None]
    dim = tl.arange(0, HALF_BLOCK if NEOX else 2 * HALF_BLOCK)[None, :]
    return x_ptr + head * x_head + dim, (head < HEADS) & (dim < (HALF if NEOX else 2 * HALF))


@triton.jit
def load_pairs(ptrs, mask, BLOCK: tl.constexpr, HALF: tl.constexpr, HALF_BLOCK: tl.constexpr, NEOX: tl.constexpr):
    """The two elements of every pair: [BLOCK, HALF_BLOCK] each."""
    if NEOX:
        first = tl.load(ptrs, mask=mask, other=0.0)
        second = tl.load(ptrs + HALF, mask=mask, other=0.0)
    else:
        pairs = tl.load(ptrs, mask=mask, other=0.0)
        first, second = tl.split(tl.reshape(pairs, (BLOCK, HALF_BLOCK, 2)))
    return first, second


@triton.jit
def store_rotated(
    ptrs, mask, first, second, cos, sin, BLOCK: tl.constexpr, HALF: tl.constexpr, HALF_BLOCK: tl.constexpr,
    NEOX: tl.constexpr,
):
    """Write (a cos - b sin, b cos + a sin) over the pairs (a, b), in float32 until then."""
    dtype = first.dtype
    a, b = first.to(tl.float32), second.to(tl.float32)
    first, second = (a * cos - b * sin).to(dtype), (b * cos + a * sin).to(dtype)
    if NEOX:
        tl.store(ptrs, first, mask=mask)
        tl.store(ptrs + HALF, second, mask=mask)
    else:
        tl.store(ptrs, tl.reshape(tl.join(first, second), (BLOCK, 2 * HALF_BLOCK)), mask=mask)


@triton.jit
def rotary_emb_kernel(
    positions_ptr, query_ptr, key_ptr, cache_ptr, query_row, query_head, key_row, key_head, Q_HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr, HALF: tl.constexpr, HALF_BLOCK: tl.constexpr, GROUPS: tl.constexpr,
    Q_BLOCK: tl.constexpr, KV_BLOCK: tl.constexpr, NEOX: tl.constexpr,
):
    """Rotate Q_BLOCK query and KV_BLOCK key heads of one token a program, in place.

    Queries and keys are asked for before the cache row, whose address waits for the position.
    """
    token = (tl.program_id(0) // GROUPS).to(tl.int64)
    group = tl.program_id(0) % GROUPS
    position = tl.load(positions_ptr + token).to(tl.int64)
    q_ptrs, q_mask = head_pointers(
        query_ptr + token * query_row, query_head, group * Q_BLOCK, Q_HEADS, Q_BLOCK, HALF, HALF_BLOCK, NEOX
    )
    k_ptrs, k_mask = head_pointers(
        key_ptr + token * key_row, key_head, group * KV_BLOCK, KV_HEADS, KV_BLOCK, HALF, HALF_BLOCK, NEOX
    )
    q_first, q_second = load_pairs(q_ptrs, q_mask, Q_BLOCK, HALF, HALF_BLOCK, NEOX)
    k_first, k_second = load_pairs(k_ptrs, k_mask, KV_BLOCK, HALF, HALF_BLOCK, NEOX)
    dim = tl.arange(0, HALF_BLOCK)[None, :]
    row = cache_ptr + position * (2 * HALF) + dim
    cos = tl.load(row, mask=dim < HALF, other=0.0).to(tl.float32)
    sin = tl.load(row + HALF, mask=dim < HALF, other=0.0).to(tl.float32)
    store_rotated(q_ptrs, q_mask, q_first, q_second, cos, sin, Q_BLOCK, HALF, HALF_BLOCK, NEOX)
    store_rotated(k_ptrs, k_mask, k_first, k_second, cos, sin, KV_BLOCK, HALF, HALF_BLOCK, NEOX)


GROUPS, NUM_WARPS = 4, 1
"""Programs a token, warps a program. H200, bf16, 32 + 8 heads x 128, sweep of 1, 2, 4, 8 each: 1.5, 1.9, 4.5 and
22.7 us at 1, 32, 512 and 4096 tokens; the best of every column is within 3 % of that."""
MANY_TOKENS, LEAST_HEADS = 1024, 8
"""From so many tokens on a program has so many query heads, or all: 32768 programs took 21.3 us with one head each,
21.7 with two and 23.5 with four, whose bytes take 5, 10 and 20 us (H200, 8192 tokens)."""


def programs_a_token(tokens: int, q_heads: int) -> int:
    """GROUPS, or fewer where heads are few."""
    return min(GROUPS, q_heads if tokens < MANY_TOKENS else max(1, q_heads // LEAST_HEADS))


def llama3_frequencies(inv_freq: torch.Tensor, scaling: Mapping[str, Any]) -> torch.Tensor:
    """Llama 3's scaling: long wavelengths divided by `factor`, short ones kept, those between blended linearly."""
    original = scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    wavelength = 2 * math.pi / inv_freq
    smooth = ((original / wavelength - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * inv_freq / scaling["factor"] + smooth * inv_freq


def yarn_frequencies(inv_freq: torch.Tensor, base: float, scaling: Mapping[str, Any]) -> torch.Tensor:
    """YaRN's scaling (Peng et al., 2023): of the original context, pairs that turn over beta_fast times keep their
    frequency, those under beta_slow times have it divided by `factor`, those between are blended linearly in their
    index; the bounds are whole indices unless `truncate` is false.
    """
    pairs = len(inv_freq)
    bounds = []
    for turns in (scaling.get("beta_fast") or 32, scaling.get("beta_slow") or 1):
        wavelength = scaling["original_max_position_embeddings"] / (turns * 2 * math.pi)
        bounds.append(pairs * math.log(wavelength) / math.log(base))
    low, high = (math.floor(bounds[0]), math.ceil(bounds[1])) if scaling.get("truncate", True) else bounds
    low, high = max(low, 0), min(high, 2 * pairs - 1)
    slow = ((torch.arange(pairs) - low) / ((high - low) or 0.001)).clamp(0, 1)
    return (1 - slow) * inv_freq + slow * inv_freq / scaling["factor"]


def yarn_mscale(factor: float, mscale: float) -> float:
    """YaRN's 0.1 mscale ln(factor) + 1, the root of what it multiplies attention logits by."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def yarn_attention_factor(scaling: Mapping[str, Any]) -> float:
    """What cosines and sines are multiplied by: attention_factor, or the quotient of mscale's and mscale_all_dim's.

    With one of the two alone `yarn` (as transformers) ignores it, `deepseek_yarn` (as vLLM) has 1 and 0 for the other.
    """
    mscale, all_dim = scaling.get("mscale"), scaling.get("mscale_all_dim")
    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])
    if scaling.get("rope_type", scaling.get("type")) == "yarn" and not (mscale and all_dim):
        mscale = all_dim = None
    mscale, all_dim = 1.0 if mscale is None else mscale, all_dim or 0.0
    return yarn_mscale(scaling["factor"], mscale) / yarn_mscale(scaling["factor"], all_dim)


class RotaryEmbedding(Op):
    """(a, b) -> (a cos - b sin, b cos + a sin) by the angle position * base^(-2i / rotary_dim) (Su et al., 2021).

    b lies rotary_dim / 2 after a with is_neox_style, next to it otherwise; elements past rotary_dim stay as they are.
    positions: [T] int64, query: [T, Hq * head_size] or [T, Hq, head_size], key likewise with Hkv heads -> (query, key)
    of the same shapes. rope_scaling: Hugging Face's dict, of rope_type default, linear, dynamic, llama3, yarn or
    deepseek_yarn. Mirrors vLLM's RotaryEmbedding and its LinearScaling-, DynamicNTKScaling-, Llama3-, YaRNScaling- and
    DeepseekScalingRotaryEmbedding, their cache of cosines and sines in the module's dtype included: a row for each of
    max_position_embeddings, for dynamic of `factor` times as many. On CUDA query and key are overwritten and returned.
    """

    provider = "triton"

    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        base: float,
        is_neox_style: bool = True,
        dtype: torch.dtype | None = None,
        rope_scaling: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.head_size = head_size
        self.rotary_dim = rotary_dim
        self.max_position_embeddings = max_position_embeddings
        self.base = base
        self.is_neox_style = is_neox_style
        self.rope_scaling = dict(rope_scaling or {})
        cache = self.cos_sin().to(dtype or torch.get_default_dtype())
        self.cos_sin_cache: torch.Tensor
        self.register_buffer("cos_sin_cache", cache, persistent=False)

    def inverse_frequencies(self) -> torch.Tensor:
        """[rotary_dim / 2] float32, scaled as rope_scaling says."""
        kind = self.rope_scaling.get("rope_type", self.rope_scaling.get("type", "default"))
        if kind not in ROPE_TYPES:
            raise ValueError(f"rope_scaling.rope_type: {kind!r} is not one of {', '.join(ROPE_TYPES)}")
        base = self.base
        if kind == "dynamic":
            # For the longest context, as vLLM; Hugging Face computes it anew for each length.
            factor = self.rope_scaling["factor"]
            base *= (factor * factor - (factor - 1)) ** (self.rotary_dim / (self.rotary_dim - 2))
        exponents = torch.arange(0, self.rotary_dim, 2, dtype=torch.float32) / self.rotary_dim
        inv_freq = 1.0 / base**exponents
        if kind == "llama3":
            return llama3_frequencies(inv_freq, self.rope_scaling)
        if kind in YARN_TYPES:
            return yarn_frequencies(inv_freq, base, self.rope_scaling)
        return inv_freq / self.rope_scaling["factor"] if kind == "linear" else inv_freq

    def cos_sin(self) -> torch.Tensor:
        """[rows, rotary_dim] float32: the cosines of a position, then its sines, times YaRN's attention factor."""
        inv_freq, kind = self.inverse_frequencies(), self.rope_scaling.get("rope_type", self.rope_scaling.get("type"))
        rows = self.max_position_embeddings
        if kind == "dynamic":
            rows = int(rows * self.rope_scaling["factor"])
        angles = torch.outer(torch.arange(rows, dtype=torch.float32), inv_freq)
        scale = yarn_attention_factor(self.rope_scaling) if kind in YARN_TYPES else 1.0
        return torch.cat((angles.cos(), angles.sin()), dim=-1) * scale

    def forward_native(
        self, positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Plain PyTorch, in float32 or better; leaves query and key alone."""
        cos, sin = self.cos_sin_cache[positions].unsqueeze(1).chunk(2, dim=-1)
        return self.rotate(query, cos, sin), self.rotate(key, cos, sin)

    def rotate(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Rotate every head of x: [T, H * head_size] by cos and sin: [T, 1, rotary_dim / 2]."""
        wide = torch.promote_types(x.dtype, torch.float32)
        heads = x.reshape(x.shape[0], -1, self.head_size)
        turned, kept = heads[..., : self.rotary_dim].to(wide), heads[..., self.rotary_dim :]
        if self.is_neox_style:
            first, second = turned.chunk(2, dim=-1)
        else:
            first, second = turned[..., ::2], turned[..., 1::2]
        cos, sin = cos.to(wide), sin.to(wide)
        rotated = (first * cos - second * sin, second * cos + first * sin)
        joined = torch.cat(rotated, dim=-1) if self.is_neox_style else torch.stack(rotated, dim=-1).flatten(-2)
        return torch.cat((joined.to(x.dtype), kept), dim=-1).reshape(x.shape)

    def forward_cuda(
        self, positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One Triton kernel, in place; rows of query and key may be strided, as slices of a fused projection are."""
        query, key = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key))
        query_heads, key_heads = (x.view(x.shape[0], -1, self.head_size) for x in (query, key))
        tokens, q_heads, _ = query_heads.shape
        kv_heads, half = key_heads.shape[1], self.rotary_dim // 2
        groups = programs_a_token(tokens, q_heads)
        rotary_emb_kernel[(tokens * groups,)](
            positions, query_heads, key_heads, self.cos_sin_cache, *query_heads.stride()[:2], *key_heads.stride()[:2],
            Q_HEADS=q_heads, KV_HEADS=kv_heads, HALF=half, HALF_BLOCK=triton.next_power_of_2(half), GROUPS=groups,
            Q_BLOCK=triton.next_power_of_2(triton.cdiv(q_heads, groups)),
            KV_BLOCK=triton.next_power_of_2(triton.cdiv(kv_heads, groups)), NEOX=self.is_neox_style,
            num_warps=NUM_WARPS,
        )
        return query, key

    def rounding_error(self, inputs: Mapping[str, Any], unit: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Both products rounded before they are added."""
        cos, sin = self._sizes(inputs["positions"])
        return self._errors(inputs, unit * cos, unit * sin)

    def constant_error(self, inputs: Mapping[str, Any], unit: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines rounded to another neighbour (2 units), or of angles of another precision.

        d of an angle is d sin of its cosine and d cos of its sine.
        """
        positions = inputs["positions"]
        cos, sin = self._sizes(positions)
        frequencies = self.inverse_frequencies().to(positions.device)
        relative = ANGLE_ERROR * (1 + frequencies.log().abs() / 4)
        angle = (positions.unsqueeze(1) * frequencies * relative).unsqueeze(1)
        return self._errors(inputs, 2 * unit * cos + angle * sin, 2 * unit * sin + angle * cos)

    def _sizes(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """|cos| and |sin| of these positions: [T, 1, rotary_dim / 2] each."""
        cos, sin = self.cos_sin_cache.index_select(0, positions).abs().unsqueeze(1).chunk(2, dim=-1)
        return cos, sin

    def _errors(
        self, inputs: Mapping[str, Any], of_cos: torch.Tensor, of_sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Errors of query and key where cosines and sines have these."""
        return self._sum_of_errors(inputs["query"], of_cos, of_sin), self._sum_of_errors(inputs["key"], of_cos, of_sin)

    def _sum_of_errors(self, x: torch.Tensor, of_cos: torch.Tensor, of_sin: torch.Tensor) -> torch.Tensor:
        """|x| of_cos + |the other of its pair| of_sin for every element of x; 0 where it is not rotated."""
        heads = x.abs().reshape(x.shape[0], -1, self.head_size)
        turned = heads[..., : self.rotary_dim]
        if self.is_neox_style:
            other = turned.roll(self.rotary_dim // 2, dims=-1)
            of_cos, of_sin = (torch.cat((error, error), dim=-1) for error in (of_cos, of_sin))
        else:
            other = turned.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
            of_cos, of_sin = (error.repeat_interleave(2, dim=-1) for error in (of_cos, of_sin))
        errors = torch.zeros_like(heads)
        errors[..., : self.rotary_dim] = turned * of_cos + other * of_sin
        return errors.reshape(x.shape)

    def strided_inputs(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """Slices of the fused projection."""
        del inputs
        return ("query", "key")

    def donates(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """Query and key may be overwritten, as vLLM's kernel does."""
        del inputs
        return ("query", "key")

    def work(self, inputs: Mapping[str, Any], outputs: tuple[torch.Tensor, ...]) -> Work:
        """Reads and writes the rotated part of each head and reads one cache row for each different position."""
        del outputs
        positions, query, key = inputs["positions"], inputs["query"], inputs["key"]
        rotated = tensor_bytes(query, key) * self.rotary_dim // self.head_size
        rows = positions.unique().numel() * self.rotary_dim * self.cos_sin_cache.element_size()
        elements = rotated // query.element_size()
        return Work(bytes=2 * rotated + rows + tensor_bytes(positions), flops=3 * elements)
