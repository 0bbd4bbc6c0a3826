"""Whole models trace into one graph: torch.compile(fullgraph=True) of everything around the attention kernels.

On a CPU the attention kernels' native paths loop over sequences, which no graph can hold; simple products of the same
shapes stand in for them here. The kernels themselves are compiled in the GPU tests.
"""

from collections.abc import Iterator

import pytest
import torch
from models.parity import make_tiny
from models.test_deepseek_v2_parity import LATENT
from suite import exhaustive

from fastkernels.engine import Chunk, ModelRunner, Sequence, load_model
from fastkernels.engine.batch import lay_out
from fastkernels.runtime.forward_context import ForwardContext, set_forward_context
from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.tasks.baseline.L1.allreduce import AllReduce
from fastkernels.tasks.baseline.L1.flash_attn_decode import FlashAttnDecode
from fastkernels.tasks.baseline.L1.flash_attn_prefill import FlashAttnPrefill
from fastkernels.tasks.baseline.L1.mla_decode import MLADecode
from fastkernels.tasks.baseline.L1.store_kvcache import StoreKVCache
from fastkernels.tasks.baseline.L1.store_mla_cache import StoreMLACache

KINDS = {
    "llama": {}, "qwen2": {}, "qwen3": {}, "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "deepseek_v2": LATENT | {"q_lora_rank": 24, "num_hidden_layers": 1},
}  # fmt: skip
"""What differs from TINY. The native path of experts counts rows on the host, which no graph holds: dense layers."""


@pytest.fixture(autouse=True)
def simple_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def store(self, key, value, key_cache, value_cache, slot_mapping):
        key_cache.flatten(0, 1)[slot_mapping] = key
        value_cache.flatten(0, 1)[slot_mapping] = value

    def store_latents(self, kv_c, k_pe, kv_cache, slot_mapping):
        kv_cache.flatten(0, 1)[slot_mapping] = torch.cat((kv_c, k_pe), dim=-1)

    def decode_latents(self, query, kv_cache, block_table, seqused_k, max_seqlen_k):
        first = kv_cache[block_table[:, 0].long(), 0, None]
        return (query * first)[..., : self.kv_lora_rank] + seqused_k[:, None, None] * max_seqlen_k

    def decode(self, query, key_cache, value_cache, block_table, seqused_k, max_seqlen_k, sinks=None):
        first = value_cache[block_table[:, 0].long(), 0].repeat_interleave(self.num_heads // self.num_kv_heads, 1)
        return query * first + seqused_k[:, None, None] * max_seqlen_k

    def prefill(self, query, key, value, cu_q, cu_k, max_q, max_k, sinks=None):
        return query[..., : value.shape[-1]] * value.mean(dim=(0, 1)) + key.sum() * max_q

    monkeypatch.setattr(StoreKVCache, "forward_native", store)
    monkeypatch.setattr(FlashAttnDecode, "forward_native", decode)
    monkeypatch.setattr(FlashAttnPrefill, "forward_native", prefill)
    monkeypatch.setattr(StoreMLACache, "forward_native", store_latents)
    monkeypatch.setattr(MLADecode, "forward_native", decode_latents)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(("kind", "size"), [
    *((kind, 1) for kind in KINDS), ("llama", 2), ("deepseek_v2", 2),
    *exhaustive(("qwen2", 2), ("qwen3", 2), ("gemma3_text", 2)),
])  # fmt: skip
def test_one_graph_holds_a_mixed_batch(kind, size, tmp_path):
    make_tiny({"model_type": kind} | KINDS[kind], tmp_path)
    with set_tp_group(OneRank(0, size)):
        model = load_model(tmp_path)
    runner = ModelRunner(model, pages=8)
    sequences = [Sequence([1, 2, 3, 4, 5]), Sequence([6, 7], computed=1), Sequence([8, 9, 10], computed=1)]
    chunks = [Chunk(sequence, sequence.pending) for sequence in sequences]
    for chunk in chunks:
        runner.pool.grow(chunk.sequence, chunk.end)
    batch = lay_out(chunks, runner.pool.page_size, torch.device("cpu"))
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.inference_mode(), set_forward_context(ForwardContext(batch.metadata, runner.kv_caches)):
        expected = model(batch.input_ids, batch.positions)
        torch.testing.assert_close(compiled(batch.input_ids, batch.positions), expected)


def compiled_sum():
    op = AllReduce()
    x = torch.arange(3.0) + op.tp_group.rank
    torch.compiler.reset()
    return torch.compile(op, fullgraph=True, backend="eager")(x)


def test_the_exchange_of_ranks_is_part_of_the_graph(ranks):
    for got in ranks.call(compiled_sum):
        assert got.tolist() == [1, 3, 5]
