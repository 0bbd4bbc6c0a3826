"""vocab_parallel_embedding: ranks' parts sum to torch's embedding."""

import pytest
import torch
from torch.nn import functional as F

from fastkernels.errors import ModelError
from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.runtime.weights import load_weights
from fastkernels.tasks.baseline.L2.vocab_parallel_embedding import VocabParallelEmbedding

VOCAB = 99
"""Padded to 128: of two ranks the second, of four the last two hold padding."""
TABLE = torch.randn(VOCAB, 12, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([0, 98, 31, 32, 63, 64, 64, 5])


def rank_of(size, rank):
    with set_tp_group(OneRank(rank, size)):
        embedding = VocabParallelEmbedding(VOCAB, 12).requires_grad_(False)
    load_weights(embedding, [("weight", TABLE)])
    return embedding


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_ranks_sum_to_the_embedding(size, dtype):
    parts = [rank_of(size, rank) for rank in range(size)]
    assert parts[0].weight.shape == (128 // size, 12)
    assert torch.equal(sum(part(IDS.to(dtype)) for part in parts), F.embedding(IDS, TABLE))


def test_padding_is_zero_and_ids_of_others_give_zeros():
    last = rank_of(4, 3)
    assert (last.weight[3:] == 0).all()
    assert torch.equal(last.weight[:3], TABLE[96:])
    looked_up = last(IDS)
    assert torch.equal(looked_up[1], TABLE[98])
    assert (looked_up[torch.arange(8) != 1] == 0).all()


def test_work_counts_the_rows_that_a_rank_holds():
    ids, rows = IDS.nbytes, 12 * 4
    for size, rank, held in ((1, 0, 7), (2, 0, 5), (2, 1, 2), (4, 2, 1)):
        embedding = rank_of(size, rank)
        out = embedding(IDS)
        assert embedding.work({"input_ids": IDS}, (out,)).bytes == ids + out.nbytes + held * rows


def over_ranks():
    embedding = VocabParallelEmbedding(VOCAB, 12).requires_grad_(False)
    load_weights(embedding, [("weight", TABLE)])
    return embedding(IDS)


def test_every_rank_has_the_sum(ranks):
    for got in ranks.call(over_ranks):
        assert torch.equal(got, F.embedding(IDS, TABLE))


def test_a_vocabulary_that_cannot_be_shared_out():
    with set_tp_group(OneRank(0, 3)), pytest.raises(ModelError, match="padded vocabulary: 128 cannot be shared"):
        VocabParallelEmbedding(VOCAB, 12)
