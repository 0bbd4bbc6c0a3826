"""deepseek_v2_attention against transformers' blocks of DeepSeek-V2 and -V3, whole and shared out."""

from types import SimpleNamespace

import pytest
import torch
from models.test_deepseek_v2_parity import LATENT, YARN
from reference_blocks import flow, in_context, rank_of, reference_model

from fastkernels.errors import ModelError
from fastkernels.runtime.forward_context import (
    ANY_LAYER,
    AttentionMetadata,
    ForwardContext,
    PrefillMetadata,
    set_forward_context,
)
from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.runtime.weights import Stacked, finish_weights
from fastkernels.tasks.baseline.L2.deepseek_v2_attention import DeepseekV2MLAAttention, attention_scale

QKV_A = Stacked("fused_qkv_a_proj", {"q_a_proj": (0,), "kv_a_proj_with_mqa": (1,)})
MSCALE = {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.707}}
GROUPS = {"n_group": 4, "topk_group": 2}
KINDS = {
    "v2": LATENT | MSCALE | GROUPS | {"q_lora_rank": 24, "topk_method": "group_limited_greedy"},
    "v2-lite": LATENT | MSCALE | {"q_lora_rank": None},
    "v2-biases": LATENT | {"q_lora_rank": 24, "attention_bias": True},
    "v3": LATENT | MSCALE | GROUPS | {"model_type": "deepseek_v3", "q_lora_rank": 24},
    "v3-halves": LATENT | GROUPS | {"model_type": "deepseek_v3", "q_lora_rank": 24, "rope_interleave": False},
}


def built(config, **changes):
    arguments = {"q_lora_rank": config.q_lora_rank, "kv_lora_rank": config.kv_lora_rank} | changes
    return DeepseekV2MLAAttention(
        config, config.hidden_size, config.num_attention_heads, config.qk_nope_head_dim, config.qk_rope_head_dim,
        config.v_head_dim, max_position_embeddings=config.max_position_embeddings, **arguments,
    )  # fmt: skip


def ranks_of(model, size):
    """Every rank's block of layer 1, finished, with its share of the weights."""
    weights = model.model.layers[1].self_attn.state_dict()
    blocks = [rank_of(size, rank, lambda: built(model.config), weights, (QKV_A,)) for rank in range(size)]
    for block in blocks:
        finish_weights(block)
    return blocks


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_block(kind, size):
    model = reference_model(**KINDS[kind])
    x, expected = flow(model, "model.layers.1.self_attn")
    outputs = [in_context(block, lambda b, block=block: block(b.positions, x)) for block in ranks_of(model, size)]
    torch.testing.assert_close(sum(outputs), expected, atol=1e-5, rtol=1e-5)


def int32(*values):
    return torch.tensor(values, dtype=torch.int32)


def batches(page_size=16):
    """The 21 tokens in three calls: 13 new ones, 7 beside them in the cache, 1 that decodes; pages 3 and 1 are used."""
    slots = torch.tensor([*range(3 * page_size, 4 * page_size), *range(page_size, page_size + 5)])
    none = torch.zeros((0, 2), dtype=torch.int32)
    first = PrefillMetadata(int32(0, 13), int32(0, 13), 13, 13)
    second = PrefillMetadata(int32(0, 7), int32(0, 20), 7, 20, slots[:20])
    yield slice(13), AttentionMetadata(slots[:13], none, int32(), 0, 0, first)
    yield slice(13, 20), AttentionMetadata(slots[13:20], none, int32(), 0, 0, second)
    yield slice(20, 21), AttentionMetadata(slots[20:], int32(3, 1)[None], int32(21), 1, 21)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("kind", ["v2", "v2-lite", "v3"])
def test_chunks_and_a_decode_over_the_latent_cache(kind, size):
    model = reference_model(**KINDS[kind])
    x, expected = flow(model, "model.layers.1.self_attn")
    total = torch.zeros_like(expected)
    for block in ranks_of(model, size):
        assert block.mla_attn.kv_cache_shapes(4, 16) == ((4, 16, 40),)
        cache = torch.zeros(4, 16, 40)
        for rows, metadata in batches():
            with torch.inference_mode(), set_forward_context(ForwardContext(metadata, {ANY_LAYER: (cache,)})):
                total[rows] += block(torch.arange(21)[rows], x[rows])
        assert cache[3].all()
        assert cache[1, :5].all()
        assert not cache[[0, 2]].any()
    torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-5)


def test_padding_of_a_decode_batch_writes_nothing_and_stays_zero():
    model = reference_model(**KINDS["v3"])
    (block,) = ranks_of(model, 1)
    cache = torch.zeros(4, 16, 40)
    metadata = AttentionMetadata(torch.tensor([5, -1]), torch.zeros((2, 1), dtype=torch.int32), int32(6, 0), 2, 6)
    with torch.inference_mode(), set_forward_context(ForwardContext(metadata, {ANY_LAYER: (cache,)})):
        y = block(torch.tensor([5, 0]), torch.randn(2, 64))
    assert y[0].any()
    assert not y[1].any()
    assert cache.view(-1, 40).any(dim=1).nonzero().flatten().tolist() == [5]


def decode(block):
    """One decoding sequence of one token."""
    metadata = AttentionMetadata(torch.tensor([0]), torch.zeros((1, 1), dtype=torch.int32), int32(1), 1, 1)
    context = ForwardContext(metadata, {ANY_LAYER: (torch.zeros(1, 16, 40),)})
    with torch.inference_mode(), set_forward_context(context):
        return block(torch.tensor([0]), torch.ones(1, 64))


def test_weights_that_were_not_finished_are_seen():
    model = reference_model(**KINDS["v2"])
    weights = model.model.layers[1].self_attn.state_dict()
    block = rank_of(1, 0, lambda: built(model.config), weights, (QKV_A,))
    assert decode(block).isnan().all()
    finish_weights(block)
    assert decode(block).isfinite().all()


def test_new_weights_are_laid_out_in_the_same_memory():
    (block,) = ranks_of(reference_model(**KINDS["v2"]), 1)
    before, place = decode(block), block.mla_attn.w_uv.data_ptr()
    block.kv_b_proj.weight.mul_(2.0)
    finish_weights(block)
    assert block.mla_attn.w_uv.data_ptr() == place
    torch.testing.assert_close(decode(block), before * 2)


def test_the_state_holds_the_checkpoints_tensors_once():
    (block,) = ranks_of(reference_model(**KINDS["v3"]), 1)
    assert sorted(block.state_dict()) == [
        "fused_qkv_a_proj.weight", "kv_a_layernorm.weight", "kv_b_proj.weight", "o_proj.weight",
        "q_a_layernorm.weight", "q_b_proj.weight",
    ]  # fmt: skip


def test_the_low_rank_projections_are_whole_on_every_rank():
    (_, second) = ranks_of(reference_model(**KINDS["v2"]), 2)
    assert list(second.fused_qkv_a_proj.weight.shape) == [24 + 40, 64]
    assert list(second.q_b_proj.weight.shape) == [2 * 24, 24]
    assert list(second.mla_attn.w_uk.shape) == [2, 16, 32]


def test_heads_that_cannot_be_shared_out():
    config = SimpleNamespace(**KINDS["v2"], hidden_size=64, num_attention_heads=4, max_position_embeddings=8,
                             rms_norm_eps=1e-6)  # fmt: skip
    with set_tp_group(OneRank(0, 3)), pytest.raises(ModelError, match="query heads: 4 cannot be shared out evenly to"):
        built(config)


def test_published_scales():
    """DeepSeek-V3's and V2-Lite's rope_scaling: 192^-0.5 times (0.1 m ln 40 + 1)^2."""
    yarn = {"rope_type": "yarn", "factor": 40.0}
    assert attention_scale(192, yarn | {"mscale_all_dim": 1.0}) == pytest.approx(0.1352337788608801, rel=1e-12)
    assert attention_scale(192, yarn | {"mscale_all_dim": 0.707}) == pytest.approx(0.1147213867929261, rel=1e-12)
    assert attention_scale(192, yarn) == attention_scale(192, {"rope_type": "default"}) == 192**-0.5
