"""llama_mlp against transformers' block, whole and shared out."""

import pytest
import torch
from reference_blocks import flow, rank_of, reference_model

from fastkernels.errors import ModelError
from fastkernels.tasks.baseline.L2.llama_mlp import LlamaMLP


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_transformers_block(bias, size):
    model = reference_model(model_type="llama", mlp_bias=bias)
    x, expected = flow(model, "model.layers.1.mlp")
    weights = model.model.layers[1].mlp.state_dict()
    outputs = [rank_of(size, rank, lambda: LlamaMLP(64, 96, "silu", bias), weights)(x) for rank in range(size)]
    torch.testing.assert_close(sum(outputs), expected, atol=1e-5, rtol=1e-5)


def test_another_activation_is_refused():
    with pytest.raises(ModelError, match="hidden_act: 'gelu' is not one of silu"):
        LlamaMLP(64, 96, "gelu")
