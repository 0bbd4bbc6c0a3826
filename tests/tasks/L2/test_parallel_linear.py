"""parallel_linear: the ranks' parts beside one product with the whole weight."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from fastkernels.errors import ModelError, WeightsError
from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.runtime.weights import Stacked, load_weights
from fastkernels.tasks.baseline.L1.linear import Linear
from fastkernels.tasks.baseline.L2.parallel_linear import (
    ColumnParallelLinear,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)

X = torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
QKV = Stacked("layer", {name: (name,) for name in "qkv"})


def ranks_of(size, build, weights, stacked=()):
    """Each rank's layer, loaded from {`layer.weight`: ...}."""
    layers = []
    for rank in range(size):
        with set_tp_group(OneRank(rank, size)):
            holder = torch.nn.ModuleDict({"layer": build()}).requires_grad_(False)
        load_weights(holder, weights.items(), stacked)
        layers.append(holder["layer"])
    return layers


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def weights_of(name, rows, columns=24):
    return {f"{name}.weight": random(rows, columns), f"{name}.bias": random(rows)}


def expected(weights, *names):
    return [F.linear(X, weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]


def close(got, want):
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_replicated_is_whole_on_every_rank():
    weights = weights_of("layer", 7)
    for layer in ranks_of(3, lambda: ReplicatedLinear(24, 7), weights):
        output, bias = layer(X)
        close(output, expected(weights, "layer")[0])
        assert bias is None


@pytest.mark.parametrize("size", [1, 2, 4])
def test_columns_are_shared_out(size):
    weights = weights_of("layer", 12)
    layers = ranks_of(size, lambda: ColumnParallelLinear(24, 12), weights)
    assert layers[0].weight.shape == (12 // size, 24)
    close(torch.cat([layer(X)[0] for layer in layers], dim=-1), expected(weights, "layer")[0])


@pytest.mark.parametrize("size", [1, 2, 4])
def test_merged_parts_lie_side_by_side_on_every_rank(size):
    weights = {**weights_of("gate", 12), **weights_of("up", 8)}
    stacked = [Stacked("layer", {"gate": (0,), "up": (1,)})]
    layers = ranks_of(size, lambda: MergedColumnParallelLinear(24, [12, 8]), weights, stacked)
    parts = [layer(X)[0].split([12 // size, 8 // size], dim=-1) for layer in layers]
    for got, want in zip(zip(*parts, strict=True), expected(weights, "gate", "up"), strict=True):
        close(torch.cat(got, dim=-1), want)


@pytest.mark.parametrize(("size", "kv_heads"), [(1, 2), (2, 2), (4, 2), (4, 1), (2, 4)])
def test_heads_are_shared_out_and_repeated_where_too_few(size, kv_heads):
    weights = {**weights_of("q", 8 * 3), **weights_of("k", kv_heads * 3), **weights_of("v", kv_heads * 3)}
    layers = ranks_of(size, lambda: QKVParallelLinear(24, 3, 8, kv_heads), weights, [QKV])
    q, k, v = expected(weights, "q", "k", "v")
    local = max(1, kv_heads // size)
    for rank, layer in enumerate(layers):
        assert (layer.num_heads, layer.num_kv_heads) == (8 // size, local)
        got = layer(X)[0].split([24 // size, 3 * local, 3 * local], dim=-1)
        first = rank * kv_heads // size * 3
        close(got[0], q[:, rank * 24 // size : (rank + 1) * 24 // size])
        close(got[1], k[:, first : first + 3 * local])
        close(got[2], v[:, first : first + 3 * local])


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("parallel", [True, False])
def test_rows_are_shared_out_and_summed_with_one_bias(size, parallel):
    weights = weights_of("layer", 6)
    layers = ranks_of(size, lambda: RowParallelLinear(24, 6, input_is_parallel=parallel), weights)
    inputs = X.chunk(size, dim=-1) if parallel else [X] * size
    close(sum(layer(x)[0] for layer, x in zip(layers, inputs, strict=True)), expected(weights, "layer")[0])


def exchanged(weights):
    """Of one rank with peers: gathered columns, summed rows, and rows that are not summed."""
    column, row, part = (torch.nn.ModuleDict({"layer": layer}).requires_grad_(False) for layer in (
        ColumnParallelLinear(24, 12, gather_output=True), RowParallelLinear(12, 6),
        RowParallelLinear(12, 6, reduce_results=False)))  # fmt: skip
    load_weights(column, weights["column"].items())
    load_weights(row, weights["row"].items())
    load_weights(part, weights["row"].items())
    y, _ = column["layer"](X)
    local = y.chunk(2, dim=-1)[row["layer"].tp_group.rank]
    return y, row["layer"](local)[0], part["layer"](local)[0]


def test_ranks_exchange_their_parts(ranks):
    weights = {"column": weights_of("layer", 12), "row": weights_of("layer", 6, 12)}
    (y, summed, one), (same_y, same_sum, other) = ranks.call(exchanged, weights)
    want = expected(weights["column"], "layer")[0]
    close(y, want)
    assert torch.equal(y, same_y)
    close(summed, F.linear(want, weights["row"]["layer.weight"], weights["row"]["layer.bias"]))
    assert torch.equal(summed, same_sum)
    close(one + other, summed)
    assert not torch.allclose(one, summed)


def test_the_tensor_alone_without_return_bias():
    layer = RowParallelLinear(24, 6, return_bias=False).requires_grad_(False)
    assert torch.equal(layer(X), RowParallelLinear.forward(layer, X))
    assert isinstance(layer(X), torch.Tensor)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: ColumnParallelLinear(24, 10, prefix="up"), "up: output size: 10 cannot be shared out evenly to 4"),
    (lambda: RowParallelLinear(10, 24), "RowParallelLinear: input size: 10"),
    (lambda: QKVParallelLinear(24, 4, 6, 2, prefix="qkv"), "qkv: query heads: 6"),
    (lambda: QKVParallelLinear(24, 4, 12, 6, prefix="qkv"), "qkv: key and value heads: 6"),
    (lambda: QKVParallelLinear(24, 4, 12, 3, prefix="qkv"), "qkv: ranks for each key and value head: 4"),
])
def test_what_cannot_be_shared_out_is_refused(build, message):
    with set_tp_group(OneRank(0, 4)), pytest.raises(ModelError, match=message):
        build()


def test_a_weight_of_one_ranks_shape_is_refused():
    """The checkpoint holds whole weights; a shard in its place must not be taken for one."""
    weights = {"layer.weight": random(6, 24), "layer.bias": random(12)}
    with pytest.raises(WeightsError, match=r"'layer.weight': shape \[6, 24\] found, \[12, 24\] expected"):
        ranks_of(2, lambda: ColumnParallelLinear(24, 12), weights)


@pytest.mark.parametrize("cls", [ReplicatedLinear, ColumnParallelLinear, RowParallelLinear])
def test_they_are_linear_with_its_state_and_path(cls, monkeypatch):
    layer = cls(24, 12, params_dtype=torch.bfloat16)
    assert {name: tuple(t.shape) for name, t in layer.state_dict().items()} == {"weight": (12, 24), "bias": (12,)}
    assert layer.weight.dtype == torch.bfloat16
    monkeypatch.setattr(Linear, "forward", lambda self, x: x.new_ones(1))
    assert torch.equal(layer(X)[0], torch.ones(1))


def test_a_copy_is_independent_and_computes_alike():
    layer = QKVParallelLinear(24, 3, 8, 2).requires_grad_(False)
    copied = copy.deepcopy(layer).double()
    close(copied(X.double())[0].float(), layer(X)[0])
    assert layer.weight.dtype == torch.float32
    assert layer.work({"x": X}, (layer(X)[0],)).flops == 2 * 5 * 24 * 36


def test_the_loader_is_vllms():
    """`parameter.weight_loader(parameter, tensor, shard)`, which other engines call."""
    layer = QKVParallelLinear(24, 3, 8, 2, bias=False).requires_grad_(False)
    names = SimpleNamespace(q=random(24, 24), k=random(6, 24), v=random(6, 24))
    for name, tensor in vars(names).items():
        layer.weight.weight_loader(layer.weight, tensor, name)
    assert torch.equal(layer.weight, torch.cat([names.q, names.k, names.v]))
