"""Grades kernels of known precision, honest and not, and prints the errors behind the tolerances.

    python benchmarks/tolerances.py [--device cuda] [--seeds 5]

Each variant is run on every planned draw of its scenario; the last column is its verdict.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from rotary_variants import KEY, POSITIONS, QUERY, ROTARY  # beside this script, so on sys.path
from rotary_variants import build as rotary_emb
from torch import nn
from torch.nn import functional as F

from fastkernels.bench.grade import CallOutcome, Finding, Judge, make_inputs, merge, plan_draws, randomise_weights
from fastkernels.bench.grade.effects import copies
from fastkernels.manifest.scenario import InputSpec, Scenario
from fastkernels.tasks.baseline.L1.flash_attn_prefill import FlashAttnPrefill
from fastkernels.tasks.baseline.L1.linear import Linear
from fastkernels.tasks.baseline.L1.moe_sum import MoeSum
from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm
from fastkernels.tasks.baseline.L1.silu_and_mul import SiluAndMul

Kernel = Callable[..., Any]
TOKENS = 13
HIDDEN = 4096
TOP_K = 8
FP8 = torch.float8_e4m3fn


@dataclass(frozen=True)
class Variant:
    """One kernel of known precision."""

    op: str
    name: str
    dtype: torch.dtype
    kernel: Kernel
    """(module, **inputs) -> outputs."""
    honest: bool | None
    """Whether grading must pass it, or must not; None where it lies between."""


def make_scenario(op: str, dtype: torch.dtype) -> tuple[nn.Module, Scenario]:
    """An operator and a scenario of TOKENS tokens."""
    name = str(dtype).removeprefix("torch.")
    built: dict[str, tuple[Callable[[], nn.Module], tuple[InputSpec, ...]]] = {
        "rms_norm": (lambda: RMSNorm(HIDDEN, 1e-5, dtype), (_normal("x", name, HIDDEN),)),
        "silu_and_mul": (SiluAndMul, (_normal("x", name, HIDDEN),)),
        "moe_sum": (MoeSum, (_normal("x", name, TOP_K, 512),)),
        "linear": (lambda: Linear(HIDDEN, 256, False, dtype), (_normal("x", name, HIDDEN),)),
        "flash_attn_prefill": (lambda: FlashAttnPrefill(8, 64, 0.125, 2), (
            _normal("query", name, 8, 64), _normal("key", name, 2, 64), _normal("value", name, 2, 64),
            InputSpec("cu_seqlens_q", "cu_seqlens", (3,), "int32", {"total": "tokens", "sequences": 2}),
            InputSpec("cu_seqlens_k", "same_as", (3,), "int32", {"of": "cu_seqlens_q"}),
            InputSpec("max_seqlen_q", "literal", args={"value": "tokens"}),
            InputSpec("max_seqlen_k", "literal", args={"value": "tokens"}))),
        "rotary_emb": (lambda: rotary_emb(dtype), (
            InputSpec("positions", "positions", ("tokens",), "int64", {"max": POSITIONS}),
            _normal("query", name, QUERY), _normal("key", name, KEY))),
    }  # fmt: skip
    make, inputs = built[op]
    module, phase = make(), "decode" if op == "rotary_emb" else "prefill"
    return module, Scenario(
        op=op, module=op, class_name=type(module).__name__, level=1, category="test", model="test", model_id="test",
        tp=1, tokens=199 if op == "flash_attn_prefill" else TOKENS, phase=phase, variant="", init={}, inputs=inputs)


def _normal(name: str, dtype: str, *shape: int) -> InputSpec:
    return InputSpec(name, "normal", ("tokens", *shape), dtype)


def rms_rounded_before_weight(module: RMSNorm, x: torch.Tensor) -> torch.Tensor:
    """As vLLM's kernel: x * rstd is rounded, then multiplied with the weight."""
    wide = x.float()
    normed = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + module.variance_epsilon)).to(x.dtype)
    return normed * module.weight


def rms_half_throughout(module: RMSNorm, x: torch.Tensor) -> torch.Tensor:
    """Squares, mean and scale rounded to half precision each; the sum itself in float32."""
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + module.variance_epsilon)
    return x * scale * module.weight


def rms_half_sum(module: RMSNorm, x: torch.Tensor) -> torch.Tensor:
    """The squares summed in half precision, in 64 lanes."""
    lanes = x.square().unflatten(-1, (-1, 64))
    total = torch.zeros_like(lanes[..., 0, :])
    for i in range(lanes.shape[-2]):
        total = total + lanes[..., i, :]
    mean = total.float().sum(-1, keepdim=True) / x.shape[-1]
    return (x.float() * torch.rsqrt(mean + module.variance_epsilon) * module.weight.float()).to(x.dtype)


def rms_fp8(module: RMSNorm, x: torch.Tensor) -> torch.Tensor:
    """The result passes through fp8."""
    return module.forward_native(x).clamp(-448, 448).to(FP8).to(x.dtype)


def rms_other_order(module: RMSNorm, x: torch.Tensor) -> torch.Tensor:
    """float32 inside, summed in another order."""
    wide = x.float()
    mean = wide.square().unflatten(-1, (-1, 16)).sum(-2).sum(-1, keepdim=True) / x.shape[-1]
    return (wide / torch.sqrt(mean + module.variance_epsilon) * module.weight.float()).to(x.dtype)


def silu_rounded_twice(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """silu rounded, then the product rounded, as PyTorch in half precision does."""
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


def silu_half_sigmoid(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Sigmoid, product with x and product with the gate rounded each."""
    gate, up = x.chunk(2, dim=-1)
    return gate * torch.sigmoid(gate) * up


def silu_fp8(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The gate passes through fp8."""
    gate, up = x.chunk(2, dim=-1)
    return (F.silu(gate.float()).clamp(-448, 448).to(FP8).float() * up.float()).to(x.dtype)


def split_sum(parts: int, dtype: torch.dtype) -> Kernel:
    """A product whose sum is split: `parts` float32 partial sums are rounded to `dtype` and added in it."""

    def linear(module: Linear, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(x.shape[0], module.output_size, dtype=dtype, device=x.device)
        for a, b in zip(x.chunk(parts, dim=1), module.weight.chunk(parts, dim=1), strict=True):
            total = total + (a.float() @ b.float().T).to(dtype)
        return total.to(x.dtype)

    return linear


def sum_rounded(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Every sum of two rounded, as vLLM's kernel for few experts and Hugging Face's index_add."""
    total = x[:, 0]
    for k in range(1, x.shape[1]):
        total = total + x[:, k]
    return total


def sum_times(factor: float) -> Kernel:
    """The right sum times a factor."""
    return lambda module, x: (module.forward_native(x).float() * factor).to(x.dtype)


def sum_of_fp8(module: MoeSum, x: torch.Tensor) -> torch.Tensor:
    """The terms pass through fp8."""
    return module.forward_native(x.clamp(-448, 448).to(FP8).to(x.dtype))


def through(dtype: torch.dtype, weight_too: bool = True) -> Kernel:
    """A product of operands that pass through `dtype`, summed in float32."""

    def linear(module: Linear, x: torch.Tensor) -> torch.Tensor:
        weight = module.weight.to(dtype).float() if weight_too else module.weight.float()
        return (x.clamp(-448, 448).to(dtype).float() @ weight.T).to(x.dtype)

    return linear


def tf32(module: Linear, x: torch.Tensor) -> torch.Tensor:
    """Operands rounded to TF32's 10 bits of mantissa, summed in float32."""
    a, b = (((t.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32) for t in (x, module.weight.detach()))
    return a @ b.T


def attention(rounding: torch.dtype) -> Kernel:
    """Flash attention as published: weights (not yet divided by their sum) rounded to `rounding` before the product."""

    def prefill(module: FlashAttnPrefill, **inputs: Any) -> torch.Tensor:
        out = torch.zeros_like(inputs["query"])
        ends = (pairwise(inputs[name].tolist()) for name in ("cu_seqlens_q", "cu_seqlens_k"))
        for (a, b), (first, last) in zip(*ends, strict=True):
            if b > a:
                keys, values = (inputs[name][first:last].float() for name in ("key", "value"))
                out[a:b] = _attend(module, inputs["query"][a:b].float(), keys, values, rounding)
        return out

    return prefill


def _attend(
    module: FlashAttnPrefill, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rounding: torch.dtype
) -> torch.Tensor:
    group = module.num_heads // module.num_kv_heads
    k, v = (t.repeat_interleave(group, dim=1).transpose(0, 1) for t in (k, v))
    scores = q.transpose(0, 1) @ k.transpose(1, 2) * module.scale
    scores += torch.full(scores.shape[1:], -torch.inf, device=q.device).triu(1 + k.shape[1] - q.shape[0])
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    return ((weights.to(rounding).float() @ v) / weights.sum(-1, keepdim=True)).transpose(0, 1)


BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
VARIANTS = (
    Variant("rms_norm", "float32 inside, other order", BF16, rms_other_order, True),
    Variant("rms_norm", "rounded before the weight (vLLM)", BF16, rms_rounded_before_weight, True),
    Variant("rms_norm", "half precision throughout, float32 sum", BF16, rms_half_throughout, None),
    Variant("rms_norm", "rounded before the weight", FP16, rms_rounded_before_weight, True),
    Variant("rms_norm", "squares summed in bf16, 64 lanes", BF16, rms_half_sum, False),
    Variant("rms_norm", "result through fp8", BF16, rms_fp8, False),
    Variant("silu_and_mul", "rounded twice", BF16, silu_rounded_twice, True),
    Variant("silu_and_mul", "rounded three times", BF16, silu_half_sigmoid, True),
    Variant("silu_and_mul", "gate through fp8", BF16, silu_fp8, False),
    Variant("linear", "sum split in 4, float32", BF16, split_sum(4, FP32), True),
    Variant("linear", "sum split in 4, bf16", BF16, split_sum(4, BF16), False),
    Variant("linear", "sum split in 64, bf16", BF16, split_sum(64, BF16), False),
    Variant("linear", "bf16 accumulation over 4096", BF16, split_sum(HIDDEN, BF16), False),
    Variant("linear", "fp8 operands", BF16, through(FP8), False),
    Variant("linear", "fp8 activations", BF16, through(FP8, weight_too=False), False),
    Variant("linear", "sum split in 4, float32", FP16, split_sum(4, FP32), True),
    Variant("linear", "sum split in 4, float32", FP32, split_sum(4, FP32), True),
    Variant("linear", "TF32", FP32, tf32, False),
    Variant("flash_attn_prefill", "weights in bf16", BF16, attention(BF16), True),
    Variant("flash_attn_prefill", "weights in fp8", BF16, attention(FP8), False),
    Variant("moe_sum", "every sum rounded", BF16, sum_rounded, True),
    Variant("moe_sum", "terms in fp8", BF16, sum_of_fp8, False),
    Variant("moe_sum", "0.7 % too large", BF16, sum_times(1.007), False),
    *(Variant("rotary_emb", *row) for row in ROTARY),
)
"""Every variant that the tolerances were chosen by."""


def grade(variant: Variant, seed: int, device: str = "cpu") -> Iterator[Finding]:
    """The findings of a variant on each draw."""
    module, scenario = make_scenario(variant.op, variant.dtype)
    module = module.to(device)
    randomise_weights(module, seed)
    judge = Judge(module, scenario)
    for draw in plan_draws(scenario, seed, device):
        inputs = make_inputs(scenario, draw, torch.device(device))
        own: Mapping[str, Any] = copies(inputs)
        with torch.inference_mode():
            outputs = variant.kernel(module, **own)
        yield judge.judge(inputs, CallOutcome(outputs, dict(own)), draw)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print(f"{'operator':18} {'variant':38} {'dtype':8} {'ratio':>9} {'rel L2':>9} {'baseline':>9}  verdicts")
    for variant in VARIANTS:
        found = [merge(list(grade(variant, seed, options.device))) for seed in range(options.seeds)]
        numbers = [finding.correctness for finding in found if finding.correctness is not None]
        worst = [max(getattr(n, name) for n in numbers)
                 for name in ("max_error_ratio", "rel_l2_error", "baseline_rel_l2_error")]
        verdicts = ", ".join(sorted({str(finding.verdict) for finding in found}))
        expected = {True, False} if variant.honest is None else {variant.honest}
        flag = "" if {finding.verdict.ok for finding in found} <= expected else "  <- unexpected"
        print(f"{variant.op:18} {variant.name:38} {str(variant.dtype)[6:]:8} {worst[0]:9.3g} {worst[1]:9.2e} "
              f"{worst[2]:9.2e}  {verdicts}{flag}")
        for finding in found[:1]:
            if finding.message:
                print(f"    {finding.message}")


if __name__ == "__main__":
    main()
