"""A batch by hand: decodes first, slots by pages, cached keys where a prompt is continued."""

import torch

from fastkernels.engine import Chunk, Sequence
from fastkernels.engine.batch import lay_out

CPU = torch.device("cpu")


def test_decodes_come_first_and_rows_keep_the_callers_order():
    prompt = Sequence([10, 11, 12, 13, 14], pages=[7, 2])
    decode = Sequence([20, 21, 22], computed=2, pages=[5])
    batch = lay_out([Chunk(prompt, 5), Chunk(decode, 1)], 4, CPU)
    assert batch.input_ids.tolist() == [22, 10, 11, 12, 13, 14]
    assert batch.positions.tolist() == [2, 0, 1, 2, 3, 4]
    assert batch.rows == [range(1, 6), range(1)]
    metadata, prefill = batch.metadata, batch.metadata.prefill
    assert metadata.slot_mapping.tolist() == [22, 28, 29, 30, 31, 8]
    assert (metadata.num_decodes, metadata.max_seqlen_k) == (1, 3)
    assert metadata.block_table.tolist() == [[5]]
    assert metadata.seqused_k.tolist() == [3]
    assert prefill.cu_seqlens_q.tolist() == prefill.cu_seqlens_k.tolist() == [0, 5]
    assert (prefill.max_seqlen_q, prefill.max_seqlen_k, prefill.key_slots) == (5, 5, None)


def test_a_continued_prompt_beside_a_new_one_gathers_all_keys():
    old, new = Sequence(list(range(9)), computed=3, pages=[1, 0]), Sequence([0, 1], pages=[3])
    metadata = lay_out([Chunk(old, 4), Chunk(new, 2)], 4, CPU).metadata
    assert metadata.num_decodes == 0
    assert metadata.block_table.shape[0] == metadata.seqused_k.shape[0] == 0
    assert metadata.prefill.cu_seqlens_q.tolist() == [0, 4, 6]
    assert metadata.prefill.cu_seqlens_k.tolist() == [0, 7, 9]
    assert metadata.prefill.key_slots.tolist() == [4, 5, 6, 7, 0, 1, 2, 12, 13]
    assert metadata.slot_mapping.tolist() == [7, 0, 1, 2, 12, 13]


def test_block_tables_are_padded_to_the_longest():
    chunks = [Chunk(Sequence([0] * n, computed=n - 1, pages=list(range(n))), 1) for n in (1, 3)]
    metadata = lay_out(chunks, 1, CPU).metadata
    assert metadata.block_table.tolist() == [[0, 0, 0], [0, 1, 2]]
    assert metadata.block_table.dtype == metadata.seqused_k.dtype == torch.int32
    assert metadata.prefill is None


def test_pages_beyond_the_chunk_are_not_used():
    metadata = lay_out([Chunk(Sequence([0] * 9, pages=[4, 5, 6]), 2)], 4, CPU).metadata
    assert metadata.slot_mapping.tolist() == [16, 17]
