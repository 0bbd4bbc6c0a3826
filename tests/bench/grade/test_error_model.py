"""What an operator says of its own roundings and constants widens tolerances there, and nowhere else."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fastkernels.bench.grade import merge
from fastkernels.bench.grade.compare import CHUNK_ELEMENTS, gather, read
from fastkernels.bench.grade.tolerances import LIMITS
from fastkernels.manifest.scenario import InputSpec
from fastkernels.results import Verdict
from fastkernels.runtime.op import Op

SCRIPTS = Path(__file__).parents[3] / "benchmarks"
sys.path.append(str(SCRIPTS))
spec = importlib.util.spec_from_file_location("benchmark_tolerances_of_models", SCRIPTS / "tolerances.py")
assert spec is not None
assert spec.loader is not None
tolerances = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tolerances)

X = InputSpec("x", "normal", ("tokens", 256), "bfloat16")
BF16 = LIMITS[torch.bfloat16]
VALUES, SCALE, PASSED = Verdict.WRONG_VALUES, Verdict.WRONG_SCALE, Verdict.PASSED
HONEST = [v for v in tolerances.VARIANTS if v.honest and v.op in ("rotary_emb", "moe_sum")]


class Same(Op):
    def forward_native(self, x):
        return x * 1


class Rounded(Same):
    def rounding_error(self, inputs, unit):
        assert unit == 2.0**-8
        assert inputs["x"].dtype is torch.float32
        return torch.full_like(inputs["x"], 0.1)


class Tabled(Same):
    def constant_error(self, inputs, unit):
        return torch.full_like(inputs["x"], 0.1)


class Wrapped(nn.Module):
    """No operator: a block is judged beside the baseline's error, whatever its parts say."""

    def __init__(self):
        super().__init__()
        self.inner = Rounded()

    def forward(self, x):
        return self.inner(x)


def one_off(outputs, inputs):
    outputs[2, 7] = inputs["x"][2, 7] + 0.1


def all_off(outputs, inputs):
    outputs.copy_(inputs["x"] + 0.05)


@pytest.mark.parametrize(("module", "change", "verdict"), [
    (Same, one_off, VALUES), (Rounded, one_off, PASSED), (Tabled, one_off, PASSED), (Wrapped, one_off, VALUES),
    (Same, all_off, VALUES), (Rounded, all_off, SCALE), (Tabled, all_off, PASSED),
])
def test_roundings_count_for_elements_and_constants_for_rows_too(judged, scenario_of, module, change, verdict):
    found = judged(module(), scenario_of(X), change)
    assert found.verdict is verdict, found.message


def test_an_error_that_is_no_number_allows_nothing(judged, scenario_of):
    class Unknown(Same):
        def rounding_error(self, inputs, unit):
            return inputs["x"] * torch.nan

    assert judged(Unknown(), scenario_of(X)).verdict is PASSED
    assert judged(Unknown(), scenario_of(X), one_off).verdict is VALUES


def test_infinite_outputs_are_judged_beside_a_model(judged, scenario_of):
    class Root(Rounded):
        def forward_native(self, x):
            return x.rsqrt()

        def rounding_error(self, inputs, unit):
            return inputs["x"].rsqrt() * unit

    assert judged(Root(), scenario_of(X), hard="zeros").verdict is PASSED
    found = judged(Root(), scenario_of(X), lambda out, _: out.nan_to_num_(posinf=0.0), hard="zeros")
    assert found.verdict is Verdict.WRONG_NONFINITE


def test_chunks_give_the_numbers_of_the_whole(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    r, rounding, constant = (torch.randn(7, 40, generator=generator) for _ in range(3))
    sides = (r, r.bfloat16(), (r * 1.003).bfloat16(), BF16, 0.0, 4.0, rounding.abs(), constant.abs())
    whole = read(gather(*sides)[1].tolist(), r.shape)
    monkeypatch.setitem(CHUNK_ELEMENTS, "cpu", 100)
    parts = read(gather(*sides)[1].tolist(), r.shape)
    assert (parts.ratio, parts.row_ratio, parts.rounding) == (whole.ratio, whole.row_ratio, float(rounding.abs().max()))
    assert parts.constant == pytest.approx(whole.constant) == pytest.approx(float(constant.norm()))


@pytest.mark.parametrize("variant", HONEST, ids=lambda v: f"{v.op}-{v.name}-{v.dtype}")
def test_honest_ones_pass_with_every_seed(variant):
    for seed in range(12):
        found = merge(list(tolerances.grade(variant, seed)))
        assert found.verdict is PASSED, (seed, found.message)


@pytest.mark.parametrize("neox", [True, False])
def test_rotary_embedding_allows_what_honest_ones_are_off(neox):
    """Of sums that cancel to nothing: a unit of each product, two of each entry, and none where nothing is rotated."""
    module = tolerances.rotary_emb(torch.float32, rope_scaling=None, is_neox_style=neox)
    positions, x = torch.tensor([0, 5, 30000]), torch.randn(3, 128)
    inputs = {"positions": positions, "query": x, "key": x[:, :64]}
    rounding, constant = (error(inputs, 2.0**-8)[0].view(3, 2, 64)
                          for error in (module.rounding_error, module.constant_error))
    assert bool((rounding[..., 48:] == 0).all() and (constant[..., 48:] == 0).all())
    heads, other = x.view(3, 2, 64), 24 if neox else 1  # the partner of element 0
    cos, sin = (module.cos_sin_cache[positions, i].abs().unsqueeze(1) for i in (0, 24))
    products = heads[..., 0].abs() * cos + heads[..., other].abs() * sin
    assert torch.allclose(rounding[..., 0], products * 2.0**-8)
    turned = heads[..., 0].abs() * sin + heads[..., other].abs() * cos
    angle = positions.unsqueeze(1) * 2.0**-22  # of the frequency 1
    assert torch.allclose(constant[..., 0], products * 2.0**-7 + turned * angle)
