"""olmo2_attention against transformers' block; ranks normalise what they have together (two ranks: tests/models)."""

import copy

import pytest
import torch
from reference_blocks import check_attention, reference_model

from fastkernels.runtime.parallel import MirroredRank, set_tp_group
from fastkernels.tasks.baseline.L2.olmo2_attention import Olmo2Attention

CONFIG = {"model_type": "olmo3", "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"],
          "rms_norm_eps": 1e-3, "num_key_value_heads": 1}  # fmt: skip


@pytest.mark.parametrize("layer", [0, 1])
def test_transformers_block(layer):
    model = reference_model(**CONFIG)
    check_attention(model, lambda: Olmo2Attention(model.config, f"model.layers.{layer}.self_attn"), 1, layer)


@pytest.mark.parametrize("change", [{"sliding_window": 4}, {"rms_norm_eps": 1e-6}], ids=str)
def test_another_config_is_seen(change):
    model = reference_model(**CONFIG)
    config = copy.deepcopy(model.config)
    vars(config).update(change)
    with pytest.raises(AssertionError, match="not close"):
        check_attention(model, lambda: Olmo2Attention(config, "model.layers.0.self_attn"), 1, 0)


def test_a_rank_that_stands_alone_shows_whether_it_gathers():
    """Beside parts of peers that were copies of its own, a norm over this rank's part alone would be as good."""
    model = reference_model(**CONFIG | {"num_key_value_heads": 2})
    with set_tp_group(MirroredRank(1, 2)):
        block = Olmo2Attention(model.config, "model.layers.1.self_attn").requires_grad_(False)
        q = torch.randn(3, block.q_size)
        gathered = block._norm(q, block.q_norm, 1)
        own = q * torch.rsqrt(q.square().mean(-1, keepdim=True) + 1e-3)
    torch.testing.assert_close(gathered, q * torch.rsqrt(2.5 * q.square().mean(-1, keepdim=True) + 1e-3))
    assert not torch.allclose(gathered, own, atol=0.1)
