"""Configs of several releases of transformers say the same in different words."""

from types import SimpleNamespace as Config

import pytest

from fastkernels.errors import ModelError
from fastkernels.runtime.model_config import (
    FULL,
    SLIDING,
    check_choice,
    head_size,
    layer_index,
    layer_type,
    num_experts,
    num_kv_heads,
    rope_parameters,
    sliding_window,
)

LLAMA3 = {"rope_type": "llama3", "factor": 8.0}


@pytest.mark.parametrize(("config", "base", "kind", "rest"), [
    (Config(), 10000.0, "default", {}),
    (Config(rope_theta=5e5), 5e5, "default", {}),
    (Config(rope_theta=5e5, rope_scaling=None), 5e5, "default", {}),
    (Config(rope_theta=5e5, rope_scaling=LLAMA3), 5e5, "llama3", {"factor": 8.0}),
    (Config(rope_theta=5e5, rope_scaling={"type": "linear", "factor": 2.0}), 5e5, "linear", {"factor": 2.0}),
    (Config(rope_parameters={"rope_theta": 5e5, **LLAMA3}), 5e5, "llama3", {"factor": 8.0}),
    (Config(rope_parameters={"rope_type": "default"}, rope_theta=5e5), 5e5, "default", {}),
])
def test_rope_parameters_old_and_new(config, base, kind, rest):
    assert rope_parameters(config) == {"rope_theta": base, "rope_type": kind, **rest}


def test_rope_parameters_by_layer():
    types = [SLIDING, FULL]
    new = Config(layer_types=types, rope_parameters={
        SLIDING: {"rope_type": "default", "rope_theta": 1e4},
        FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}})  # fmt: skip
    old = Config(layer_types=types, rope_theta=1e6, rope_local_base_freq=1e4,
                 rope_scaling={"rope_type": "linear", "factor": 8.0})  # fmt: skip
    for config in (new, old):
        sliding, full = rope_parameters(config, 0), rope_parameters(config, 1)
        assert (sliding["rope_theta"], sliding["rope_type"]) == (1e4, "default")
        assert "factor" not in sliding
        assert (full["rope_theta"], full["rope_type"], full["factor"]) == (1e6, "linear", 8.0)


def test_the_config_is_left_alone():
    scaling = {"type": "linear", "factor": 2.0}
    rope_parameters(Config(rope_scaling=scaling))["factor"] = 3.0
    assert scaling == {"type": "linear", "factor": 2.0}


def test_partial_rotary_factor_of_either_place():
    assert rope_parameters(Config(partial_rotary_factor=0.5))["partial_rotary_factor"] == 0.5
    assert rope_parameters(Config(rope_parameters={"partial_rotary_factor": 0.5}))["partial_rotary_factor"] == 0.5


@pytest.mark.parametrize(("config", "windows"), [
    (Config(), [None, None, None]),
    (Config(sliding_window=None), [None, None, None]),
    (Config(sliding_window=8), [8, 8, 8]),
    (Config(sliding_window=8, use_sliding_window=False), [None, None, None]),
    (Config(sliding_window=8, use_sliding_window=True, max_window_layers=1), [None, 8, 8]),
    (Config(sliding_window=8, layer_types=[SLIDING, FULL, SLIDING]), [8, None, 8]),
    (Config(sliding_window=8, sliding_window_pattern=2), [8, None, 8]),
])
def test_windows(config, windows):
    assert [sliding_window(config, index) for index in range(3)] == windows
    assert [layer_type(config, index) for index in range(3)] == [SLIDING if w else FULL for w in windows]


def test_heads():
    config = Config(hidden_size=64, num_attention_heads=4, head_dim=None)
    assert (head_size(config), num_kv_heads(config)) == (16, 4)
    config = Config(hidden_size=64, num_attention_heads=4, head_dim=32, num_key_value_heads=2)
    assert (head_size(config), num_kv_heads(config)) == (32, 2)


@pytest.mark.parametrize(("prefix", "index"), [
    ("model.layers.12.self_attn", 12), ("layers.3", 3), ("3.mlp", 3), ("self_attn", 0), ("", 0), ("h2.layers.5", 5),
])
def test_layer_index(prefix, index):
    assert layer_index(prefix) == index


def test_check_choice():
    assert check_choice("hidden_act", "silu", "silu", "gelu") == "silu"
    with pytest.raises(ModelError, match=r"hidden_act: 'gelu_new' is not one of silu, gelu. Did you mean 'gelu'\?"):
        check_choice("hidden_act", "gelu_new", "silu", "gelu")


@pytest.mark.parametrize("name", ["num_local_experts", "num_experts", "n_routed_experts"])
def test_experts_under_every_name(name):
    assert num_experts(Config(**{name: 60})) == 60
    assert num_experts(Config(**{"num_local_experts": None, name: 8})) == 8
    assert num_experts(Config(hidden_size=64)) == 0
