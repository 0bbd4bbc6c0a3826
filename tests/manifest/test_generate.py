"""The shipped manifest is what its configs give, with per-rank shapes as vLLM shards them."""

import argparse
import ast
import json
import sys
import types
from pathlib import Path

import pytest
import yaml

from fastkernels.cli import generate_inputs
from fastkernels.errors import ManifestError
from fastkernels.manifest import Selection, default_path, load_manifest
from fastkernels.manifest.emit import flow
from fastkernels.manifest.families import ALL_OPERATORS, FAMILIES, Family
from fastkernels.manifest.generate import generate, shipped_configs
from fastkernels.manifest.loader import manifests_directory, parse_manifest

MODELS = manifests_directory() / "models"
BASELINE = Path(__file__).parents[2] / "tasks" / "baseline"


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    generate_inputs.add_parser(parser.add_subparsers())
    args = parser.parse_args(["generate-inputs", *words])
    status: int = args.run(args)
    return status


@pytest.fixture(scope="module")
def uses(shipped):
    """Scenarios by id at 512 tokens, or at 8 where the operator has no prefill."""
    return {scenario.id: scenario for scenario in shipped.scenarios(Selection(seqlens=(8, 512)))}


def shapes(scenario):
    return {spec.name: scenario.resolved_shape(spec) for spec in scenario.inputs if spec.shape}


def linear(scenario):
    return scenario.init["input_size"], scenario.init["output_size"]


def test_the_shipped_manifest_is_what_its_configs_give():
    assert generate(shipped_configs(MODELS)) == default_path().read_text(encoding="utf-8")


def test_every_operator_and_model_has_scenarios(shipped):
    assert tuple(shipped.operators) == ALL_OPERATORS
    assert {scenario.model for scenario in shipped.scenarios()} == {path.stem for path in MODELS.glob("*.json")}


def test_tp_degrees_are_those_that_divide(shipped):
    assert {name: model.tps for name, model in shipped.models.items() if model.tps != (1, 2, 4, 8)} == {
        "qwen25-7b": (1, 2, 4)  # 28 heads
    }


def test_llama31_8b_at_tp8(uses):
    def at(op, variant=""):
        return uses[f"{op}[llama31-8b-tp8-s512{variant}]"]

    assert linear(at("linear", "-qkv_proj")) == (4096, (32 // 8 + 2 * 1) * 128)
    assert linear(at("linear", "-o_proj")) == (512, 4096)
    assert linear(at("linear", "-gate_up_proj")) == (4096, 3584)
    assert linear(at("linear", "-down_proj")) == (1792, 4096)
    assert linear(uses["linear[llama31-8b-tp8-s8-lm_head]"]) == (4096, 16032)
    assert at("embedding").init == {"num_embeddings": 16032, "embedding_dim": 4096, "dtype": "bfloat16"}
    assert shapes(at("silu_and_mul")) == {"x": (512, 3584)}
    assert shapes(at("rms_norm", "-residual")) == {"x": (512, 4096), "residual": (512, 4096)}
    assert shapes(at("rotary_emb")) == {"positions": (512,), "query": (512, 512), "key": (512, 128)}
    assert at("rotary_emb").init == {
        "head_size": 128, "rotary_dim": 128, "max_position_embeddings": 131072, "base": 500000.0,
        "is_neox_style": True, "dtype": "bfloat16",
        "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    }  # fmt: skip
    heads = {"num_heads": 4, "head_size": 128, "scale": 128**-0.5, "num_kv_heads": 1}
    assert at("flash_attn_prefill").init == heads
    assert shapes(at("flash_attn_prefill", "-chunked")) == {
        "query": (512, 4, 128), "key": (1536, 1, 128), "value": (1536, 1, 128), "cu_seqlens_q": (2,),
        "cu_seqlens_k": (2,),
    }  # fmt: skip
    assert shapes(uses["flash_attn_decode[llama31-8b-tp8-s8]"]) == {
        "query": (8, 4, 128), "key_cache": (8 * 64 + 8, 16, 1, 128), "value_cache": (8 * 64 + 8, 16, 1, 128),
        "block_table": (8, 64), "seqused_k": (8,),
    }  # fmt: skip
    assert shapes(at("store_kvcache"))["key_cache"] == (640, 16, 1, 128)


def test_llama31_405b(uses):
    assert linear(uses["linear[llama31-405b-tp1-s512-qkv_proj]"]) == (16384, (128 + 16) * 128)
    assert linear(uses["linear[llama31-405b-tp8-s512-qkv_proj]"]) == (16384, (16 + 2) * 128)
    assert linear(uses["linear[llama31-405b-tp8-s512-gate_up_proj]"]) == (16384, 13312)
    assert linear(uses["linear[llama31-405b-tp8-s512-down_proj]"]) == (6656, 16384)


def test_qwen3_30b_a3b_replicates_kv_heads_at_tp8(uses):
    assert linear(uses["linear[qwen3-30b-a3b-tp4-s512-qkv_proj]"]) == (2048, (8 + 2 * 1) * 128)
    assert linear(uses["linear[qwen3-30b-a3b-tp8-s512-qkv_proj]"]) == (2048, (4 + 2 * 1) * 128)
    assert linear(uses["linear[qwen3-30b-a3b-tp1-s512-o_proj]"]) == (4096, 2048)  # 32 heads x 128, not the hidden size
    assert linear(uses["linear[qwen3-30b-a3b-tp8-s512-gate]"]) == (2048, 128)
    assert "linear[qwen3-30b-a3b-tp1-s512-gate_up_proj]" not in uses
    assert shapes(uses["silu_and_mul[qwen3-30b-a3b-tp8-s512]"]) == {"x": (8 * 512, 192)}
    assert shapes(uses["topk_softmax[qwen3-30b-a3b-tp8-s512]"]) == {"gating_output": (512, 128)}
    assert uses["topk_softmax[qwen3-30b-a3b-tp8-s512]"].init == {"top_k": 8, "renormalize": True}
    assert shapes(uses["rms_norm[qwen3-30b-a3b-tp8-s512-q_norm]"]) == {"x": (512, 4, 128)}
    assert shapes(uses["rms_norm[qwen3-30b-a3b-tp8-s512-k_norm]"]) == {"x": (512, 1, 128)}
    assert uses["rms_norm[qwen3-30b-a3b-tp8-s512-k_norm]"].init["hidden_size"] == 128


def test_other_families(uses):
    assert uses["linear[qwen25-72b-tp8-s512-qkv_proj]"].init["bias"] is True
    assert uses["linear[qwen25-72b-tp8-s512-o_proj]"].init["bias"] is False
    assert linear(uses["linear[qwen25-7b-tp4-s512-qkv_proj]"]) == (3584, (7 + 2) * 128)
    assert "rope_scaling" not in uses["rotary_emb[qwen3-8b-tp1-s512]"].init
    assert uses["rotary_emb[llama32-1b-tp1-s512]"].init["rope_scaling"]["factor"] == 32.0
    assert uses["rotary_emb[llama32-1b-tp1-s512]"].init["head_size"] == 64
    assert shapes(uses["silu_and_mul[mixtral-8x22b-tp4-s512]"]) == {"x": (2 * 512, 8192)}
    assert shapes(uses["gelu_and_mul[gemma3-27b-tp2-s512]"]) == {"x": (512, 21504)}
    assert uses["gelu_and_mul[gemma3-27b-tp2-s512]"].init == {"approximate": "tanh"}
    assert {s.op for s in uses.values() if s.model == "gemma3-4b"} == {"gelu_and_mul", "linear", "embedding"}


def test_token_counts(shipped):
    counts = {
        (s.op, s.variant): {t.tokens for t in shipped.scenarios() if (t.op, t.variant) == (s.op, s.variant)}
        for s in shipped.scenarios(Selection(models=("llama31-8b",), tps=(1,), seqlens=(32, 512)))
    }
    decode, prefill = {1, 8, 32, 128}, {512, 2048, 8192}
    special = {
        ("linear", "lm_head"): decode,
        ("flash_attn_decode", ""): decode,
        ("flash_attn_decode", "context8192"): {1, 8, 32},
        ("flash_attn_prefill", ""): prefill,
        ("flash_attn_prefill", "ragged"): prefill,
        ("flash_attn_prefill", "chunked"): prefill,
    }
    assert counts == {key: special.get(key, decode | prefill) for key in counts}
    assert set(special) < set(counts)


def test_equal_shapes_are_one_entry(shipped):
    for entry in shipped.entries:
        same = [e for e in shipped.entries if (e.op, e.variant, e.tokens, e.init, e.inputs) == (
            entry.op, entry.variant, entry.tokens, entry.init, entry.inputs)]  # fmt: skip
        assert same == [entry]


def test_replicated_shapes_do_not_depend_on_tp(shipped):
    for op in ("topk_softmax", "rms_norm"):
        for entry in shipped.entries:
            if entry.op.name == op and entry.variant in ("", "residual"):
                degrees = {model.name: [tp for m, tp in entry.uses if m is model] for model, _ in entry.uses}
                assert all(tuple(degrees[model.name]) == model.tps for model, _ in entry.uses)


@pytest.mark.parametrize("op", ALL_OPERATORS)
def test_entries_fit_the_baseline_class(shipped, op):
    operator = shipped.operators[op]
    path = BASELINE / f"L{operator.level}" / f"{operator.module}.py"
    if not path.exists():
        pytest.skip(f"no {path.name} yet")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    methods = {n.name: n.args for n in classes[operator.class_name].body if isinstance(n, ast.FunctionDef)}
    names = {name: [a.arg for a in (*m.args, *m.kwonlyargs)][1:] for name, m in methods.items()}
    for entry in shipped.entries:
        if entry.op is operator:
            assert set(entry.init) <= set(names.get("__init__", []))
            assert {spec.name for spec in entry.inputs} <= set(names["forward_native"])


def test_a_new_dense_family_is_one_row(monkeypatch):
    monkeypatch.setitem(FAMILIES, "NewForCausalLM", Family(qkv_bias=True))
    config = json.loads((MODELS / "llama31-8b.json").read_text()) | {"architectures": ["NewForCausalLM"]}
    from fastkernels.manifest.config import parse_config

    text = generate([parse_config(config, "c.json", "new-8b", "me/New-8B")])
    manifest = parse_manifest(text, Path("new.yaml"))
    selection = Selection(targets=("linear",), models=("me/new",), tps=(1,), seqlens=(1,))
    assert {s.variant: s.init["bias"] for s in manifest.scenarios(selection)} == {
        "qkv_proj": True, "o_proj": False, "gate_up_proj": False, "down_proj": False, "lm_head": False,
    }  # fmt: skip


def test_emitted_values_read_back_as_they_were():
    values = [1e-05, 1e-06, 500000.0, 0.08838834764831845, 1e22, 3, True, None, "no", "1e-05", "4*tokens+1", "a b", "3",
              'say "x"', "", "bfloat16", "- a", "a: b", {"k": [1, "tokens"]}, []]  # fmt: skip
    for value in values:
        assert yaml.safe_load(f"[{flow(value)}]") == [value]


def test_command_writes_and_checks(tmp_path, capsys):
    output = tmp_path / "m.yaml"
    words = ["--config", str(MODELS / "qwen3-8b.json"), "--tp", "2", "--output", str(output)]
    assert command(*words) == 0
    assert capsys.readouterr().out.endswith("m.yaml: models 1, operators 8, entries 19, scenarios 104\n")
    assert load_manifest(output).models["qwen3-8b"].tps == (2,)
    assert "generate-inputs --config" in output.read_text()
    assert command(*words, "--check") == 0
    output.write_text(output.read_text().replace("eps: 1.0e-06", "eps: 1.0e-05"))
    assert command(*words, "--check") == 1
    assert "+      init: {hidden_size: 4096, eps: 1.0e-06, dtype: bfloat16}" in capsys.readouterr().err


def test_command_checks_the_shipped_manifest(capsys):
    assert command("--check") == 0
    assert "llm.yaml: up to date" in capsys.readouterr().out


def test_command_prints_where_no_output_is_given(capsys, tmp_path):
    folder = tmp_path / "My.Model-7B"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in json.loads((MODELS / "llama31-8b.json").read_text()).items() if k[0] != "_"})
    )
    assert command("--config", str(folder), "qwen3-8b", "--tp", "1") == 0
    manifest = parse_manifest(capsys.readouterr().out, Path("out"))
    assert {m.name: m.model_id for m in manifest.models.values()} == {
        "mymodel-7b": "My.Model-7B",
        "qwen3-8b": "Qwen/Qwen3-8B",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "lama31-8b"], "--config lama31-8b: no such file or directory, no shipped model and no Hugging "
         "Face id (OWNER/NAME). Did you mean 'llama31-8b'?"),
        (["--config", "qwen3-8b", "--tp", "3"], "Qwen/Qwen3-8B: TP 3: does not divide 32 heads, 8 KV heads and an "
         "intermediate size of 12288"),
        (["--config", "qwen3-8b", "Qwen/Qwen3-8B"],
         "models Qwen/Qwen3-8B and Qwen/Qwen3-8B have one short name: qwen3-8b"),
        (["--config", "qwen3-8b", "--check"], "--check needs --output where --config is given: there is no file to "
         "compare with"),
    ],
)  # fmt: skip
def test_command_errors(words, message):
    with pytest.raises(ManifestError) as error:
        command(*words)
    assert str(error.value) == message


def test_command_refuses_a_tp_degree_that_is_none(capsys):
    with pytest.raises(SystemExit):
        command("--tp", "0")
    assert "argument --tp: '0' is not a whole number of at least 1" in capsys.readouterr().err


def test_a_hub_id_without_the_hub_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ManifestError, match=r"needs huggingface_hub: pip install 'pytest-fastkernels\[hub\]'"):
        command("--config", "someone/Some-7B")


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for huggingface_hub; its download is what a test sets."""
    module, errors = types.ModuleType("huggingface_hub"), types.ModuleType("huggingface_hub.errors")
    errors.HfHubHTTPError = type("HfHubHTTPError", (Exception,), {})
    errors.HFValidationError = type("HFValidationError", (ValueError,), {})
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return module


def test_a_hub_id_that_cannot_be_reached(hub):
    def offline(model_id, filename):
        raise OSError("Name or service not known.\nmore")

    hub.hf_hub_download = offline
    with pytest.raises(ManifestError) as error:
        command("--config", "someone/Some-7B")
    assert str(error.value) == (
        "--config someone/Some-7B: cannot be read from the Hugging Face hub: Name or service not known. Offline, or "
        "for a model behind a licence, download its config.json and give the path"
    )


def test_a_hub_id_is_fetched(hub, capsys):
    hub.hf_hub_download = lambda model_id, filename: str(MODELS / "llama31-8b.json")
    assert command("--config", "someone/Some-7B-Instruct", "--tp", "1") == 0
    assert "  some-7b: {id: someone/Some-7B-Instruct, tp: [1]}" in capsys.readouterr().out
