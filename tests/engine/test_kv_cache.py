"""Pages are handed out, grown, taken back and never shared."""

import pytest
import torch
from torch import nn

from fastkernels.engine import PagePool, Sequence, allocate_kv_caches
from fastkernels.engine.kv_cache import OutOfPagesError
from fastkernels.errors import ModelError
from fastkernels.tasks.baseline.L2.attention import Attention


def test_pages_grow_with_the_tokens():
    pool, sequence = PagePool(4, page_size=8), Sequence([0] * 20)
    for tokens, pages in ((1, 1), (8, 1), (9, 2), (16, 2), (20, 3)):
        pool.grow(sequence, tokens)
        assert len(sequence.pages) == pages
    assert pool.free_pages == 1


def test_pages_belong_to_one_sequence():
    pool, sequences = PagePool(4, page_size=8), [Sequence([0]) for _ in range(2)]
    for tokens in (8, 16):
        for sequence in sequences:
            pool.grow(sequence, tokens)
    held = [page for sequence in sequences for page in sequence.pages]
    assert sorted(held) == [0, 1, 2, 3]


def test_no_page_is_free():
    pool, one, other = PagePool(2, page_size=8), Sequence([0]), Sequence([0])
    pool.grow(one, 9)
    with pytest.raises(OutOfPagesError, match="0 of 2 pages free, 1 more are needed for 3 tokens"):
        pool.grow(other, 3)
    assert other.pages == []
    one.computed = 9
    pool.release(one)
    assert (one.pages, one.computed, pool.free_pages) == ([], 0, 2)
    pool.grow(other, 3)


def test_caches_of_every_layer():
    model = nn.ModuleList([Attention(4, 8, 1.0, 2, prefix=f"layers.{i}.attn") for i in range(2)])
    caches = allocate_kv_caches(model, 3, 16, torch.float16, torch.device("cpu"))
    assert list(caches) == ["layers.0.attn", "layers.1.attn"]
    key, value = caches["layers.1.attn"]
    assert key.shape == value.shape == (3, 16, 2, 8)
    assert key.dtype == torch.float16
    assert key.data_ptr() != value.data_ptr()


@pytest.mark.parametrize(("model", "message"), [
    (nn.ModuleList([Attention(4, 8, 1.0, prefix="attn") for _ in range(2)]), "two attention layers are named 'attn'"),
    (nn.Linear(1, 1), "Linear has no attention layer with `kv_cache_shapes`"),
])
def test_models_without_caches_of_their_own(model, message):
    with pytest.raises(ModelError, match=message):
        allocate_kv_caches(model, 3, 16, torch.float16, torch.device("cpu"))
