"""parallel_lm_head: ranks' logits side by side are one product with the whole weight."""

import pytest
import torch
from torch.nn import functional as F

from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.runtime.weights import load_weights, targets
from fastkernels.tasks.baseline.L1.linear import Linear
from fastkernels.tasks.baseline.L2.parallel_lm_head import ParallelLMHead
from fastkernels.tasks.baseline.L2.vocab_parallel_embedding import VocabParallelEmbedding

VOCAB = 99
WEIGHT = torch.randn(VOCAB, 12, generator=torch.Generator().manual_seed(0))
BIAS = torch.randn(VOCAB, generator=torch.Generator().manual_seed(1))
X = torch.randn(5, 12, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_ranks_side_by_side(size, bias):
    parts = []
    for rank in range(size):
        with set_tp_group(OneRank(rank, size)):
            head = ParallelLMHead(VOCAB, 12, bias).requires_grad_(False)
        load_weights(head, [("weight", WEIGHT), *([("bias", BIAS)] if bias else [])])
        parts.append(head(X))
    logits = torch.cat(parts, dim=-1)
    assert logits.shape == (5, 128)
    want = F.linear(X, WEIGHT, BIAS if bias else None)
    torch.testing.assert_close(logits[:, :VOCAB], want, atol=1e-5, rtol=1e-5)
    assert (logits[:, VOCAB:] == 0).all()


def test_tied_to_the_embedding():
    model = torch.nn.ModuleDict({"embed": VocabParallelEmbedding(VOCAB, 12), "head": ParallelLMHead(VOCAB, 12)})
    assert model["head"].tie_weights(model["embed"]) is model["head"]
    model.requires_grad_(False)
    assert list(targets(model)) == ["embed.weight"]
    load_weights(model, [("embed.weight", WEIGHT)])
    torch.testing.assert_close(model["head"](X)[:, :VOCAB], F.linear(X, WEIGHT), atol=1e-5, rtol=1e-5)


def test_it_is_a_linear(monkeypatch):
    monkeypatch.setattr(Linear, "forward", lambda self, x: x.new_ones(1))
    assert torch.equal(ParallelLMHead(VOCAB, 12)(X), torch.ones(1))
