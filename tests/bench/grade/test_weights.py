import pytest
import torch
from torch import nn

from fastkernels.bench.grade import randomise_weights
from fastkernels.tasks.baseline.L1.embedding import Embedding
from fastkernels.tasks.baseline.L1.linear import Linear
from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm
from fastkernels.tasks.baseline.L1.rotary_emb import RotaryEmbedding
from fastkernels.tasks.baseline.L2._attention_block import AttentionBlock


def test_norm_weights_lie_around_one():
    module = RMSNorm(4096, dtype=torch.bfloat16)
    randomise_weights(module, 1)
    weight = module.weight.detach().float()
    assert weight.mean().item() == pytest.approx(1, abs=0.02)
    assert weight.std().item() == pytest.approx(0.2, abs=0.02)


def test_linear_keeps_the_scale_and_has_a_bias():
    module = Linear(1024, 512, bias=True, dtype=torch.float32)
    randomise_weights(module, 1)
    assert module.bias is not None
    assert module.bias.detach().abs().min() > 0
    out = module(torch.randn(64, 1024, generator=torch.Generator().manual_seed(1)))
    assert (out - module.bias).std().item() == pytest.approx(1, abs=0.1)


def test_scores_of_soft_capped_attention_reach_the_cap():
    def scores(cap):
        block = AttentionBlock(256, 4, 2, 64, 32, None, logits_soft_cap=cap, dtype=torch.float32)
        randomise_weights(block, 1)
        x = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
        q, k, _ = block.qkv_proj(x)[0].split([block.q_size, block.kv_size, block.kv_size], dim=-1)
        return q[:, :64] @ k[:, :64].T * block.scaling

    assert scores(None).std().item() == pytest.approx(1, abs=0.1)
    assert scores(50.0).std().item() == pytest.approx(12.5, rel=0.1)
    assert scores(50.0).abs().max().item() > 40


def test_tables_have_unit_scale():
    module = Embedding(100, 256, dtype=torch.bfloat16)
    randomise_weights(module, 1)
    assert module.weight.detach().float().std().item() == pytest.approx(1, abs=0.05)


def test_buffers_and_integers_stay():
    module = RotaryEmbedding(64, 64, 32, 1e4, dtype=torch.float32)
    before = module.cos_sin_cache.clone()
    randomise_weights(module, 1)
    assert torch.equal(before, module.cos_sin_cache)
    whole = nn.Module()
    whole.table = nn.Parameter(torch.arange(4), requires_grad=False)
    randomise_weights(whole, 1)
    assert whole.table.tolist() == [0, 1, 2, 3]


def test_seed_and_name_decide():
    pair = nn.ModuleDict({"a": RMSNorm(64), "b": RMSNorm(64)})
    again = nn.ModuleDict({"a": RMSNorm(64), "b": RMSNorm(64)})
    randomise_weights(pair, 1)
    randomise_weights(again, 1)
    assert torch.equal(pair["a"].weight, again["a"].weight)
    assert not torch.equal(pair["a"].weight, pair["b"].weight)
    randomise_weights(again, 2)
    assert not torch.equal(pair["a"].weight, again["a"].weight)
