"""gpt_oss_decoder_layer against transformers' layer, with and without a window."""

import pytest
from reference_blocks import QKV, check_layer, reference_model

from fastkernels.tasks.baseline.L2.gpt_oss_moe import EXPERT_STACKS
from fastkernels.tasks.baseline.L3.gpt_oss_decoder_layer import TransformerBlock

CONFIG = {"model_type": "gpt_oss", "head_dim": 32, "sliding_window": 5, "num_local_experts": 8,
          "num_experts_per_tok": 3}  # fmt: skip
STACKED = (QKV, *EXPERT_STACKS)


@pytest.mark.parametrize("layer", [0, 1])
def test_transformers_layer(layer):
    model = reference_model(**CONFIG)
    check_layer(model, lambda: TransformerBlock(model.config, f"model.layers.{layer}"), layer, STACKED)


def test_the_kind_of_another_layer_is_seen():
    model = reference_model(**CONFIG)
    with pytest.raises(AssertionError, match="not close"):
        check_layer(model, lambda: TransformerBlock(model.config, "model.layers.0"), 1, STACKED)
