"""topk_softmax against softmax and topk, ties, its kernel in the interpreter and compiled, and wrong kernels."""

import pytest
import torch

from fastkernels.tasks.baseline.L1.topk_softmax import TopKSoftmax, topk_softmax_kernel


def expected(logits, top_k, renormalize):
    """Argmax top_k times over the probabilities in float64; torch.argmax of a row takes the first of equals."""
    probabilities = torch.softmax(logits.double(), dim=-1)
    weights, ids, left = [], [], logits.double().clone()
    for _ in range(top_k):
        best = torch.tensor([row.tolist().index(max(row.tolist())) for row in left])[:, None]
        ids.append(best)
        weights.append(probabilities.gather(-1, best))
        left.scatter_(-1, best, float("-inf"))
    weights, ids = torch.cat(weights, dim=-1), torch.cat(ids, dim=-1).to(torch.int32)
    return weights / weights.sum(dim=-1, keepdim=True) if renormalize else weights, ids


def close(outputs, logits, top_k, renormalize):
    weights, ids = outputs
    want_weights, want_ids = expected(logits, top_k, renormalize)
    assert (weights.dtype, ids.dtype) == (torch.float32, torch.int32)
    assert torch.equal(ids, want_ids), f"{ids} is not {want_ids}"
    torch.testing.assert_close(weights.double(), want_weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(1, 8, 2), (3, 128, 8), (5, 33, 3), (2, 4, 4)])
def test_native_is_the_top_of_the_softmax(renormalize, dtype, tokens, experts, top_k):
    logits = torch.randn(tokens, experts).to(dtype) * 3
    close(TopKSoftmax(top_k, renormalize)(logits), logits, top_k, renormalize)


def test_renormalized_it_is_the_softmax_of_the_chosen_logits():
    """As GPT-OSS routes: top k of the logits, then their softmax."""
    logits = torch.randn(17, 32) * 3
    values, ids = torch.topk(logits, 4)
    got = TopKSoftmax(4, True)(logits)
    assert torch.equal(got[1].long(), ids)
    torch.testing.assert_close(got[0], torch.softmax(values, dim=-1))


def test_native_agrees_with_torch_topk():
    logits = torch.randn(7, 128)
    weights, ids = TopKSoftmax(8, False)(logits)
    want = torch.topk(torch.softmax(logits, dim=-1), 8)
    assert torch.equal(ids.long(), want.indices)
    torch.testing.assert_close(weights, want.values)


def test_float64_is_computed_in_float64():
    logits = torch.randn(3, 16, dtype=torch.float64)
    weights, _ = TopKSoftmax(2)(logits)
    torch.testing.assert_close(weights, expected(logits, 2, True)[0], atol=1e-14, rtol=1e-14)


TIES = torch.tensor([[0.0, 1.0, 1.0, 0.0], [2.0] * 4, [-0.0, 0.0, -0.0, -1.0], [-1e30, -2e30, -2e30, -3e30]])


def test_ties_fall_to_the_lower_expert():
    _, ids = TopKSoftmax(3)(TIES)
    assert ids.tolist() == [[1, 2, 0], [0, 1, 2], [0, 1, 2], [0, 1, 2]]


def test_other_experts_or_weights_without_renormalization_are_found():
    logits = torch.randn(5, 16)
    with pytest.raises(AssertionError, match="is not"):
        close(TopKSoftmax(2)(logits.flip(-1)), logits, 2, True)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(TopKSoftmax(2, False)(logits), logits, 2, True)


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize(
    ("tokens", "experts", "top_k", "dtype"),
    [(1, 8, 2, torch.float32), (3, 128, 8, torch.bfloat16), (5, 33, 3, torch.float16), (515, 4, 4, torch.float32)],
)
def test_kernel_in_the_interpreter(interpreter, renormalize, tokens, experts, top_k, dtype):
    logits = torch.randn(tokens, experts).to(dtype) * 3
    init = {"top_k": top_k, "renormalize": renormalize}
    outputs, _ = interpreter(TopKSoftmax(top_k), init, {"gating_output": logits})
    close(outputs, logits, top_k, renormalize)


def test_kernel_settles_ties_as_the_native_path_does(interpreter):
    masked = torch.tensor([[float("-inf"), 1.0, float("-inf"), float("-inf")]])
    logits = torch.cat((TIES, masked))
    outputs, _ = interpreter(TopKSoftmax(3), {"top_k": 3}, {"gating_output": logits})
    weights, ids = TopKSoftmax(3)(logits)
    assert torch.equal(outputs[1], ids)
    torch.testing.assert_close(outputs[0], weights)


@pytest.mark.parametrize(
    "mutation",
    [
        ("order = tl.where(expert == best, REMOVED, order)", "pass"),
        ("expert < EXPERTS)", "expert < EXPERTS - 1)"),
        ("tl.exp(logits - largest)", "tl.exp2(logits - largest)"),
        ("tl.where(logits == 0.0, 0.0, logits)", "logits"),
    ],
)
def test_a_wrong_kernel_is_found(interpreter, mutation):
    logits = torch.cat((torch.randn(5, 33), torch.zeros(1, 33)))
    logits[:, -1] = torch.tensor([9.0, 0, 0, 0, 0, 0])
    logits[-1, ::2] = -0.0
    outputs, _ = interpreter(TopKSoftmax(3), {"top_k": 3}, {"gating_output": logits}, replace=(mutation,))
    with pytest.raises(AssertionError, match=r"is not|Mismatched elements"):
        close(outputs, logits, 3, True)


def test_kernel_compiles_for_hopper(compile_for_hopper):
    types = {"logits_ptr": "*bf16", "weights_ptr": "*fp32", "ids_ptr": "*i32", "tokens": "i64", "logits_row": "i32"}
    constants = {"EXPERTS": 128, "EXPERTS_BLOCK": 128, "TOP_K": 8, "TOP_K_BLOCK": 8, "TOKENS": 4, "RENORMALIZE": True}
    assert "__local_depot" not in compile_for_hopper(topk_softmax_kernel, types, constants, num_warps=2).ptx


@pytest.mark.gpu
@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize(("experts", "top_k"), [(8, 2), (128, 8), (33, 3), (256, 8)])
@pytest.mark.parametrize("tokens", [1, 33, 1027])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_cuda_agrees(tokens, experts, top_k, renormalize, dtype):
    op, logits = TopKSoftmax(top_k, renormalize), torch.randn(tokens, experts).to(dtype) * 3
    weights, ids = op(logits.cuda())
    want_weights, want_ids = op(logits)
    assert torch.equal(ids.cpu(), want_ids)
    torch.testing.assert_close(weights.cpu(), want_weights, atol=1e-6, rtol=1e-5)


@pytest.mark.gpu
def test_cuda_settles_ties_as_the_native_path_does():
    weights, ids = TopKSoftmax(3)(TIES.cuda())
    want_weights, want_ids = TopKSoftmax(3)(TIES)
    assert torch.equal(ids.cpu(), want_ids)
    torch.testing.assert_close(weights.cpu(), want_weights)
