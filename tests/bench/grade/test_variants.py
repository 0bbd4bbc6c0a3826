"""Kernels of known precision, honest and not, and mutations of right ones; the table of docs/correctness.md."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fastkernels.bench.grade import merge
from fastkernels.results import Verdict

PATH = Path(__file__).parents[3] / "benchmarks" / "tolerances.py"
spec = importlib.util.spec_from_file_location("benchmark_tolerances", PATH)
assert spec is not None
assert spec.loader is not None
sys.path.append(str(PATH.parent))
tolerances = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tolerances)
BF16 = torch.bfloat16


def verdict_of(op, kernel, dtype=BF16, seed=3):
    return merge(list(tolerances.grade(tolerances.Variant(op, "test", dtype, kernel, True), seed)))


@pytest.mark.parametrize("variant", tolerances.VARIANTS, ids=lambda v: f"{v.op}-{v.name}-{v.dtype}")
def test_precision_decides(variant):
    found = merge(list(tolerances.grade(variant, 3)))
    if variant.honest is not None:
        assert found.verdict.ok == variant.honest, found.message
    assert found.verdict in (Verdict.PASSED, Verdict.WRONG_VALUES, Verdict.WRONG_SCALE)


def norm(eps=None, weight=True):
    def kernel(module, x):
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + (module.variance_epsilon if eps is None else eps))
        return (wide * scale * (module.weight.float() if weight else 1)).to(x.dtype)

    return kernel


def after(change):
    def kernel(module, **inputs):
        return change(module.forward_native(**inputs))

    return kernel


def share(fraction):
    def change(out):
        flat = out.view(-1)
        flat[:: round(1 / fraction)] *= 1.1
        return out

    return change


def edit(index, value):
    def change(out):
        out[index] = value
        return out

    return change


def last_row_stale(out):
    return torch.cat((out[:-1], out[-2:-1])) if len(out) > 1 else out


def gelu_for_silu(module, x):
    gate, up = x.float().chunk(2, dim=-1)
    return (F.gelu(gate) * up).to(x.dtype)


def fast_sigmoid(module, x):
    gate, up = x.float().chunk(2, dim=-1)
    return (gate * (0.5 * torch.tanh(0.5 * gate) + 0.5) * up).to(x.dtype)


VALUES, SCALE, NONFINITE = Verdict.WRONG_VALUES, Verdict.WRONG_SCALE, Verdict.WRONG_NONFINITE
MUTATIONS = {
    "norm as it is": ("rms_norm", norm(), Verdict.PASSED),
    "epsilon 1e-6 for 1e-5": ("rms_norm", norm(eps=1e-6), VALUES),
    "epsilon 1e-3 for 1e-5": ("rms_norm", norm(eps=1e-3), VALUES),
    "no epsilon": ("rms_norm", norm(eps=0.0), VALUES),
    "weight ignored": ("rms_norm", norm(weight=False), VALUES),
    "last element zero": ("rms_norm", after(edit((-1, -1), 0.0)), VALUES),
    "last row of the one before": ("rms_norm", after(last_row_stale), VALUES),
    "half a percent of the elements": ("rms_norm", after(share(0.005)), VALUES),
    "one element NaN": ("rms_norm", after(edit((0, 5), torch.nan)), NONFINITE),
    "one element huge": ("rms_norm", after(edit((0, 5), 1e30)), VALUES),
    "two per cent too large": ("rms_norm", after(lambda out: out * 1.02), VALUES),
    "0.7 per cent too large": ("rms_norm", after(lambda out: (out.float() * 1.007).to(out.dtype)), SCALE),
    "GELU for SiLU": ("silu_and_mul", gelu_for_silu, VALUES),
    "sigmoid through tanh": ("silu_and_mul", fast_sigmoid, Verdict.PASSED),
    "small outputs zero": ("silu_and_mul", after(lambda out: torch.where(out.abs() < 0.009, 0, out)), SCALE),
    "columns off by one": ("linear", after(lambda out: out.roll(1, -1)), VALUES),
    "last of 4096 products left out": ("linear", lambda m, x: F.linear(x[:, :-1], m.weight[:, :-1]), VALUES),
    "only 5 tokens right": ("linear", after(lambda out: torch.cat((out[:5], out[5:] * 0))), VALUES),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutations_are_found(name):
    op, kernel, verdict = MUTATIONS[name]
    found = verdict_of(op, kernel)
    assert found.verdict is verdict, found.message
