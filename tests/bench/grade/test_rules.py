"""Exactness, NaN and infinities, tolerances and scale, on operators made for the purpose."""

import math

import pytest
import torch

from fastkernels.bench.grade import CallOutcome, Draw, Judge, make_inputs, merge, tolerances
from fastkernels.bench.grade.compare import gather, read, unravel
from fastkernels.bench.grade.tolerances import LIMITS, limits
from fastkernels.manifest.scenario import InputSpec
from fastkernels.results import Verdict
from fastkernels.runtime.op import Op

X = InputSpec("x", "normal", ("tokens", 256), "bfloat16")


class Twice(Op):
    def forward_native(self, x):
        return x * 2


class Mixed(Op):
    """Several outputs of several kinds."""

    def forward_native(self, x):
        order = x.abs().argmax(-1)
        return {"y": x * 2, "ids": order, "mask": x > 0, "none": None, "sum": x.sum(), "empty": x[:0]}


def put(name, index, value):
    def change(outputs, _):
        (outputs if name is None else outputs[name])[index] = value

    return change


def test_the_worst_element_is_named(judged, scenario_of):
    found = judged(Twice(), scenario_of(X), put(None, (3, 200), 100.0))
    assert found.verdict is Verdict.WRONG_VALUES
    assert found.message.startswith("output (element 3, 200): expected ")
    assert "got 100 (error ratio " in found.message
    assert "1 of 1280 elements, draw normal@t5#1)" in found.message
    numbers = found.correctness
    assert numbers is not None
    assert numbers.worst is not None
    assert (numbers.worst.tensor, numbers.worst.index, numbers.worst.got) == ("output", (3, 200), 100.0)
    assert (numbers.atol, numbers.rtol) == tolerances(torch.bfloat16) == (0.01, 0.016)
    assert numbers.draw == "normal@t5#1"


def test_exactly_right_has_no_error(judged, scenario_of):
    found = judged(Twice(), scenario_of(X))
    assert (found.verdict, found.message) == (Verdict.PASSED, "")
    assert found.correctness is not None
    assert (found.correctness.max_abs_error, found.correctness.max_error_ratio, found.correctness.draws) == (0, 0, 1)


@pytest.mark.parametrize(("name", "index", "value", "verdict"), [
    ("ids", 2, 300, Verdict.WRONG_INTEGERS),
    ("mask", (0, 0), None, Verdict.WRONG_INTEGERS),
    ("sum", (), 1000.0, Verdict.WRONG_VALUES),
    ("y", (4, 255), 0.0, Verdict.WRONG_VALUES),
])
def test_each_kind_of_output_is_compared(judged, scenario_of, name, index, value, verdict):
    def change(outputs, _):
        outputs[name][index] = ~outputs[name][index] if value is None else value

    assert judged(Mixed(), scenario_of(X)).verdict is Verdict.PASSED
    found = judged(Mixed(), scenario_of(X), change)
    assert found.verdict is verdict
    assert found.message.startswith(f"output['{name}'] (element ")


def test_huge_integers_are_exact(judged, scenario_of):
    class Huge(Op):
        def forward_native(self, ids):
            return ids + 2**62

    scenario = scenario_of(InputSpec("ids", "token_ids", ("tokens",), "int64", {"vocab": 9}))
    found = judged(Huge(), scenario, lambda out, _: out.add_(1))
    assert found.verdict is Verdict.WRONG_INTEGERS
    assert str(2**62)[:10] in found.message
    assert "(5 of 5 elements" in found.message


def test_integers_come_before_floats(judged, scenario_of):
    def both(outputs, _):
        outputs["y"][0, 0] = 50.0
        outputs["ids"][0] = 300

    assert judged(Mixed(), scenario_of(X), both).verdict is Verdict.WRONG_INTEGERS


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nonfinite_where_none_is_due(judged, scenario_of, value):
    found = judged(Twice(), scenario_of(X), put(None, (1, 7), value))
    assert found.verdict is Verdict.WRONG_NONFINITE
    assert found.message.startswith("output (element 1, 7): expected ")


class Root(Op):
    """NaN for negative numbers and infinity for zeros."""

    def forward_native(self, x):
        return torch.rsqrt(x.float()).to(x.dtype) if x.dtype is torch.bfloat16 else torch.rsqrt(x)


def test_nonfinite_where_it_is_due_passes(judged, scenario_of):
    for hard in ("normal", "zeros"):
        found = judged(Root(), scenario_of(X), hard=hard)
        assert found.verdict is Verdict.PASSED, found.message
        assert found.correctness is not None
        assert found.correctness.max_error_ratio <= 1


@pytest.mark.parametrize("value", [0.0, math.inf, -math.inf])
def test_missing_nan_is_found(judged, scenario_of, value):
    def change(outputs, _):
        outputs[outputs.isnan()] = value

    assert judged(Root(), scenario_of(X), change).verdict is Verdict.WRONG_NONFINITE


def test_an_infinity_of_the_other_sign_is_found(judged, scenario_of):
    def change(outputs, _):
        outputs[outputs.isinf()] *= -1

    assert judged(Root(), scenario_of(X), change, hard="zeros").verdict is Verdict.WRONG_NONFINITE


def test_a_wrong_value_beside_right_nans_is_found(judged, scenario_of):
    def change(outputs, _):
        place = outputs.isfinite().nonzero()[3]
        outputs[tuple(place)] = 1000.0

    found = judged(Root(), scenario_of(X), change)
    assert found.verdict is Verdict.WRONG_VALUES
    assert "got 1000 " in found.message


class Blow(Op):
    def forward_native(self, x):
        return x * 30000


def test_float16_overflows_to_infinity_where_the_oracle_is_finite(judged, scenario_of):
    scenario = scenario_of(InputSpec("x", "normal", ("tokens", 256), "float16"))
    assert judged(Blow(), scenario).verdict is Verdict.PASSED
    found = judged(Blow(), scenario, lambda out, _: out.clamp_(-60000, 60000))
    assert found.verdict is Verdict.WRONG_NONFINITE
    assert "got 60000 " in found.message or "got -60000 " in found.message


def test_minus_zero_is_zero(judged, scenario_of):
    def change(outputs, _):
        outputs[outputs == 0] = -0.0

    assert judged(Twice(), scenario_of(X), change, hard="zeros").verdict is Verdict.PASSED


def test_nothing_hides_under_the_absolute_tolerance(judged, scenario_of):
    found = judged(Twice(), scenario_of(X), lambda out, _: out.zero_(), hard="tiny")
    assert found.verdict is Verdict.WRONG_SCALE
    assert found.message.startswith("output: relative L2 error 1 where the baseline has 0")


def test_one_small_row_cannot_hide_behind_large_ones(judged, scenario_of):
    class Rows(Op):
        def forward_native(self, x):
            return x * torch.tensor([100, 2**-13, 100, 100, 100], dtype=x.dtype)[:, None]

    assert judged(Rows(), scenario_of(X)).verdict is Verdict.PASSED
    found = judged(Rows(), scenario_of(X), put(None, 1, 0.0))
    assert found.verdict is Verdict.WRONG_SCALE
    assert found.message.startswith("output (row 1): relative L2 error 1, 125 times what is allowed")


def test_small_noise_where_zeros_are_due_is_found(judged, scenario_of):
    def change(outputs, _):
        outputs[outputs == 0] = 0.001

    assert judged(Twice(), scenario_of(X), change, hard="zeros").verdict is Verdict.WRONG_SCALE


def test_a_baseline_that_fails_its_oracle_is_the_tasks_fault(judged, scenario_of):
    class Crude(Op):
        def forward_native(self, x):
            return x * (2 if x.dtype is torch.float32 else 2.5)

    found = judged(Crude(), scenario_of(X))
    assert found.verdict is Verdict.TASK_INVALID
    assert found.message.startswith("the baseline itself fails against its oracle: output (element ")

    class Scaled(Op):
        def forward_native(self, x):
            return x * (1e-3 if x.dtype is torch.float32 else 1.1e-3)

    assert judged(Scaled(), scenario_of(X)).verdict is Verdict.TASK_INVALID


def test_complex_and_foreign_outputs_of_a_task_are_named(judged, scenario_of):
    class Spectrum(Op):
        def forward_native(self, x):
            return torch.fft.rfft(x.float())

    class Number(Op):
        def forward_native(self, x):
            return 3

    assert judged(Spectrum(), scenario_of(X)).message == "output is complex64; complex outputs are not supported"
    assert judged(Number(), scenario_of(X)).message == "output is an object of type int; only tensors are graded"
    assert judged(Number(), scenario_of(X)).verdict is Verdict.TASK_INVALID


def test_a_dtype_without_limits_is_an_error():
    with pytest.raises(TypeError, match="outputs of complex64 are not graded by tolerance; allowed: float64, "):
        limits(torch.complex64)


def test_limits_follow_the_unit_roundoff():
    for dtype in (torch.bfloat16, torch.float16):
        unit = torch.finfo(dtype).eps / 2
        assert LIMITS[dtype].floor == pytest.approx(unit, rel=0.05)
        assert LIMITS[dtype].row_floor == pytest.approx(2 * unit, rel=0.05)
        assert LIMITS[dtype].rtol == pytest.approx(4 * unit, rel=0.05)


def test_max_abs_error_counts_normal_draws_only(scenario_of):
    scenario, module = scenario_of(X), Twice()
    judge, found = Judge(module, scenario), []
    for hard, off in (("normal", 0.004), ("large", 3.0)):
        draw = Draw(f"{hard}@t5#1", 5, 3, hard)
        inputs = make_inputs(scenario, draw, torch.device("cpu"))
        out = module(**inputs)
        out.view(-1)[int(out.abs().argmax())] += off
        found.append(judge.judge(inputs, CallOutcome(out, dict(inputs)), draw))
    merged = merge(found)
    assert merged.correctness is not None
    assert merged.correctness.max_abs_error < 0.05
    assert merged.correctness.draws == 2
    assert merged.correctness.max_error_ratio == max(f.correctness.max_error_ratio for f in found)


def test_merge_keeps_the_first_failure_and_the_worst_numbers(judged, scenario_of):
    good, bad = judged(Twice(), scenario_of(X)), judged(Twice(), scenario_of(X), put(None, (0, 0), 9.0))
    worse = judged(Twice(), scenario_of(X), put(None, (0, 1), 99.0))
    merged = merge([good, bad, worse])
    assert (merged.verdict, merged.message) == (Verdict.WRONG_VALUES, bad.message)
    assert merged.correctness is not None
    assert merged.correctness.max_error_ratio == worse.correctness.max_error_ratio
    with pytest.raises(ValueError, match="nothing was checked"):
        merge([])


def test_chunks_give_the_numbers_of_the_whole(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    r = torch.randn(7, 3, 40, generator=generator)
    b, c = r.bfloat16(), (r * 1.003).bfloat16()
    whole = [read(side.tolist(), r.shape) for side in gather(r, b, c, LIMITS[torch.bfloat16])]
    monkeypatch.setitem(__import__("fastkernels.bench.grade.compare", fromlist=["x"]).CHUNK_ELEMENTS, "cpu", 100)
    parts = [read(side.tolist(), r.shape) for side in gather(r, b, c, LIMITS[torch.bfloat16])]
    for one, other in zip(whole, parts, strict=True):
        assert one.index == other.index
        assert one.error == pytest.approx(other.error)
        assert (one.ratio, one.wrong, one.row) == (other.ratio, other.wrong, other.row)
    error = (c.float() - r).abs()
    assert whole[1].max_abs == error.max().item()
    assert unravel(int((error / (0.01 + 0.016 * r.abs())).argmax()), r.shape) == whole[1].index
