"""gemma3_mlp against transformers' block, whole and shared out."""

import pytest
import torch
from reference_blocks import flow, rank_of, reference_model

from fastkernels.errors import ModelError
from fastkernels.tasks.baseline.L2.gemma3_mlp import Gemma3MLP


@pytest.mark.parametrize("size", [1, 2, 4])
def test_transformers_block(size):
    model = reference_model(model_type="gemma3_text")
    x, expected = flow(model, "model.layers.1.mlp")
    weights = model.model.layers[1].mlp.state_dict()
    outputs = [rank_of(size, rank, lambda: Gemma3MLP(64, 96, "gelu_pytorch_tanh"), weights)(x) for rank in range(size)]
    torch.testing.assert_close(sum(outputs), expected, atol=1e-5, rtol=1e-5)


def test_the_form_of_gelu_is_seen():
    model = reference_model(model_type="gemma3_text")
    x, expected = flow(model, "model.layers.1.mlp")
    block = rank_of(1, 0, lambda: Gemma3MLP(64, 96, "gelu_pytorch_tanh"), model.model.layers[1].mlp.state_dict())
    block.act_fn.approximate = "none"
    assert (block(x) - expected).abs().max() > 1e-4


def test_another_activation_is_refused():
    with pytest.raises(ModelError, match="hidden_activation: 'gelu' is not one of gelu_pytorch_tanh"):
        Gemma3MLP(64, 96, "gelu")
