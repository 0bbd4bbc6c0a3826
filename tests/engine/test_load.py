"""Loading a model: from one file and several, with random weights, and what every broken model says."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastkernels.engine import load_model
from fastkernels.engine.checkpoint import INDEX, SINGLE
from fastkernels.engine.load import known_models
from fastkernels.errors import ModelError, WeightsError
from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.tasks.baseline.L2.llama_mlp import LlamaMLP


def change_config(directory, **changes):
    path = directory / "config.json"
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def change_weights(directory, change):
    weights = load_file(directory / SINGLE)
    change(weights)
    save_file(weights, directory / SINGLE)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_one_file_and_several_give_the_same(saved, directory):
    one = load_model(directory)
    (directory / SINGLE).unlink()
    saved.reference.save_pretrained(directory, max_shard_size="60KB")
    assert (directory / INDEX).is_file()
    assert len(list(directory.glob("*.safetensors"))) > 2
    assert equal(state(load_model(directory)), state(one))


def test_a_file_of_another_name_is_read_too(directory):
    expected = state(load_model(directory))
    (directory / SINGLE).rename(directory / "weights.safetensors")
    assert equal(state(load_model(directory)), expected)


def test_dtype_is_the_configs_unless_another_is_asked_for(directory):
    assert {p.dtype for p in load_model(directory).parameters()} == {torch.float32}
    assert {p.dtype for p in load_model(directory, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}
    change_config(directory, dtype=None, torch_dtype="float16")
    model = load_model(directory)
    assert model.lm_head.weight.dtype == torch.float16
    assert model.model.layers[0].self_attn.rotary_emb.cos_sin_cache.dtype == torch.float16
    assert torch.get_default_dtype() == torch.float32
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_layers_share_one_rotary_table(directory):
    model = load_model(directory)
    assert model.model.layers[0].self_attn.rotary_emb is model.model.layers[1].self_attn.rotary_emb
    assert load_model(directory).model.layers[0].self_attn.rotary_emb is not model.model.layers[0].self_attn.rotary_emb


@pytest.mark.parametrize("load_format", ["auto", "dummy"])
def test_parts_finish_their_weights_once_they_are_there(directory, load_format, monkeypatch):
    seen = []

    def process(self):
        seen.append(self.down_proj.weight.clone())

    monkeypatch.setattr(LlamaMLP, "process_weights_after_loading", process, raising=False)
    model = load_model(directory, load_format=load_format)
    expected = [layer.mlp.down_proj.weight for layer in model.model.layers]
    assert all(torch.equal(a, b) for a, b in zip(reversed(seen), expected, strict=True))


def test_tied_weights_are_one(directory):
    change_config(directory, tie_word_embeddings=True)
    model = load_model(directory)  # the file's lm_head.weight is left out
    assert model.lm_head.weight is model.model.embed_tokens.weight


def misspelt(weights):
    weights["model.layers.0.self_attn.kproj.weight"] = weights.pop("model.layers.0.self_attn.k_proj.weight")


@pytest.mark.parametrize(("change", "message"), [
    (lambda w: w.pop("model.norm.weight"), "model: 1 tensors that the model needs are missing: 'model.norm.weight'"),
    (lambda w: w.pop("model.layers.1.self_attn.v_proj.weight"),
     "model: 1 tensors that the model needs are missing: 'model.layers.1.self_attn.v_proj.weight'"),
    (lambda w: w.update({"model.layers.2.mlp.up_proj.weight": torch.ones(96, 64)}),
     "model/model.safetensors: 1 tensors that the model has no place for: 'model.layers.2.mlp.up_proj.weight' (did you "
     "mean 'model.layers.1.mlp.up_proj.weight'?)"),
    (misspelt,
     "model/model.safetensors: 1 tensors that the model has no place for: 'model.layers.0.self_attn.kproj.weight' (did "
     "you mean 'model.layers.0.self_attn.k_proj.weight'?); 1 tensors that the model needs are missing: "
     "'model.layers.0.self_attn.k_proj.weight'"),
    (lambda w: w.update({"model.layers.1.mlp.down_proj.weight": torch.ones(96, 64)}),
     "model/model.safetensors: 'model.layers.1.mlp.down_proj.weight': shape [96, 64] found, [64, 96] expected for "
     "model.layers.1.mlp.down_proj.weight"),
    (lambda w: w.update({"model.layers.1.self_attn.k_proj.weight": torch.ones(16, 64)}),
     "model/model.safetensors: 'model.layers.1.self_attn.k_proj.weight': shape [16, 64] found, [32, 64] expected for "
     "model.layers.1.self_attn.qkv_proj.weight"),
    (lambda w: w.update({"lm_head.weight": torch.ones(128, 64)}),
     "model/model.safetensors: 'lm_head.weight': shape [128, 64] found, [99, 64] expected for lm_head.weight"),
], ids=(
    "a norm is missing", "a stacked part is missing", "surplus", "misspelt", "transposed", "another head count",
    "padded",
))  # fmt: skip
def test_weights_that_do_not_fit(directory, change, message):
    change_weights(directory, change)
    with pytest.raises(WeightsError) as caught:
        load_model("model")
    assert str(caught.value) == message


def drop_index_file(directory):
    (directory / INDEX).write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))


def wrong_index(directory):
    (directory / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": SINGLE, "absent": SINGLE}}))


def only_bin(directory):
    (directory / SINGLE).rename(directory / "pytorch_model.bin")


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: (d / SINGLE).write_bytes(b"\x00" * 7), "model/model.safetensors: not a safetensors file: "),
    (lambda d: (d / SINGLE).write_bytes((d / SINGLE).read_bytes()[:-9]), "model/model.safetensors: not a safetensors"),
    (lambda d: (d / SINGLE).unlink(), "model: no safetensors files"),
    (only_bin, "model: no safetensors files; pytorch_model.bin is of another format"),
    (lambda d: (d / INDEX).write_text("{"), "model/model.safetensors.index.json: not an index of safetensors files"),
    (lambda d: (d / INDEX).write_text("[]"), "model/model.safetensors.index.json: not an index of safetensors files"),
    (drop_index_file, "model/one.safetensors: no such file, though model.safetensors.index.json names it"),
    (wrong_index, "model/model.safetensors: no tensor 'absent' in it, though model.safetensors.index.json says so"),
], ids=(
    "short", "cut off", "none", "only bin", "index no JSON", "index a list", "file missing", "index lies",
))  # fmt: skip
def test_files_that_cannot_be_read(directory, change, message):
    change(directory)
    with pytest.raises(WeightsError) as caught:
        load_model("model")
    assert str(caught.value).startswith(message)


def test_safetensors_is_not_installed(directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(WeightsError, match=r"model.safetensors: reading it needs safetensors, .* pip install safetens"):
        load_model("model")
    load_model("model", load_format="dummy")


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: (d / "config.json").unlink(), "model/config.json: no such file"),
    (lambda d: (d / "config.json").write_text("{"), "model/config.json: not JSON"),
    (lambda d: (d / "config.json").write_text("[]"), "model/config.json: a model config is a JSON object, found list"),
    (lambda d: change_config(d, architectures=None), "model/config.json: architectures: missing"),
    (lambda d: change_config(d, architectures=["LlamaForCausalLm"]),
     r"architectures: 'LlamaForCausalLm' is not one of .*LlamaForCausalLM.* Did you mean 'LlamaForCausalLM'\?"),
    (lambda d: change_config(d, quantization_config={"quant_method": "fp8"}),
     "quantization_config: quantized models are not"),
    (lambda d: change_config(d, dtype="float8"), "dtype: 'float8' is not one of bfloat16, float16, float32"),
    (lambda d: change_config(d, hidden_act="gelu"), "hidden_act: 'gelu' is not one of silu"),
], ids=(
    "no config", "no JSON", "a list", "no architecture", "unknown architecture", "quantized", "dtype", "activation",
))  # fmt: skip
def test_configs_that_cannot_be_built(directory, change, message):
    change(directory)
    with pytest.raises(ModelError, match=message):
        load_model("model")


@pytest.mark.parametrize(("source", "message"), [
    ("nowhere", r"nowhere: no such directory and no Hugging Face id \(OWNER/NAME\)"),
    ("model/config.json", "model/config.json: a file; a model is a directory"),
])
def test_models_that_are_not_there(directory, source, message):
    with pytest.raises(ModelError, match=message):
        load_model(source)


def test_the_hub_is_asked_for_ids(directory, monkeypatch):
    asked = []

    def download(model_id, allow_patterns, ignore_patterns):
        assert ignore_patterns == ["*/*", "consolidated*"]
        asked.append((model_id, allow_patterns))
        return str(directory)

    errors = SimpleNamespace(HfHubHTTPError=ConnectionError, HFValidationError=ValueError)
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=download, errors=errors))
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    load_model("owner/name")
    load_model("owner/name", load_format="dummy")
    assert asked == [("owner/name", ["*.json", "*.safetensors"]), ("owner/name", ["*.json"])]

    def fail(model_id, **patterns):
        raise ConnectionError("no route to host\nlong story")

    sys.modules["huggingface_hub"].snapshot_download = fail
    with pytest.raises(ModelError, match=r"owner/name: cannot be fetched from the Hugging Face hub: no route to host"):
        load_model("owner/name")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match="needs huggingface_hub: pip install"):
        load_model("owner/name")


def test_an_unknown_load_format(directory):
    with pytest.raises(ModelError, match=r"load_format: 'dumy' is not one of auto, dummy\. Did you mean 'dummy'\?"):
        load_model("model", load_format="dumy")


def test_dummy_weights_follow_the_seed_and_need_no_files(directory):
    (directory / SINGLE).unlink()
    first, again, other = (state(load_model("model", load_format="dummy", seed=seed)) for seed in (1, 1, 2))
    assert equal(first, again)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    for name, tensor in first.items():
        columns = tensor.shape[-1] if tensor.dim() > 1 else 1
        assert 0.05 < tensor.std() * columns**0.5 < 1.2, name
        assert len(tensor.flatten().unique()) > tensor.numel() // 2, name


def test_dummy_weights_are_the_same_model_at_every_degree(directory):
    whole = state(load_model("model", load_format="dummy"))
    parts = []
    for rank in range(2):
        with set_tp_group(OneRank(rank, 2)):
            parts.append(state(load_model("model", load_format="dummy")))
    one, other = (part["model.layers.0.mlp.down_proj.weight"] for part in parts)
    assert torch.equal(torch.cat([one, other], dim=1), whole["model.layers.0.mlp.down_proj.weight"])
    q = torch.cat([part["model.layers.1.self_attn.qkv_proj.weight"][:32] for part in parts])
    assert torch.equal(q, whole["model.layers.1.self_attn.qkv_proj.weight"][:64])
    for part in parts:
        assert torch.equal(part["model.norm.weight"], whole["model.norm.weight"])


def test_every_model_of_level_4_is_known():
    assert known_models().items() >= {
        "LlamaForCausalLM": "L4.llama", "MistralForCausalLM": "L4.mistral", "Qwen2ForCausalLM": "L4.qwen2",
        "Qwen3ForCausalLM": "L4.qwen3"}.items()  # fmt: skip
