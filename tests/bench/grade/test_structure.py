import pytest
import torch

from fastkernels.bench.grade import CallOutcome
from fastkernels.bench.grade.effects import forbidden
from fastkernels.bench.grade.tree import difference, leaves
from fastkernels.manifest.scenario import InputSpec
from fastkernels.results import Verdict
from fastkernels.runtime.op import Op
from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm


class Foreign:
    type_name = "numpy.ndarray"


class Subclass(torch.Tensor):
    pass


T = torch.ones(2, 3)


@pytest.mark.parametrize(("expected", "got", "verdict", "message"), [
    (T, None, Verdict.WRONG_STRUCTURE, "output: expected a tensor, got None"),
    ((T, T), T, Verdict.WRONG_STRUCTURE, "output: expected a tuple, got a tensor"),
    ((T, T), [T, T], Verdict.WRONG_STRUCTURE, "output: expected a tuple, got a list"),
    ((T, T), (T,), Verdict.WRONG_STRUCTURE, "output: expected 2 items, got 1"),
    ((T, None), (T, T), Verdict.WRONG_STRUCTURE, "output[1]: expected None, got a tensor"),
    ({"a": T}, {"b": T}, Verdict.WRONG_STRUCTURE, "output: expected the keys 'a', got 'b'"),
    ((T, T), (T, Foreign()), Verdict.WRONG_STRUCTURE,
     "output[1]: expected a tensor, got an object of type numpy.ndarray"),
    (T, T.as_subclass(Subclass), Verdict.WRONG_STRUCTURE, "output: expected a tensor, got an object of type Subclass"),
    (T, T.to_sparse(), Verdict.WRONG_STRUCTURE, "output: expected a tensor, got a sparse_coo tensor"),
    ((T, T), (T, T[:1]), Verdict.WRONG_SHAPE, "output[1]: expected shape [2, 3], got [1, 3]"),
    ({"a": [T]}, {"a": [T.half()]}, Verdict.WRONG_DTYPE, "output['a'][0]: expected float32, got float16"),
    (T, T.to("meta"), Verdict.WRONG_DEVICE, "output: expected on cpu, got on meta"),
])  # fmt: skip
def test_differences_are_named(expected, got, verdict, message):
    assert difference(expected, got) == (verdict, message)


def test_equal_trees_do_not_differ():
    tree = (T, None, [T, {"a": T}])
    assert difference(tree, (T + 1, None, [T, {"a": T}])) is None
    assert list(leaves(tree)) == ["output[0]", "output[1]", "output[2][0]", "output[2][1]['a']"]


NORM = InputSpec("x", "normal", ("tokens", 64), "bfloat16")
RESIDUAL = InputSpec("residual", "normal", ("tokens", 64), "bfloat16")


def test_the_judge_reports_structure_first(judged, scenario_of):
    found = judged(RMSNorm(64, dtype=torch.bfloat16), scenario_of(NORM, RESIDUAL), lambda out, _: out[0])
    assert found.verdict is Verdict.WRONG_STRUCTURE
    assert found.message == "output: expected a tuple, got a tensor"
    assert found.correctness is None


@pytest.mark.parametrize(("aliases", "message"), [
    ([[0, "input x"]], "output shares memory with input x"),
    ([[0, "weight weight"]], "output shares memory with weight weight"),
    ([[0, "previous call"]], "output shares memory with that of the previous call"),
])
def test_an_alias_that_the_baseline_has_not_is_refused(judged, scenario_of, aliases, message):
    found = judged(RMSNorm(64, dtype=torch.bfloat16), scenario_of(NORM), aliases=aliases)
    assert (found.verdict, found.message) == (Verdict.ALIASED_OUTPUT, message)


def test_donated_inputs_may_be_returned_and_hold_anything(judged, scenario_of):
    def in_place(outputs, after):
        after["x"].fill_(7)
        after["residual"].fill_(float("nan"))

    aliases = [[0, "input x"], [1, "input residual"], [0, "previous call"], [1, "previous call"]]
    found = judged(RMSNorm(64, dtype=torch.bfloat16), scenario_of(NORM, RESIDUAL), in_place, aliases=aliases)
    assert found.verdict is Verdict.PASSED, found.message
    crossed = judged(RMSNorm(64, dtype=torch.bfloat16), scenario_of(NORM, RESIDUAL), aliases=[[1, "output 0"]])
    assert crossed.message == "output[1] shares memory with output 0"


class View(Op):
    def forward_native(self, x):
        return x[:, :32], x[:, 32:] * 2


def test_an_alias_that_the_baseline_has_is_allowed(judged, scenario_of):
    found = judged(View(), scenario_of(NORM), aliases=[[0, "input x"], [0, "previous call"]])
    assert found.verdict is Verdict.PASSED, found.message
    assert judged(View(), scenario_of(NORM), aliases=[[1, "input x"]]).verdict is Verdict.ALIASED_OUTPUT


def test_outputs_on_top_of_each_other_do_not_excuse_the_previous_call():
    assert forbidden([(1, "output 0"), (1, "previous call")], {(1, "output 0")}, ()) == (1, "previous call")


@pytest.mark.parametrize("field", [{"aliases": [["0", "input x"]]}, {"aliases": "all"}, {"weights_changed": [1]},
                                   {"canaries": None}])
def test_an_outcome_of_another_form_is_refused(field):
    with pytest.raises(ValueError, match="no list of"):
        CallOutcome(None, {}, **field)
