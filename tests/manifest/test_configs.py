"""The shipped model configs hold the published values; wrong configs are refused."""

import json
from dataclasses import replace

import pytest

from fastkernels.errors import ManifestError
from fastkernels.manifest import blocks, moe
from fastkernels.manifest.config import Latent, Routing
from fastkernels.manifest.families import FAMILIES
from fastkernels.manifest.generate import shipped_configs
from fastkernels.manifest.loader import manifests_directory
from fastkernels.manifest.reader import parse_config, read_config, short_name
from fastkernels.manifest.shard import Shard

MODELS = manifests_directory() / "models"
CONFIGS = {config.name: config for config in shipped_configs(MODELS)}

# name: hidden, intermediate (of an expert), heads, kv heads, head_dim (latent attention: its rotated part), vocab,
# positions, rms eps, rope theta of full attention
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
    "gemma3-1b": (1152, 6912, 4, 1, 256, 262144, 32768, 1e-6, 1e6),
    "gemma3-4b": (2560, 10240, 8, 4, 256, 262208, 131072, 1e-6, 1e6),
    "gemma3-27b": (5376, 21504, 32, 16, 128, 262208, 131072, 1e-6, 1e6),
    "gpt-oss-20b": (2880, 2880, 64, 8, 64, 201088, 131072, 1e-5, 1.5e5),
    "gpt-oss-120b": (2880, 2880, 64, 8, 64, 201088, 131072, 1e-5, 1.5e5),
    "deepseek-v2-lite": (2048, 1408, 16, 16, 64, 102400, 163840, 1e-6, 1e4),
    "deepseek-v3": (7168, 2048, 128, 128, 64, 129280, 163840, 1e-6, 1e4),
    "mistral-small-24b": (5120, 32768, 32, 8, 128, 131072, 32768, 1e-5, 1e8),
    "phi3-mini-4k": (3072, 8192, 32, 32, 96, 32064, 4096, 1e-5, 1e4),
    "phi4": (5120, 17920, 40, 10, 128, 100352, 16384, 1e-5, 2.5e5),
    "granite31-8b": (4096, 12800, 32, 8, 128, 49155, 131072, 1e-5, 1e7),
    "smollm3-3b": (2048, 11008, 16, 4, 128, 128256, 65536, 1e-6, 5e6),
    "olmo2-7b": (4096, 11008, 32, 32, 128, 100352, 4096, 1e-6, 5e5),
    "olmo3-7b": (4096, 11008, 32, 32, 128, 100278, 65536, 1e-6, 5e5),
    "gemma2-9b": (3584, 14336, 16, 8, 256, 256000, 8192, 1e-6, 1e4),
    "starcoder2-7b": (4608, 18432, 36, 4, 128, 49152, 16384, 1e-5, 1e6),
    "glm45-air": (4096, 1408, 96, 8, 128, 151552, 131072, 1e-5, 1e6),
}
PARAMETERS_BILLIONS = {
    "llama31-8b": 8.03, "llama31-70b": 70.6, "llama31-405b": 405.9, "llama32-1b": 1.236, "llama32-3b": 3.21,
    "mistral-7b-v03": 7.25, "mixtral-8x7b": 46.7, "mixtral-8x22b": 140.6, "qwen25-7b": 7.62, "qwen25-72b": 72.7,
    "qwen3-8b": 8.19, "qwen3-32b": 32.8, "qwen3-30b-a3b": 30.5, "qwen3-235b-a22b": 235.1, "gpt-oss-20b": 20.9,
    "gpt-oss-120b": 116.8, "deepseek-v2-lite": 15.7, "deepseek-v3": 671.0, "gemma3-4b": 3.88, "gemma3-27b": 27.0,
    "gemma3-1b": 1.0,
    "mistral-small-24b": 23.6, "phi3-mini-4k": 3.82, "phi4": 14.7, "granite31-8b": 8.17, "smollm3-3b": 3.08,
    "olmo2-7b": 7.30, "olmo3-7b": 7.30, "gemma2-9b": 9.24, "starcoder2-7b": 7.17, "glm45-air": 106.9,
}  # fmt: skip


def test_every_shipped_config_is_listed_here():
    assert set(CONFIGS) == set(PUBLISHED)


def rope_thetas(config):
    return [layer.rope_parameters["rope_theta"] for layer in config.layers if layer.rope_parameters]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name):
    c = CONFIGS[name]
    found = (
        c.hidden_size, c.expert_size or c.intermediate_size, c.num_heads, c.num_kv_heads, c.head_dim, c.vocab_size,
        c.max_position_embeddings, c.rms_norm_eps, rope_thetas(c)[-1],
    )  # fmt: skip
    assert found == PUBLISHED[name]
    assert c.dtype == "bfloat16"


@pytest.mark.parametrize("name", PARAMETERS_BILLIONS)
def test_dimensions_add_up_to_the_published_parameter_count(name):
    c = CONFIGS[name]
    layers, shard = c.raw["num_hidden_layers"], Shard(c, 1)
    dense = c.raw.get("first_k_dense_replace", 0 if c.routing.num_experts else layers)
    # the estimate counts the table of rotary angles among the weights
    table = c.max_position_embeddings * c.rotary_dim
    attention = blocks._attention_parameters(shard) - table
    mlps = dense * blocks._mlp_parameters(shard) + (layers - dense) * moe.block_parameters(shard)
    embeddings = c.vocab_size * c.hidden_size * (1 if c.tie_word_embeddings else 2)
    assert (layers * attention + mlps + embeddings) / 1e9 == pytest.approx(PARAMETERS_BILLIONS[name], rel=3e-3)


def test_rope_scaling():
    common = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    common |= {"original_max_position_embeddings": 8192, "rope_theta": 5e5}
    yarn = {"rope_type": "yarn", "original_max_position_embeddings": 4096, "beta_fast": 32.0, "beta_slow": 1.0}
    expected = {
        "llama31": [{**common, "factor": 8.0}],
        "llama32": [{**common, "factor": 32.0}],
        "gemma3-1b": [{"rope_theta": theta, "rope_type": "default"} for theta in (1e4, 1e6)],
        "gemma3": [{"rope_theta": 1e4, "rope_type": "default"},
                   {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0}],
        "gpt": [{**yarn, "rope_theta": 1.5e5, "factor": 32.0, "truncate": False}] * 2,
        "olmo3": [{"rope_theta": 5e5, "rope_type": "default"},
                  {**yarn, "rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 8192,
                   "attention_factor": 1.2079441541679836}],
        "smollm3": [{"rope_theta": 5e6, "rope_type": "default"}, {}],
        "glm45": [{"rope_theta": 1e6, "rope_type": "default", "partial_rotary_factor": 0.5}] * 2,
        "deepseek-v2": [{**yarn, "rope_theta": 1e4, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707}] * 2,
        "deepseek-v3": [{**yarn, "rope_theta": 1e4, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0}] * 2,
    }  # fmt: skip
    for name, config in CONFIGS.items():
        found = [dict(layer.rope_parameters) for layer in config.layers]
        plain = [{"rope_theta": PUBLISHED[name][-1], "rope_type": "default"}] * len(config.layers)
        assert found == next((wanted for start, wanted in expected.items() if name.startswith(start)), plain), name


def test_partial_rotary():
    assert {n: c.rotary_dim for n, c in CONFIGS.items() if c.rotary_dim != c.head_dim} == {"glm45-air": 64}


def test_kinds_of_layers():
    kinds = {name: [(layer.index, layer.window, layer.experts) for layer in c.layers] for name, c in CONFIGS.items()}
    assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {
        "gemma3-1b": [(0, 512, False), (5, 0, False)],
        "gemma3-4b": [(0, 1024, False), (5, 0, False)],
        "gemma3-27b": [(0, 1024, False), (5, 0, False)],
        "gpt-oss-20b": [(0, 128, True), (1, 0, True)],
        "gpt-oss-120b": [(0, 128, True), (1, 0, True)],
        "deepseek-v2-lite": [(0, 0, False), (1, 0, True)],
        "deepseek-v3": [(0, 0, False), (3, 0, True)],
        "gemma2-9b": [(0, 4096, False), (1, 0, False)],
        "olmo3-7b": [(0, 4096, False), (3, 0, False)],
        "smollm3-3b": [(0, 0, False), (3, 0, False)],
        "glm45-air": [(0, 0, False), (1, 0, True)],
    }
    windows = {name: kind[0][1] for name, kind in kinds.items() if len(kind) == 1 and kind[0][1]}
    assert windows == {"phi3-mini-4k": 2047, "starcoder2-7b": 4096}


def test_latent_attention():
    assert {name: c.latent for name, c in CONFIGS.items() if c.latent} == {
        "deepseek-v2-lite": Latent(0, 512, 128, 64, 128),
        "deepseek-v3": Latent(1536, 512, 128, 64, 128),
    }


def test_biases_norms_ties_and_experts():
    def names(attribute):
        return {name for name, config in CONFIGS.items() if attribute(config)}

    oss = {"gpt-oss-20b", "gpt-oss-120b"}
    assert names(lambda c: c.qkv_bias) == {"qwen25-7b", "qwen25-72b", "starcoder2-7b", "glm45-air", *oss}
    assert names(lambda c: c.family.expert_bias) == names(lambda c: c.family.sinks) == oss
    assert names(lambda c: c.o_bias) == {"starcoder2-7b", *oss}
    assert names(lambda c: c.mlp_bias) == {"starcoder2-7b"}
    assert names(lambda c: c.tie_word_embeddings) == {
        "llama32-1b", "llama32-3b", "gemma3-1b", "gemma3-4b", "gemma3-27b", "gemma2-9b", "granite31-8b", "smollm3-3b",
        "starcoder2-7b",
    }  # fmt: skip
    assert names(lambda c: c.qk_norm) == {n for n in CONFIGS if n.startswith(("qwen3-", "gemma3-", "olmo"))}
    assert names(lambda c: c.soft_cap) == {"gemma2-9b"}
    experts = {n: (c.routing.num_experts, c.routing.top_k, c.routing.renormalize) for n, c in CONFIGS.items()
               if c.routing.num_experts}  # fmt: skip
    assert experts == {
        "mixtral-8x7b": (8, 2, True),
        "mixtral-8x22b": (8, 2, True),
        "qwen3-30b-a3b": (128, 8, True),
        "qwen3-235b-a22b": (128, 8, True),
        "gpt-oss-20b": (32, 4, True),
        "gpt-oss-120b": (128, 4, True),
        "deepseek-v2-lite": (64, 6, False),
        "deepseek-v3": (256, 8, True),
        "glm45-air": (128, 8, True),
    }
    assert CONFIGS["glm45-air"].routing == Routing(128, 8, True, True, 1, 1, "sigmoid", 1.0, True, 1)
    assert CONFIGS["deepseek-v3"].routing == Routing(256, 8, True, True, 8, 4, "sigmoid", 2.5, True, 1)
    assert CONFIGS["deepseek-v2-lite"].routing == Routing(64, 6, False, True, 1, 1, "softmax", 1.0, False, 2)
    assert {c.activation for n, c in CONFIGS.items() if n.startswith("gemma")} == {"gelu_and_mul"}
    assert CONFIGS["gemma3-4b"].approximate == "tanh"
    assert CONFIGS["gemma3-27b"].attention_scale == 168**-0.5
    assert CONFIGS["gemma3-4b"].attention_scale == CONFIGS["gemma2-9b"].attention_scale == 256**-0.5
    assert CONFIGS["granite31-8b"].attention_scale == 0.0078125
    assert CONFIGS["gemma2-9b"].soft_cap == 50.0
    assert CONFIGS["deepseek-v3"].attention_scale == pytest.approx(192**-0.5 * 1.36889**2, rel=1e-5)


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
    found = read_config(tmp_path, name="llama31-8b")
    assert replace(found, raw={}, model_id="") == replace(CONFIGS["llama31-8b"], raw={}, model_id="")


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-v2-lite"])
def test_what_transformers_own_deepseek_configs_leave_out(name):
    """They have neither scoring_func nor topk_method, and the experts under a common name."""
    data = json.loads((MODELS / f"{name}.json").read_text())
    left = ("scoring_func", "topk_method", "norm_topk_prob", "n_routed_experts")
    shorter = {key: value for key, value in data.items() if key not in left}
    shorter["num_local_experts"] = data["n_routed_experts"]
    assert parse_config(shorter, "c", "m", "m").routing == CONFIGS[name].routing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["LlamaForCausualLM"]}, "c.json: architectures: 'LlamaForCausualLM' is not one of "),
        ({"architectures": None}, "c.json: architectures: missing; supported are DeepseekV2ForCausalLM, "),
        ({"hidden_size": None}, "c.json: hidden_size: missing; a whole number of at least 1 is needed"),
        ({"hidden_size": -4}, "c.json: hidden_size: -4 is not a whole number of at least 1"),
        ({"num_attention_heads": 2.5}, "c.json: num_attention_heads: 2.5 is not a whole number of at least 1"),
        ({"rms_norm_eps": "1e-5"}, "c.json: rms_norm_eps: '1e-5' is not a number over 0"),
        ({"hidden_act": "relu"}, "c.json: hidden_act: 'relu' is not one of silu"),
        ({"torch_dtype": "int8"}, "c.json: torch_dtype: 'int8' is not one of bfloat16, float16, float32"),
        (
            {"rope_scaling": {"rope_type": "longrope"}},
            "c.json: rope_scaling.rope_type: 'longrope' is not one of default, linear, llama3, yarn",
        ),
        ({"rope_scaling": {"rope_type": "llama3"}}, "c.json: rope_scaling.factor: missing; llama3 scaling needs it"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}},
         "c.json: rope_scaling.original_max_position_embeddings: missing; yarn scaling needs it"),
        ({"partial_rotary_factor": 0.5}, "c.json: partial_rotary_factor: 0.5 is not 1.0, which LlamaForCausalLM is"),
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
