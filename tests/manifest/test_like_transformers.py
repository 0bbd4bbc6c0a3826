"""Configs are read as transformers reads them: every shipped kind, and whatever configs were read wrongly."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from manifest.configs_by_hand import KEYS, READ, REFUSED, Config, config, shipped
from models.parity import Tiny, check, generate_from, save_tiny

from fastkernels.engine.config import read_model_config
from fastkernels.errors import ManifestError, ModelError, WeightsError
from fastkernels.manifest import facts
from fastkernels.manifest.families import FAMILIES, WINDOW_KEYS
from fastkernels.manifest.generate import generate
from fastkernels.manifest.loader import manifests_directory, parse_manifest
from fastkernels.manifest.reader import parse_config

CONFIGS: dict[str, Config] = {**READ, **shipped()}
PROMPT = torch.randint(99, (100,), generator=torch.Generator().manual_seed(0)).tolist()
"""Longer than every window, and than the contexts before scaling."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(published: Config, directory: Path) -> Tiny:
    """The model that transformers makes of a config.json, saved beside that very file."""
    from transformers import AutoConfig, AutoModelForCausalLM

    directory.mkdir()
    text = json.dumps(published)
    kind = published["model_type"] or "llama"
    (directory / "config.json").write_text(json.dumps({**published, "model_type": kind}))
    theirs = AutoConfig.from_pretrained(directory)
    reference = AutoModelForCausalLM.from_config(theirs, attn_implementation="eager", dtype=torch.float32)
    tiny = save_tiny(reference, directory)
    (directory / "config.json").write_text(text)
    return tiny


@pytest.mark.parametrize("name", CONFIGS)
def test_logits(name: str, tmp_path: Path) -> None:
    tiny = build(CONFIGS[name], tmp_path / "model")
    check(generate_from(tiny.directory, [PROMPT], steps=2), tiny, [PROMPT])


IGNORED = {
    "qwen3-window": "use_sliding_window", "mistral-window": "sliding_window", "gemma3-pattern": "rope_local_base_freq",
    "gpt-oss-by-type": "layer_types", "yarn": "rope_scaling", "linear-of-transformers-5": "rope_parameters",
    "llama3": "rope_theta", "deepseek-v3-yarn": "rope_interleave", "deepseek-v2-groups": "topk_method",
    "gemma3-by-type": "final_logit_softcapping", "qwen3-moe-some-dense": "mlp_only_layers",
    "granite31-8b": "attention_multiplier", "granite-bare": "logits_scaling", "smollm3-own-places": "no_rope_layers",
    "smollm3-windows": "no_rope_layer_interval", "gemma2-small-caps": "attn_logit_softcapping",
    "starcoder2-window": "norm_epsilon", "glm4-norms": "partial_rotary_factor", "phi3-mini-4k": "sliding_window",
}  # fmt: skip
"""A key of each kind that changes what a config means."""


@pytest.mark.parametrize("name", IGNORED)
def test_a_key_that_is_ignored_is_seen(name: str, tmp_path: Path) -> None:
    tiny = build(CONFIGS[name], tmp_path / "model")
    ignoring = {key: value for key, value in CONFIGS[name].items() if key != IGNORED[name]}
    (tiny.directory / "config.json").write_text(json.dumps({**ignoring, "max_position_embeddings": 128}))
    with pytest.raises((AssertionError, WeightsError), match=r"logits differ|tensors that the model"):
        check(generate_from(tiny.directory, [PROMPT], steps=0), tiny, [PROMPT])


def window_everywhere(config: Any, index: int) -> int:
    return int(config.sliding_window)


def no_window(config: Any, index: int) -> None:
    return None


def plain_rope(config: Any, index: int = 0) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": facts.rope_parameters(config, index)["rope_theta"]}


@pytest.mark.parametrize(("name", "block", "fact", "wrong"), [
    ("mistral-window", "llama_attention", "sliding_window", no_window),
    ("gpt-oss-by-type", "gpt_oss_attention", "sliding_window", window_everywhere),
    ("gemma3-bare", "gemma3_attention", "rope_parameters", plain_rope),
    ("linear", "llama_attention", "rope_parameters", plain_rope),
    ("deepseek-v3-yarn", "deepseek_v2_attention", "rope_parameters", plain_rope),
])
def test_a_fact_that_a_block_does_not_read_is_seen(
    name: str, block: str, fact: str, wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = build(CONFIGS[name], tmp_path / "model")
    monkeypatch.setattr(f"fastkernels.tasks.baseline.L2.{block}.{fact}", wrong)
    with pytest.raises(AssertionError, match="logits differ"):
        check(generate_from(tiny.directory, [PROMPT], steps=0), tiny, [PROMPT])


@pytest.mark.parametrize("name", ["llama-with-window", "qwen2-window-no-use", "qwen3-moe-window-no-use"])
def test_a_window_that_transformers_does_not_have_is_seen(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the configs were read before: the width alone was taken for a window."""
    tiny = build(CONFIGS[name], tmp_path / "model")
    (architecture,) = CONFIGS[name]["architectures"]
    family = FAMILIES[architecture]
    wrong = replace(family, windows="all", ignored=(), reads=(*family.reads, *WINDOW_KEYS))
    monkeypatch.setitem(FAMILIES, architecture, wrong)
    with pytest.raises(AssertionError, match="logits differ"):
        check(generate_from(tiny.directory, [PROMPT], steps=0), tiny, [PROMPT])


PUBLISHED = {path.stem: json.loads(path.read_text()) for path in (manifests_directory() / "models").glob("*.json")}


@pytest.mark.parametrize("name", {**READ, **PUBLISHED})
def test_facts(name: str) -> None:
    """At full size: what shapes depend on is what transformers' own config class has."""
    from transformers import AutoConfig

    published = {**READ, **PUBLISHED}[name]
    kind = published["model_type"] or "llama"
    rest = {key: value for key, value in published.items() if key != "model_type"}
    theirs = AutoConfig.for_model(kind, **json.loads(json.dumps(rest))).get_text_config()
    ours = parse_config(published, "c.json", "m", "m")
    names = SAME | {"rms_norm_eps": ours.family.eps_key}
    assert {key: getattr(ours, key) for key in names} == {key: getattr(theirs, names[key]) for key in names}
    if ours.latent is None:
        width = theirs.hidden_size // theirs.num_attention_heads
        assert ours.head_dim == (getattr(theirs, "head_dim", None) or width)
    for layer in ours.layers:
        types = getattr(theirs, "layer_types", None)
        width = getattr(theirs, "sliding_window", None) if ours.family.windows else None
        assert layer.window == ((width or 0) if not types or types[layer.index] == facts.SLIDING else 0)
        if not layer.rope_parameters:
            assert not theirs.no_rope_layers[layer.index]
            continue
        rope = theirs.rope_parameters
        rope = rope[types[layer.index]] if facts.FULL in rope else rope
        given = {key: value for key, value in rope.items() if value is not None and key != "type"}
        assert {"partial_rotary_factor": 1.0, **layer.rope_parameters} == {"partial_rotary_factor": 1.0, **given}


SAME = {
    "hidden_size": "hidden_size", "num_heads": "num_attention_heads", "num_kv_heads": "num_key_value_heads",
    "vocab_size": "vocab_size", "tie_word_embeddings": "tie_word_embeddings",
}  # fmt: skip
"""What is called otherwise there."""


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    """By the manifest and by the engine, in the same words."""
    refused, message = REFUSED[name]
    (tmp_path / "config.json").write_text(json.dumps(refused))
    with pytest.raises(ManifestError) as manifest:
        parse_config(refused, "config.json", "m", "m")
    with pytest.raises(ModelError) as engine:
        read_model_config(tmp_path)
    assert message in str(manifest.value)
    assert str(manifest.value).startswith("config.json: ")
    assert str(engine.value).endswith(str(manifest.value))


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_published_configs_are_known(kind: str) -> None:
    plain, full = (parse_config(config(kind, **keys), "c.json", "m", "m") for keys in ({}, KEYS[kind]))
    assert replace(full, raw={}) == replace(plain, raw={}, layers=full.layers)


def test_every_wrong_key_is_named() -> None:
    wrong = config("llama", logits_scaling=8.0, attention_multiplier=0.5, tie_word_embedding=False)
    with pytest.raises(ManifestError) as caught:
        parse_config(wrong, "c.json", "m", "m")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "logits_scaling", "attention_multiplier", "tie_word_embedding"]


@pytest.mark.parametrize(("name", "positions"), [
    ("yarn", 128), ("yarn-of-transformers-5", 128), ("linear", 128), ("linear-of-transformers-5", 128), ("llama3", 128),
    ("gemma3-bare", 128), ("deepseek-v3-yarn", 128), ("gpt-oss-bare", 131072),
])
def test_positions_are_those_of_the_scaled_context_at_every_level(name: str, positions: int) -> None:
    """In the table of level 1, in the arguments of blocks and in the config of layers; the engine reads the last."""
    manifest = parse_manifest(generate([parse_config(READ[name], "c.json", "m", "m")], tps=(1,)), Path("m.yaml"))
    found: set[int] = set()
    for scenario in manifest.scenarios():
        values = {**scenario.init, **scenario.init.get("config", {})}
        found |= {values[key] for key in ("max_position", "max_position_embeddings") if key in values}
    assert found == {positions}


def test_the_same_rotary_embedding_at_every_level() -> None:
    """What a block makes of its config is what level 1 is graded on."""
    for name, published in CONFIGS.items():
        ours = parse_config(published, "c.json", "m", "m")
        built = SimpleNamespace(**ours.raw)
        for layer in ours.layers:
            rope = facts.rope_parameters(built, layer.index) if facts.has_positions(built, layer.index) else {}
            assert rope == layer.rope_parameters, name
            assert (facts.sliding_window(built, layer.index) or 0) == layer.window, name
            assert facts.has_experts(built, layer.index) == layer.experts, name
