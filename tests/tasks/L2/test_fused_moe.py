"""fused_moe against an expert at a time, its shares at TP, its loaders, and wrong ones."""

import pytest
import torch
from torch.nn import functional as F

from fastkernels.errors import ModelError
from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.runtime.weights import Stacked, load_weights
from fastkernels.tasks.baseline.L1 import moe_align, moe_grouped_gemm
from fastkernels.tasks.baseline.L2.fused_moe import ALL, FusedMoE, block_size

HIDDEN, INNER = 40, 24


def checkpoint(experts, hidden=HIDDEN, inner=INNER):
    """Tensors as Mixtral's checkpoint has them."""
    shapes = {"w1": (inner, hidden), "w2": (hidden, inner), "w3": (inner, hidden)}
    return {f"experts.{e}.{name}.weight": torch.randn(shape) * shape[1] ** -0.5
            for e in range(experts) for name, shape in shapes.items()}


def loaded(module, tensors, stacks):
    """The module with these tensors; its names begin with `experts.`."""
    holder = torch.nn.Module()
    holder.experts = module
    load_weights(holder, tensors.items(), stacks)
    return module.requires_grad_(False)


def built(tensors, experts, top_k, **arguments):
    stacks = FusedMoE.make_expert_params_mapping("w1", "w2", "w3", experts)
    return loaded(FusedMoE(experts, top_k, HIDDEN, INNER, torch.float32, **arguments), tensors, stacks)


def expected(tensors, x, logits, top_k, renormalize=True):
    """One token and one expert at a time, in float64."""
    rows = []
    for token, row in zip(x.double(), logits.double(), strict=True):
        chances = row.softmax(-1)
        ids = chances.topk(top_k).indices.tolist()
        total = sum(chances[e] for e in ids) if renormalize else 1.0
        y = torch.zeros(HIDDEN, dtype=torch.float64)
        for e in ids:
            gate, down, up = (tensors[f"experts.{e}.{name}.weight"].double() for name in ("w1", "w2", "w3"))
            y += down @ (F.silu(gate @ token) * (up @ token)) * (chances[e] / total)
        rows.append(y)
    return torch.stack(rows)


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(1, 8, 2), (3, 60, 4), (17, 128, 8), (50, 8, 2), (5, 4, 1)])
def test_is_an_expert_at_a_time(tokens, experts, top_k, renormalize):
    tensors = checkpoint(experts)
    x, logits = torch.randn(tokens, HIDDEN), torch.randn(tokens, experts)
    got = built(tensors, experts, top_k, renormalize=renormalize)(x, logits)
    torch.testing.assert_close(got.double(), expected(tensors, x, logits, top_k, renormalize), atol=1e-5, rtol=0)


def test_few_rows_go_unsorted_and_many_in_blocks():
    calls = []
    module = built(checkpoint(16), 16, 2)
    module.w13.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[1:]))
    module(torch.randn(2, HIDDEN), torch.randn(2, 16))
    module(torch.randn(3, HIDDEN), torch.randn(3, 16))
    assert calls[0][0] is None
    assert calls[0][1].shape == (4,)
    assert calls[1][0].shape[0] == 16 * calls[1][1].shape[0]


def test_other_weights_or_a_lost_expert_are_outside_the_tolerance():
    tensors = checkpoint(8)
    x, logits = torch.randn(17, HIDDEN), torch.randn(17, 8)
    want = expected(tensors, x, logits, 2)
    swapped = {name.replace("w1", "*").replace("w3", "w1").replace("*", "w3"): t for name, t in tensors.items()}
    for wrong in (built(swapped, 8, 2)(x, logits), built(tensors, 8, 1)(x, logits), built(tensors, 8, 2)(x, -logits)):
        with pytest.raises(AssertionError, match="Mismatched elements"):
            torch.testing.assert_close(wrong.double(), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_shares_of_the_ranks_sum_to_the_whole(size):
    tensors = checkpoint(8)
    x, logits = torch.randn(9, HIDDEN), torch.randn(9, 8)
    shares = []
    for rank in range(size):
        with set_tp_group(OneRank(rank, size)):
            module = built(tensors, 8, 2, reduce_results=True)
        assert module.w13_weight.shape == (8, 2 * INNER // size, HIDDEN)
        assert module.w2_weight.shape == (8, HIDDEN, INNER // size)
        shares.append(module(x, logits))
    torch.testing.assert_close(sum(shares), built(tensors, 8, 2)(x, logits), atol=1e-5, rtol=0)
    assert not torch.allclose(shares[0] * size, sum(shares), atol=1e-2)


STACKS = (
    Stacked("experts.w13.weight", {"experts.gate_up_proj": (ALL,)}),
    Stacked("experts.w13.bias", {"experts.gate_up_proj_bias": (ALL,)}),
    Stacked("experts.w2.weight", {"experts.down_proj": (ALL,)}),
    Stacked("experts.w2.bias", {"experts.down_proj_bias": (ALL,)}),
)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_biases_and_alternating_gate_and_up(size):
    experts, top_k, alpha, limit = 6, 3, 1.5, 2.0
    up, up_bias = torch.randn(experts, HIDDEN, 2 * INNER), torch.randn(experts, 2 * INNER)
    down, down_bias = torch.randn(experts, INNER, HIDDEN) * INNER**-0.5, torch.randn(experts, HIDDEN)
    tensors = {"experts.gate_up_proj": up, "experts.gate_up_proj_bias": up_bias, "experts.down_proj": down,
               "experts.down_proj_bias": down_bias}  # fmt: skip
    x, logits = torch.randn(7, HIDDEN), torch.randn(7, experts)
    chosen, ids = logits.topk(top_k)
    both = torch.einsum("th,tkhi->tki", x, up[ids]) + up_bias[ids]
    gate, linear = both[..., 0::2].clamp(max=limit), both[..., 1::2].clamp(-limit, limit)
    y = torch.einsum("tki,tkih->tkh", (linear + 1) * gate * torch.sigmoid(alpha * gate), down[ids]) + down_bias[ids]
    want = (y * chosen.softmax(-1)[..., None]).sum(1)
    shares = []
    for rank in range(size):
        with set_tp_group(OneRank(rank, size)):
            module = FusedMoE(experts, top_k, HIDDEN, INNER, torch.float32, activation="swigluoai", has_bias=True,
                              swiglu_alpha=alpha, swiglu_limit=limit)  # fmt: skip
        shares.append(loaded(module, tensors, STACKS)(x, logits))
    torch.testing.assert_close(sum(shares), want, atol=5e-5, rtol=1e-5)


def test_grouped_routing_takes_the_correction_bias():
    arguments = {"use_grouped_topk": True, "num_expert_group": 4, "topk_group": 2, "scoring_func": "sigmoid"}
    module = built(checkpoint(16), 16, 3, routed_scaling_factor=2.5, **arguments)
    x, logits, bias = torch.randn(5, HIDDEN), torch.randn(5, 16), torch.zeros(16)
    plain = module(x, logits, bias)
    bias[3] = 10.0
    weights, ids = module.router(logits, bias)
    assert (ids == 3).any(dim=-1).all()
    torch.testing.assert_close(weights.sum(-1), torch.full((5,), 2.5))
    assert not torch.allclose(module(x, logits, bias), plain)


def test_impossible_arguments():
    with pytest.raises(ModelError, match="'gelu' is not one of silu, swigluoai"):
        FusedMoE(8, 2, HIDDEN, INNER, activation="gelu")
    with pytest.raises(ValueError, match=r"layer\.experts: scoring_func 'sigmoid' .* needs use_grouped_topk"):
        FusedMoE(8, 2, HIDDEN, INNER, scoring_func="sigmoid", prefix="layer.experts")
    with set_tp_group(OneRank(0, 5)), pytest.raises(ModelError, match=r"layer\.experts: intermediate size"):
        FusedMoE(8, 2, HIDDEN, INNER, prefix="layer.experts")


def test_a_misshapen_expert_is_named():
    tensors = checkpoint(4)
    tensors["experts.2.w2.weight"] = torch.randn(INNER, HIDDEN)
    with pytest.raises(Exception, match=r"'experts.2.w2.weight': shape \[24, 40\] found, \[40, 24\] expected"):
        built(tensors, 4, 2)


def test_block_size_grows_with_the_rows_of_an_expert():
    sizes = [block_size(rows, 8) for rows in (1, 16, 85, 86, 170, 171, 340, 342, 10**6)]
    assert sizes == [16, 16, 16, 32, 32, 64, 64, 128, 128]


def test_compiles_as_one_graph_for_token_counts_that_vary(monkeypatch):
    module = built(checkpoint(8), 8, 2)

    def launch_tiles(x, weight, out, sorted_ids, expert_ids, padded, scale, bias, top_k, tile, by_map):
        op = module.w13 if top_k == 2 else module.w2
        out.copy_(op.forward_native(x, sorted_ids, expert_ids, padded, scale))

    def launch_align(ids, counts, rows, expert_ids, padded, *rest, SIZE, **options):
        for out, value in zip((rows, expert_ids, padded), module.align.forward_native(ids, SIZE), strict=True):
            out.copy_(value)

    monkeypatch.setattr(moe_grouped_gemm, "launch_tiles", launch_tiles)
    monkeypatch.setattr(moe_align, "moe_align_kernel", {(8,): launch_align})
    for op in (module.align, module.w13, module.w2):
        monkeypatch.setattr(op, "forward", op.forward_cuda)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for tokens in (1, 5, 6, 70):
        x, logits = torch.randn(tokens, HIDDEN), torch.randn(tokens, 8)
        torch.testing.assert_close(compiled(x, logits), module(x, logits))


@pytest.mark.gpu
@pytest.mark.parametrize(("experts", "top_k", "hidden", "inner"), [(8, 2, 4096, 1792), (128, 8, 2048, 768)])
@pytest.mark.parametrize("tokens", [1, 3, 33, 300, 2000])
def test_cuda_agrees(experts, top_k, hidden, inner, tokens):
    torch.manual_seed(0)
    with torch.device("cuda"):
        module = FusedMoE(experts, top_k, hidden, inner, torch.bfloat16).requires_grad_(False)
        x, logits = torch.randn(tokens, hidden, dtype=torch.bfloat16), torch.randn(tokens, experts)
    got = module(x, logits)
    for part in module.modules():
        if hasattr(part, "forward_native"):
            part.native_only = True
    want = module.float()(x.float(), logits)
    assert ((got.float() - want).norm() / want.norm()).item() < 6e-3


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 33])
def test_cuda_graph_and_torch_compile(tokens):
    with torch.device("cuda"):
        module = FusedMoE(128, 8, 2048, 768, torch.bfloat16).requires_grad_(False)
        x, logits = torch.randn(tokens, 2048, dtype=torch.bfloat16), torch.randn(tokens, 128)
    torch.testing.assert_close(torch.compile(module, fullgraph=True)(x, logits), module(x, logits))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = module(x, logits)
    x.normal_()
    logits.normal_()
    graph.replay()
    assert torch.equal(out, module(x, logits))
