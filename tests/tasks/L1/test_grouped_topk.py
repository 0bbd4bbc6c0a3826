"""grouped_topk against lists in Python and DeepSeek's routers, ties, its kernel in the interpreter and compiled."""

import math
from types import SimpleNamespace

import pytest
import torch

from fastkernels.tasks.baseline.L1.grouped_topk import GroupedTopk, grouped_topk_kernel


def expected(logits, bias, op):
    """(weights, ids) by sorting in Python, in float64."""
    experts = logits.shape[-1]
    size = experts // op.num_expert_group
    all_weights, all_ids = [], []
    for row in logits.double().tolist():
        if op.scoring_func == "sigmoid":
            scores = [1 / (1 + math.exp(-x)) for x in row]
        else:
            exps = [math.exp(x - max(row)) for x in row]
            scores = [x / sum(exps) for x in exps]
        choice = scores if bias is None else [s + b for s, b in zip(scores, bias.double().tolist(), strict=True)]
        ranks = []
        for group in range(op.num_expert_group):
            members = sorted(choice[group * size : (group + 1) * size], reverse=True)
            ranks.append(members[0] if bias is None else sum(members[:2]))
        groups = sorted(range(len(ranks)), key=lambda g: (-ranks[g], g))[: op.topk_group]
        open_to = [e for e in range(experts) if e // size in groups]
        ids = sorted(open_to, key=lambda e: (-choice[e], e))[: op.topk]
        weights = [scores[e] for e in ids]
        total = sum(weights) if op.renormalize else 1.0
        all_ids.append(ids)
        all_weights.append([w / total * op.routed_scaling_factor for w in weights])
    return torch.tensor(all_weights, dtype=torch.float64), torch.tensor(all_ids, dtype=torch.int32)


def close(outputs, logits, bias, op):
    weights, ids = outputs
    want_weights, want_ids = expected(logits, bias, op)
    assert ids.dtype == torch.int32
    assert torch.equal(ids, want_ids), f"{ids} is not {want_ids}"
    torch.testing.assert_close(weights.double(), want_weights, atol=1e-6, rtol=2e-5)


V3 = {"topk": 8, "renormalize": True, "num_expert_group": 8, "topk_group": 4, "scoring_func": "sigmoid",
      "routed_scaling_factor": 2.5}  # fmt: skip
V2 = {"topk": 6, "renormalize": False, "num_expert_group": 8, "topk_group": 3, "routed_scaling_factor": 16.0}
FLAT = {"topk": 6, "renormalize": True}
ODD = {"topk": 4, "renormalize": True, "num_expert_group": 3, "topk_group": 2, "scoring_func": "sigmoid"}
LITE = {"topk": 6, "renormalize": False, "num_expert_group": 1, "topk_group": 1, "routed_scaling_factor": 1.5}
CASES = [(V3, 256, True), (V2, 160, False), (FLAT, 60, False), (ODD, 33, True), (LITE, 64, False), (ODD, 60, False),
         (V2, 128, True), (FLAT, 8, True)]  # fmt: skip
IDS = ["v3-256", "v2-160", "flat-60", "odd-33", "lite-64", "odd-60", "v2-128-bias", "flat-8-bias"]
cases = pytest.mark.parametrize(("init", "experts", "biased"), CASES, ids=IDS)


def given(tokens, experts, biased, dtype=torch.float32):
    return torch.randn(tokens, experts).to(dtype) * 2, torch.randn(experts) * 0.3 if biased else None


@cases
@pytest.mark.parametrize("tokens", [1, 3, 17])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_native_is_the_top_of_the_top_groups(init, experts, biased, tokens, dtype):
    op, (logits, bias) = GroupedTopk(**init), given(tokens, experts, biased, dtype)
    outputs = op(logits, bias)
    assert outputs[0].dtype == torch.float32
    close(op.canonical(outputs, {"gating_output": logits, "e_score_correction_bias": bias}), logits, bias, op)


def test_float64_is_computed_in_float64():
    op, (logits, bias) = GroupedTopk(**V3), given(3, 256, True)
    weights, _ = op(logits.double(), bias.double())
    torch.testing.assert_close(weights, expected(logits, bias, op)[0], atol=1e-14, rtol=1e-14)


def table_of(ids, weights, experts):
    """[T, E] weights by expert."""
    return torch.zeros(ids.shape[0], experts).scatter(1, ids.long(), weights.float())


def test_native_agrees_with_transformers_deepseek_v3():
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

    config = SimpleNamespace(num_experts_per_tok=8, num_local_experts=256, hidden_size=256, n_group=8, topk_group=4,
                             norm_topk_prob=True, routed_scaling_factor=2.5)  # fmt: skip
    router = DeepseekV3TopkRouter(config).requires_grad_(False)
    router.weight.copy_(torch.eye(256))
    router.e_score_correction_bias.uniform_(-0.3, 0.3)
    logits, weights, ids = router(torch.randn(17, 256))
    got_weights, got_ids = GroupedTopk(**V3)(logits, router.e_score_correction_bias)
    torch.testing.assert_close(table_of(got_ids, got_weights, 256), table_of(ids, weights, 256), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("method", "init"), [("group_limited_greedy", V2), ("greedy", LITE)])
def test_native_agrees_with_transformers_deepseek_v2(method, init):
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter

    config = SimpleNamespace(
        num_experts_per_tok=6, num_experts=160, hidden_size=160, topk_method=method, n_group=init["num_expert_group"],
        topk_group=init["topk_group"], routed_scaling_factor=init["routed_scaling_factor"],
    )  # fmt: skip
    router = DeepseekV2TopkRouter(config).requires_grad_(False)
    router.weight.copy_(torch.eye(160))
    logits, weights, ids = router(torch.randn(17, 160))
    got_weights, got_ids = GroupedTopk(**init)(logits)
    torch.testing.assert_close(table_of(got_ids, got_weights, 160), table_of(ids, weights, 160), atol=1e-6, rtol=1e-5)


def test_ties_fall_to_the_lower_group_and_expert():
    init = {"topk": 3, "renormalize": True, "num_expert_group": 4, "topk_group": 2}
    _, ids = GroupedTopk(**init)(torch.zeros(1, 16))
    assert ids.tolist() == [[0, 1, 2]]
    logits = torch.zeros(1, 16)
    logits[0, [6, 9, 14]] = 1.0  # three groups with the same best expert
    assert GroupedTopk(**init)(logits)[1].tolist() == [[6, 9, 4]]


def test_wrong_routings_are_found():
    op, (logits, bias) = GroupedTopk(**V3), given(5, 256, True)
    for wrong in (op(logits, None), op(logits.flip(-1), bias), GroupedTopk(**V3 | {"topk_group": 8})(logits, bias)):
        with pytest.raises(AssertionError, match="is not"):
            close(wrong, logits, bias, op)
    for change in ({"renormalize": False}, {"routed_scaling_factor": 1.0}):
        with pytest.raises(AssertionError, match="Mismatched elements"):
            close(GroupedTopk(**V3 | change)(logits, bias), logits, bias, op)


@pytest.mark.parametrize(
    ("change", "experts", "message"),
    [
        ({"scoring_func": "sigmod"}, 16, "'sigmod' is not one of softmax, sigmoid"),
        ({"topk_group": 5}, 16, "topk_group: 5 is not one of 1 to 4"),
        ({}, 18, "18 experts do not divide into 4 groups"),
        ({"topk": 9}, 16, "topk: 9 is more than the 8 experts of 2 groups"),
    ],
)
def test_impossible_arguments(change, experts, message):
    init = {"topk": 3, "renormalize": True, "num_expert_group": 4, "topk_group": 2} | change
    with pytest.raises(ValueError, match=message):
        GroupedTopk(**init)(torch.zeros(1, experts))


@cases
@pytest.mark.parametrize("tokens", [1, 17])
def test_kernel_in_the_interpreter(interpreter, init, experts, biased, tokens):
    op, (logits, bias) = GroupedTopk(**init), given(tokens, experts, biased)
    inputs = {"gating_output": logits, "e_score_correction_bias": bias}
    outputs, _ = interpreter(op, init, inputs)
    close(outputs, logits, bias, op)


def test_kernel_settles_ties_as_the_native_path_does_and_reads_strided_rows(interpreter):
    torch.manual_seed(3)  # scores of tied logits may differ by a rounding between the two, and the order with them
    init = {"topk": 4, "renormalize": True, "num_expert_group": 4, "topk_group": 2}
    logits = torch.randint(-1, 2, (9, 20)).to(torch.bfloat16)[:, :16]
    bias = torch.randint(-1, 2, (16,)).float()
    for inputs in ({"gating_output": logits}, {"gating_output": logits, "e_score_correction_bias": bias}):
        outputs, _ = interpreter(GroupedTopk(**init), init, inputs)
        weights, ids = GroupedTopk(**init)(**inputs)
        assert torch.equal(outputs[1], ids)
        torch.testing.assert_close(outputs[0], weights)


@pytest.mark.parametrize(
    "mutation",
    [
        ("kept = kept | (group == best)", "kept = group == best"),
        ("rank += tl.max", "rank + tl.max"),
        ("tl.where(kept, choice, float(\"-inf\"))", "choice"),
        ("tl.where(expert == best, scores, 0.0)", "tl.where(expert == best, choice, 0.0)"),
        ("if RENORMALIZE", "if not RENORMALIZE"),
        ("weights * scale", "weights"),
        ("1.0 / (1.0 + tl.exp(-logits))", "1.0 / (1.0 + tl.exp2(-logits))"),
    ],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    op, (logits, bias) = GroupedTopk(**V3), given(5, 256, True)
    inputs = {"gating_output": logits, "e_score_correction_bias": bias}
    outputs, _ = interpreter(op, V3, inputs, replace=(mutation,))
    with pytest.raises(AssertionError, match=r"is not|Mismatched elements"):
        close(outputs, logits, bias, op)
    got, due = op.canonical(outputs, inputs), op.canonical(op(logits, bias), inputs)
    assert not (torch.equal(got[1], due[1]) and torch.allclose(got[0], due[0], atol=1e-5))


def same_form(op, outputs, inputs):
    """Whether the canonical form takes these outputs for right."""
    got, due = op.canonical(outputs, inputs), op.canonical(op(**inputs), inputs)
    return torch.equal(got[1], due[1]) and torch.allclose(got[0], due[0], atol=1e-6)


def higher_first(op, gating_output, e_score_correction_bias=None):
    """The routing that settles every tie to the higher index."""
    bias = None if e_score_correction_bias is None else e_score_correction_bias.flip(-1)
    weights, ids = op(gating_output.flip(-1), bias)
    return weights, gating_output.shape[-1] - 1 - ids


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_ties_may_be_settled_otherwise(biased, scoring):
    op = GroupedTopk(4, True, 4, 2, scoring, 2.5)
    inputs = {"gating_output": torch.randint(-2, 3, (200, 16)).float()}
    if biased:
        inputs["e_score_correction_bias"] = torch.randint(-1, 2, (16,)).float()
    outputs = higher_first(op, **inputs)
    differ = (outputs[1] != op(**inputs)[1]).any(dim=-1)
    assert differ.sum() > 100
    assert same_form(op, outputs, inputs)
    kept = [x.clone() for x in outputs]
    op.canonical(outputs, inputs)
    assert all(torch.equal(a, b) for a, b in zip(outputs, kept, strict=True))
    wrong_weights = (outputs[0] + 0.01, outputs[1])
    assert not same_form(op, wrong_weights, inputs)


def test_no_wrong_routing_is_taken_for_right():
    op = GroupedTopk(4, True, 4, 2, "sigmoid", 2.5)
    inputs = dict(zip(("gating_output", "e_score_correction_bias"), given(9, 16, True), strict=True))
    weights, ids = op(**inputs)
    assert same_form(op, (weights, ids), inputs)
    for place, value in [(0, ids[0, 1]), (0, -1), (0, 16), (3, (ids[0, 3] + 1) % 16)]:
        wrong = ids.clone()
        wrong[0, place] = value
        assert not same_form(op, (weights, wrong), inputs)
    assert not same_form(op, (weights, ids.flip(-1)), inputs)
    everywhere = GroupedTopk(4, True, 4, 4, "sigmoid", 2.5)(**inputs)
    assert not torch.equal(everywhere[1], ids)
    assert not same_form(op, everywhere, inputs)


def test_groups_that_tie_do_not_open_all_of_them():
    op = GroupedTopk(2, True, 4, 2)
    logits = torch.tensor([[3.0, 0, 2, 1, 2, -1, 2, 0]])  # groups 1, 2 and 3 tie for the second place
    inputs = {"gating_output": logits}
    weights, ids = op(**inputs)
    assert ids.tolist() == [[0, 2]]
    assert same_form(op, (weights, torch.tensor([[0, 6]], dtype=torch.int32)), inputs)
    assert not same_form(op, (weights, torch.tensor([[2, 6]], dtype=torch.int32)), inputs)
    assert not same_form(op, (weights, torch.tensor([[0, 3]], dtype=torch.int32)), inputs)


def test_kernel_compiles_for_hopper(compile_for_hopper):
    types = {"logits_ptr": "*fp32", "bias_ptr": "*fp32", "weights_ptr": "*fp32", "ids_ptr": "*i32"}
    types |= {"logits_row": "i32", "scale": "fp32"}
    constants = {"GROUPS": 8, "GROUPS_BLOCK": 8, "SIZE": 32, "SIZE_BLOCK": 32, "TOPK_GROUP": 4, "TOP_K": 8,
                 "TOP_K_BLOCK": 8, "SIGMOID": True, "HAS_BIAS": True, "RENORMALIZE": True}  # fmt: skip
    assert "__local_depot" not in compile_for_hopper(grouped_topk_kernel, types, constants, num_warps=1).ptx


def test_work():
    op, (logits, bias) = GroupedTopk(**V3), given(5, 256, True)
    work = op.work({"gating_output": logits, "e_score_correction_bias": bias}, op(logits, bias))
    assert (work.bytes, work.flops) == (4 * (5 * 256 + 256 + 2 * 5 * 8), 3 * 5 * 256)


def on_gpu(op, logits, bias):
    inputs = {"gating_output": logits.cuda(), "e_score_correction_bias": None if bias is None else bias.cuda()}
    got, due = op.canonical(op(**inputs), inputs), op.canonical(op.forward_native(**inputs), inputs)
    assert torch.equal(got[1], due[1])
    torch.testing.assert_close(got[0], due[0], atol=1e-6, rtol=2e-5)


@pytest.mark.gpu
@cases
@pytest.mark.parametrize("tokens", [1, 33, 4096])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_cuda_agrees(init, experts, biased, tokens, dtype):
    on_gpu(GroupedTopk(**init), *given(tokens, experts, biased, dtype))


@pytest.mark.gpu
def test_cuda_under_torch_compile_and_graph_capture():
    op, (logits, bias) = GroupedTopk(**V3), given(33, 256, True)
    logits, bias = logits.cuda(), bias.cuda()
    for got, want in zip(torch.compile(op, fullgraph=True, dynamic=False)(logits, bias), op(logits, bias), strict=True):
        assert torch.equal(got, want)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = op(logits, bias)
    logits.normal_()
    graph.replay()
    for got, want in zip(outputs, op(logits, bias), strict=True):
        assert torch.equal(got, want)
