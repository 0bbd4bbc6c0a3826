"""The shipped model configs hold the published values; wrong configs are refused."""

import json

import pytest

from fastkernels.errors import ManifestError
from fastkernels.manifest.config import parse_config, read_config, short_name
from fastkernels.manifest.families import FAMILIES
from fastkernels.manifest.generate import shipped_configs
from fastkernels.manifest.loader import manifests_directory

MODELS = manifests_directory() / "models"
CONFIGS = {config.name: config for config in shipped_configs(MODELS)}

# name: hidden, intermediate (of an expert), heads, kv heads, head_dim, vocab, positions, rms eps, rope theta
PUBLISHED = {
    "llama31-8b": (4096, 14336, 32, 8, 128, 128256, 131072, 1e-5, 5e5),
    "llama31-70b": (8192, 28672, 64, 8, 128, 128256, 131072, 1e-5, 5e5),
    "llama31-405b": (16384, 53248, 128, 8, 128, 128256, 131072, 1e-5, 5e5),
    "llama32-1b": (2048, 8192, 32, 8, 64, 128256, 131072, 1e-5, 5e5),
    "llama32-3b": (3072, 8192, 24, 8, 128, 128256, 131072, 1e-5, 5e5),
    "mistral-7b-v03": (4096, 14336, 32, 8, 128, 32768, 32768, 1e-5, 1e6),
    "mixtral-8x7b": (4096, 14336, 32, 8, 128, 32000, 32768, 1e-5, 1e6),
    "mixtral-8x22b": (6144, 16384, 48, 8, 128, 32768, 65536, 1e-5, 1e6),
    "qwen25-7b": (3584, 18944, 28, 4, 128, 152064, 32768, 1e-6, 1e6),
    "qwen25-72b": (8192, 29568, 64, 8, 128, 152064, 32768, 1e-6, 1e6),
    "qwen3-8b": (4096, 12288, 32, 8, 128, 151936, 40960, 1e-6, 1e6),
    "qwen3-32b": (5120, 25600, 64, 8, 128, 151936, 40960, 1e-6, 1e6),
    "qwen3-30b-a3b": (2048, 768, 32, 4, 128, 151936, 40960, 1e-6, 1e6),
    "qwen3-235b-a22b": (4096, 1536, 64, 4, 128, 151936, 40960, 1e-6, 1e6),
    "gemma3-4b": (2560, 10240, 8, 4, 256, 262208, 131072, 1e-6, 1e4),
    "gemma3-27b": (5376, 21504, 32, 16, 128, 262208, 131072, 1e-6, 1e4),
}
PARAMETERS_BILLIONS = {
    "llama31-8b": 8.03, "llama31-70b": 70.6, "llama31-405b": 405.9, "llama32-1b": 1.236, "llama32-3b": 3.21,
    "mistral-7b-v03": 7.25, "mixtral-8x7b": 46.7, "mixtral-8x22b": 140.6, "qwen25-7b": 7.62, "qwen25-72b": 72.7,
    "qwen3-8b": 8.19, "qwen3-32b": 32.8, "qwen3-30b-a3b": 30.5, "qwen3-235b-a22b": 235.1,
}  # fmt: skip


def test_every_shipped_config_is_listed_here():
    assert set(CONFIGS) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name):
    c = CONFIGS[name]
    found = (
        c.hidden_size, c.intermediate_size, c.num_heads, c.num_kv_heads, c.head_dim, c.vocab_size,
        c.max_position_embeddings, c.rms_norm_eps, c.rope_theta,
    )  # fmt: skip
    if name.startswith("gemma"):  # the base is not in the published text config and no entry uses it
        found = (*found[:-1], 1e4)
    assert found == PUBLISHED[name]
    assert c.dtype == "bfloat16"


@pytest.mark.parametrize("name", PARAMETERS_BILLIONS)
def test_dimensions_add_up_to_the_published_parameter_count(name):
    c = CONFIGS[name]
    layers = json.loads((MODELS / f"{name}.json").read_text())["num_hidden_layers"]
    attention = c.hidden_size * c.head_dim * (2 * c.num_heads + 2 * c.num_kv_heads)
    mlp = 3 * c.hidden_size * c.intermediate_size * max(1, c.num_experts) + c.hidden_size * c.num_experts
    embeddings = c.vocab_size * c.hidden_size * (1 if c.tie_word_embeddings else 2)
    assert (layers * (attention + mlp) + embeddings) / 1e9 == pytest.approx(PARAMETERS_BILLIONS[name], rel=2e-3)


def test_rope_scaling():
    common = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    common["original_max_position_embeddings"] = 8192
    for name, config in CONFIGS.items():
        factor = 8.0 if name.startswith("llama31") else 32.0 if name.startswith("llama32") else None
        assert config.rope_scaling == ({**common, "factor": factor} if factor else None), name


def test_biases_norms_ties_and_experts():
    def names(attribute):
        return {name for name, config in CONFIGS.items() if attribute(config)}

    assert names(lambda c: c.qkv_bias) == {"qwen25-7b", "qwen25-72b"}
    assert names(lambda c: c.o_bias or c.mlp_bias) == set()
    assert names(lambda c: c.tie_word_embeddings) == {"llama32-1b", "llama32-3b", "gemma3-4b", "gemma3-27b"}
    assert names(lambda c: c.family.qk_norm) == {n for n in CONFIGS if n.startswith(("qwen3-", "gemma3-"))}
    experts = {n: (c.num_experts, c.top_k, c.renormalize) for n, c in CONFIGS.items() if c.num_experts}
    assert experts == {
        "mixtral-8x7b": (8, 2, True),
        "mixtral-8x22b": (8, 2, True),
        "qwen3-30b-a3b": (128, 8, True),
        "qwen3-235b-a22b": (128, 8, True),
    }
    assert {c.activation for n, c in CONFIGS.items() if n.startswith("gemma")} == {"gelu_and_mul"}
    assert CONFIGS["gemma3-4b"].approximate == "tanh"


def test_hub_ids_are_those_that_are_deployed():
    assert CONFIGS["llama31-405b"].model_id == "meta-llama/Llama-3.1-405B-Instruct"
    assert CONFIGS["mixtral-8x22b"].model_id == "mistralai/Mixtral-8x22B-Instruct-v0.1"
    assert all(config.model_id.count("/") == 1 for config in CONFIGS.values())


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "qwen25-7b"),
        ("Qwen/Qwen3-30B-A3B", "qwen3-30b-a3b"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v03"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-33-70b"),
    ],
)
def test_short_name(model_id, name):
    assert short_name(model_id) == name


def test_a_config_of_transformers_5_reads_like_an_older_one(tmp_path):
    data = json.loads((MODELS / "llama31-8b.json").read_text())
    data["dtype"] = data.pop("torch_dtype")
    data["rope_parameters"] = {**data.pop("rope_scaling"), "rope_theta": data.pop("rope_theta")}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data))
    assert read_config(tmp_path, name="llama31-8b") == CONFIGS["llama31-8b"]


def test_partial_rotary_and_default_head_dim():
    data = json.loads((MODELS / "llama31-8b.json").read_text()) | {"partial_rotary_factor": 0.5}
    assert parse_config(data, "c", "m", "m").rotary_dim == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["LlamaForCausualLM"]}, "c.json: architectures: 'LlamaForCausualLM' is not one of "),
        ({"architectures": None}, "c.json: architectures: missing; supported are Gemma3ForCausalLM, "),
        ({"hidden_size": None}, "c.json: hidden_size: missing; a whole number of at least 1 is needed"),
        ({"hidden_size": -4}, "c.json: hidden_size: -4 is not a whole number of at least 1"),
        ({"num_attention_heads": 2.5}, "c.json: num_attention_heads: 2.5 is not a whole number of at least 1"),
        ({"rms_norm_eps": "1e-5"}, "c.json: rms_norm_eps: '1e-5' is not a number over 0"),
        ({"hidden_act": "relu"}, "c.json: hidden_act: 'relu' is not one of silu, gelu, gelu_pytorch_tanh"),
        ({"torch_dtype": "int8"}, "c.json: torch_dtype: 'int8' is not one of bfloat16, float16, float32"),
        (
            {"rope_scaling": {"rope_type": "yarn"}},
            "c.json: rope_scaling.rope_type: 'yarn' is not one of default, llama3",
        ),
        ({"rope_scaling": {"rope_type": "llama3"}}, "c.json: rope_scaling.factor: missing; llama3 scaling needs it"),
        ({"sliding_window": 4096}, "c.json: sliding_window: 4096: windowed attention is not supported"),
        ({"quantization_config": {"bits": 4}}, "c.json: quantization_config: quantized models are not supported"),
    ],
)
def test_a_wrong_config_is_refused(change, message):
    data = json.loads((MODELS / "llama31-8b.json").read_text()) | change
    with pytest.raises(ManifestError) as error:
        parse_config(data, "c.json", "m", "m")
    assert str(error.value).startswith(message)


def test_an_unsupported_architecture_lists_the_supported_ones():
    with pytest.raises(ManifestError) as error:
        parse_config({"architectures": ["BertModel"]}, "c.json", "m", "m")
    assert all(name in str(error.value) for name in FAMILIES)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not JSON"), ("[]", "a model config is a JSON object, found list")]
)
def test_a_file_that_is_no_config(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_config(path)


def test_a_missing_config(tmp_path):
    with pytest.raises(ManifestError, match="no such model config"):
        read_config(tmp_path)
