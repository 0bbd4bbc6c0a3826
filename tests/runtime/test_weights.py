"""A checkpoint's tensors in a model's parameters: stacking, and what every misfit says."""

import pytest
import torch
from torch import nn

from fastkernels.errors import WeightsError
from fastkernels.runtime.weights import Stacked, finish_weights, load_weights, set_weight_loader, targets

EXPERTS = Stacked("experts.w13", {f"experts.{e}.{n}": (s, e) for e in range(2) for s, n in enumerate(("gate", "up"))})


class Experts(nn.Module):
    """[2 experts, gate and up, 3] in one parameter, and a plain norm."""

    def __init__(self):
        super().__init__()
        self.experts = nn.Module()
        self.experts.w13 = nn.Parameter(torch.zeros(2, 2, 3))
        self.norm = nn.Parameter(torch.zeros(4))
        set_weight_loader(self.experts.w13, self.load, lambda part, expert: (3,))

    def load(self, parameter, tensor, part, expert):
        parameter[expert, part] = tensor


def tensors():
    parts = {f"experts.{e}.{n}": torch.full((3,), 10.0 * e + s) for e in range(2) for s, n in enumerate(("gate", "up"))}
    return {**parts, "norm": torch.arange(4.0)}


def test_stacked_tensors_go_to_their_places():
    model = Experts()
    assert load_weights(model, tensors().items(), [EXPERTS]) == {"experts.w13", "norm"}
    assert model.experts.w13[:, :, 0].tolist() == [[0, 1], [10, 11]]
    assert model.norm.tolist() == [0, 1, 2, 3]
    assert set(targets(model, [EXPERTS])) == set(tensors())


def test_the_name_is_replaced_at_dots_only():
    model = nn.ModuleDict({"my_proj": nn.Linear(2, 2, bias=False), "proj": nn.Linear(2, 2, bias=False)})
    names = targets(model, [Stacked("proj", {"a": (0,), "b": (1,)})])
    assert {name: target.shard for name, target in names.items()} == {
        "my_proj.weight": (), "a.weight": (0,), "b.weight": (1,)}  # fmt: skip


@pytest.mark.parametrize(("change", "tensor", "message"), [
    ({"norm": None}, "", "1 tensors that the model needs are missing: 'norm'"),
    ({"experts.1.up": None}, "", "1 tensors that the model needs are missing: 'experts.1.up'"),
    ({"extra": torch.ones(1)}, "extra", "1 tensors that the model has no place for: 'extra'"),
    ({"norm": torch.ones(5)}, "norm", "'norm': shape [5] found, [4] expected for norm"),
    ({"experts.0.up": torch.ones(1, 3)}, "experts.0.up",
     "'experts.0.up': shape [1, 3] found, [3] expected for experts.w13"),
    ({"experts.1.up": None, "experts.1.upp": torch.ones(3)}, "experts.1.upp",
     "1 tensors that the model has no place for: 'experts.1.upp' (did you mean 'experts.1.up'?); 1 tensors that the "
     "model needs are missing: 'experts.1.up'"),
])  # fmt: skip
def test_misfits_are_named(change, tensor, message):
    given = {name: value for name, value in {**tensors(), **change}.items() if value is not None}
    with pytest.raises(WeightsError) as caught:
        load_weights(Experts(), given.items(), [EXPERTS])
    assert str(caught.value) == message
    assert caught.value.tensor == tensor


def test_many_misfits_are_counted():
    given = {**tensors(), **{f"x{i}": torch.ones(1) for i in range(7)}}
    with pytest.raises(WeightsError, match=r"7 tensors .*: 'x0', 'x1', 'x2', 'x3', 'x4' and 2 more$"):
        load_weights(Experts(), given.items(), [EXPERTS])


def test_a_tensor_given_twice():
    given = [*tensors().items(), ("old.norm", torch.ones(4))]
    with pytest.raises(WeightsError, match=r"'old\.norm' is given twice, first as 'norm'"):
        load_weights(Experts(), given, [EXPERTS], lambda name: name.removeprefix("old."))


def test_what_is_renamed_to_none_is_left_out():
    given = {**tensors(), "rotary.inv_freq": torch.ones(9)}
    load_weights(Experts(), given.items(), [EXPERTS], lambda name: None if name.endswith("inv_freq") else name)


def test_a_loader_that_names_no_shape_checks_for_itself():
    """Modules written for vLLM carry a weight_loader alone."""
    model = Experts()
    del model.experts.w13.checkpoint_shape
    with pytest.raises(RuntimeError, match="must match"):
        load_weights(model, {**tensors(), "experts.0.up": torch.ones(4)}.items(), [EXPERTS])


def test_parts_are_finished_before_what_holds_them():
    order = []

    class Part(nn.Module):
        def __init__(self, name, *inner):
            super().__init__()
            self.label, self.inner = name, nn.ModuleList(inner)

        def process_weights_after_loading(self):
            order.append(self.label)

    finish_weights(nn.Sequential(Part("outer", Part("inner")), nn.Linear(1, 1)))
    assert order == ["inner", "outer"]
