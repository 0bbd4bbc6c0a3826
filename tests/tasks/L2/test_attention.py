"""attention over the paged cache beside torch's scaled_dot_product_attention of every sequence's whole history."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from fastkernels.engine import Chunk, PagePool, Sequence
from fastkernels.engine.batch import lay_out
from fastkernels.runtime.forward_context import ANY_LAYER, ForwardContext, set_forward_context
from fastkernels.tasks.baseline.L2.attention import Attention

HEADS, KV_HEADS, DIM, PAGE = 6, 2, 8, 4
WIDTH, KV_WIDTH = HEADS * DIM, KV_HEADS * DIM
SCALE = 0.3


class History:
    """Sequences whose queries, keys and values are known, and the caches that they are computed into."""

    def __init__(self, *lengths, name=ANY_LAYER):
        generator = torch.Generator().manual_seed(len(lengths))
        self.rows = [torch.randn(n, WIDTH + 2 * KV_WIDTH, generator=generator) for n in lengths]
        self.sequences = [Sequence([0] * n) for n in lengths]
        self.pool = PagePool(32, PAGE)
        self.name = name
        self.caches = tuple(torch.full((32, PAGE, KV_HEADS, DIM), torch.nan) for _ in range(2))

    def run(self, layer, counts):
        """The layer's output of each sequence's next `counts` tokens; a count of 0 leaves the sequence out."""
        chunks = [Chunk(s, n) for s, n in zip(self.sequences, counts, strict=True) if n]
        rows = [r[c.sequence.computed : c.end] for r, c in zip(self._of(counts), chunks, strict=True)]
        for chunk in chunks:
            self.pool.grow(chunk.sequence, chunk.end)
        batch = lay_out(chunks, PAGE, torch.device("cpu"))
        qkv = torch.empty(sum(counts), WIDTH + 2 * KV_WIDTH)
        for places, values in zip(batch.rows, rows, strict=True):
            qkv[places.start : places.stop] = values
        y = self.call(layer, batch.metadata, qkv)
        for chunk in chunks:
            chunk.sequence.computed = chunk.end
        return [y[places.start : places.stop] for places in batch.rows]

    def call(self, layer, metadata, qkv):
        """The layer on slices of a fused projection, as in a model."""
        with set_forward_context(ForwardContext(metadata, {self.name: self.caches})):
            return layer(*qkv.split([WIDTH, KV_WIDTH, KV_WIDTH], dim=-1))

    def expected(self, index, window=None, sinks=None):
        """All rows of one sequence's attention, [tokens, WIDTH]."""
        q, k, v = (x.unflatten(-1, (-1, DIM)).transpose(0, 1) for x in self.rows[index].split(
            [WIDTH, KV_WIDTH, KV_WIDTH], dim=-1))  # fmt: skip
        k, v = (x.repeat_interleave(HEADS // KV_HEADS, dim=0) for x in (k, v))
        row, key = torch.arange(q.shape[1])[:, None], torch.arange(q.shape[1])
        seen = (key <= row) & (key > row - (window or 10**6))
        if sinks is not None:  # a key of its own whose score is the sink and whose value is zeros
            bias = F.pad(torch.zeros(seen.shape).masked_fill(~seen, -torch.inf), (1, 0)).repeat(HEADS, 1, 1)
            bias[..., 0] = sinks[:, None]
            k, v = (F.pad(x, (0, 0, 1, 0)) for x in (k, v))
            return F.scaled_dot_product_attention(q, k, v, bias, scale=SCALE).transpose(0, 1).flatten(1)
        return F.scaled_dot_product_attention(q, k, v, seen, scale=SCALE).transpose(0, 1).flatten(1)

    def _of(self, counts):
        return [rows for rows, count in zip(self.rows, counts, strict=True) if count]


SCHEDULES = {
    "prompts": [(7, 1, 12)],
    "decode": [(5, 0, 11), (1, 1, 1), (1, 0, 0), (0, 0, 0)],
    "chunks": [(3, 0, 5), (4, 0, 5), (0, 1, 2)],
    "mixed": [(6, 0, 0), (1, 0, 5), (0, 1, 7)],
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_every_schedule_gives_the_whole_histories_rows(schedule, window, with_sinks):
    history = History(7, 1, 12)
    sinks = torch.randn(HEADS, generator=torch.Generator().manual_seed(3)) if with_sinks else None
    layer = Attention(HEADS, DIM, SCALE, KV_HEADS, sliding_window=window, sinks=sinks)
    for counts in SCHEDULES[schedule]:
        if not any(counts):
            continue
        starts = [s.computed for s in history.sequences]
        outputs = iter(history.run(layer, counts))
        for index, count in enumerate(counts):
            if count:
                want = history.expected(index, window, sinks)[starts[index] : starts[index] + count]
                torch.testing.assert_close(next(outputs), want, atol=2e-6, rtol=1e-5)


def test_new_keys_and_values_are_where_the_slots_say():
    history, layer = History(6), Attention(HEADS, DIM, SCALE, KV_HEADS)
    history.run(layer, (6,))
    pages = history.sequences[0].pages
    _, key, value = history.rows[0].split([WIDTH, KV_WIDTH, KV_WIDTH], dim=-1)
    for cache, rows in zip(history.caches, (key, value), strict=True):
        assert torch.equal(cache[pages].flatten(0, 1)[:6].flatten(1), rows)
        assert cache[pages].flatten(0, 1)[6:].isnan().all()
        assert cache[[p for p in range(32) if p not in pages]].isnan().all()


def test_a_padded_decode_batch():
    """CUDA graphs run at fixed sizes: a padding row has slot -1 and no tokens, writes nothing and gives zeros."""
    history, layer = History(6), Attention(HEADS, DIM, SCALE, KV_HEADS)
    history.run(layer, (5,))
    history.pool.grow(history.sequences[0], 6)
    batch = lay_out([Chunk(history.sequences[0], 1)], PAGE, torch.device("cpu")).metadata
    padded = replace(
        batch, slot_mapping=F.pad(batch.slot_mapping, (0, 2), value=-1), num_decodes=3,
        block_table=F.pad(batch.block_table, (0, 0, 0, 2)), seqused_k=F.pad(batch.seqused_k, (0, 2)),
    )  # fmt: skip
    before = history.caches[0].clone()
    y = history.call(layer, padded, torch.cat([history.rows[0][5:], torch.randn(2, WIDTH + 2 * KV_WIDTH)]))
    torch.testing.assert_close(y[:1], history.expected(0)[5:], atol=2e-6, rtol=1e-5)
    assert (y[1:] == 0).all()
    assert (before.view(torch.int32) != history.caches[0].view(torch.int32)).flatten(2).any(-1).sum() == 1


def test_the_layer_finds_its_cache_by_name():
    history = History(8, name="model.layers.1.self_attn.attn")
    history.run(Attention(HEADS, DIM, SCALE, KV_HEADS, prefix="model.layers.1.self_attn.attn"), (4,))
    with pytest.raises(KeyError, match=r"no KV cache for layer 'model.layers.2'; there are model.layers.1.self_attn"):
        history.run(Attention(HEADS, DIM, SCALE, KV_HEADS, prefix="model.layers.2"), (4,))
    with pytest.raises(RuntimeError, match="outside of set_forward_context"):
        Attention(HEADS, DIM, SCALE)(*torch.randn(3, 2, WIDTH))


def test_sinks_stay_the_owners():
    class Owner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.sinks = torch.nn.Parameter(torch.zeros(HEADS))
            self.attn = Attention(HEADS, DIM, SCALE, KV_HEADS, sinks=self.sinks)

    owner = Owner()
    assert list(owner.state_dict()) == ["sinks"]
    history, other = History(4), History(4)
    with torch.inference_mode():
        owner.sinks.fill_(2.0)
        got = history.run(owner.attn, (4,))[0]
        copied = other.run(copy.deepcopy(owner).attn, (4,))[0]
    torch.testing.assert_close(got, history.expected(0, sinks=torch.full((HEADS,), 2.0)), atol=2e-6, rtol=1e-5)
    assert torch.equal(got, copied)
