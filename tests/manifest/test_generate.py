"""The shipped manifest is what its configs give, with per-rank shapes as vLLM shards them."""

import argparse
import json
import re
import sys
import types
from pathlib import Path

import pytest
import yaml

from fastkernels.cli import generate_inputs
from fastkernels.errors import ManifestError, install_command
from fastkernels.manifest import Selection, default_path, load_manifest
from fastkernels.manifest.catalog import OPERATORS
from fastkernels.manifest.emit import flow
from fastkernels.manifest.families import FAMILIES, Family
from fastkernels.manifest.generate import generate, shipped_configs
from fastkernels.manifest.loader import manifests_directory, parse_manifest
from fastkernels.manifest.quick_yaml import load_plain
from fastkernels.manifest.reader import parse_config
from fastkernels.registry.operators import discover

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
    assert tuple(shipped.operators) == tuple(OPERATORS)
    assert {scenario.model for scenario in shipped.scenarios()} == {path.stem for path in MODELS.glob("*.json")}


def test_tp_degrees_are_those_that_divide(shipped):
    assert {name: model.tps for name, model in shipped.models.items() if model.tps != (1, 2, 4, 8)} == {
        "qwen25-7b": (1, 2, 4),  # 28 heads
        "gemma3-1b": (1, 2, 4),  # 4 heads
        "phi4": (1, 2),  # 10 KV heads
        "starcoder2-7b": (1, 2, 4),  # 36 heads
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


def test_norms_over_all_heads(uses):
    """One rank normalises slices of its own projection; several what they have gathered, and pass slices of that on."""
    whole = uses["rms_norm[olmo2-7b-tp1-s512-q_norm]"].inputs[0]
    assert (whole.shape, whole.strides) == (("tokens", 4096), (3 * 4096, 1))
    gathered = uses["rms_norm[olmo2-7b-tp8-s512-k_norm]"].inputs[0]
    assert (gathered.shape, gathered.strides) == (("tokens", 4096), ())
    assert {spec.name: spec.strides for spec in uses["rotary_emb[olmo2-7b-tp1-s512]"].inputs[1:]} == {
        "query": (), "key": ()}  # fmt: skip
    assert {spec.name: (spec.shape, spec.strides) for spec in uses["rotary_emb[olmo2-7b-tp8-s512]"].inputs[1:]} == {
        "query": (("tokens", 512), (4096, 1)), "key": (("tokens", 512), (4096, 1))}  # fmt: skip


def test_layers_that_carry_the_stream_have_no_residual(uses):
    for layer in ("granite_decoder_layer[granite31-8b", "olmo2_decoder_layer[olmo2-7b",
                  "starcoder2_decoder_layer[starcoder2-7b"):  # fmt: skip
        names = {spec.name for spec in uses[f"{layer}-tp1-s8]"].inputs if "context" not in spec.name}
        assert names == {"positions", "hidden_states"}
        assert f"{layer}-tp1-s8-first]" not in uses
    assert "rms_norm[granite31-8b-tp1-s8-residual]" not in uses


def test_an_mlp_without_a_gate(uses):
    assert linear(uses["linear[starcoder2-7b-tp4-s512-c_fc]"]) == (4608, 4608)
    assert uses["linear[starcoder2-7b-tp4-s512-c_proj]"].init["bias"] is True
    assert uses["gelu[starcoder2-7b-tp4-s512]"].init == {"approximate": "tanh"}
    assert uses["layer_norm[starcoder2-7b-tp4-s512]"].init["normalized_shape"] == 4608
    assert uses["column_parallel_linear[starcoder2-7b-tp4-s512-c_fc]"].init["output_size"] == 18432
    for op in ("silu_and_mul", "merged_column_parallel_linear", "rms_norm"):
        assert not [name for name in uses if name.startswith(f"{op}[starcoder2")]


def test_a_soft_cap_is_given_to_attention_and_reached_by_its_scores(uses):
    for address in ("flash_attn_prefill[gemma2-9b-tp1-s512]", "flash_attn_decode[gemma2-9b-tp1-s8-window]",
                    "attention[gemma2-9b-tp1-s8]"):  # fmt: skip
        assert uses[address].init["logits_soft_cap"] == 50.0
        query = next(spec for spec in uses[address].inputs if spec.name == "query")
        assert query.args["std"] == 12.5
    assert uses["gemma2_attention[gemma2-9b-tp1-s8]"].init["attn_logits_soft_cap"] == 50.0
    assert "logits_soft_cap" not in uses["attention[gemma3-4b-tp1-s8]"].init


def test_layers_without_positions_are_a_kind_of_their_own(uses):
    assert uses["smollm3_attention[smollm3-3b-tp1-s8-nope]"].init["prefix"] == "model.layers.3.self_attn"
    assert uses["smollm3_decoder_layer[smollm3-3b-tp1-s8-nope]"].init["prefix"] == "model.layers.3"
    rotary = [name for name in uses if name.startswith("rotary_emb[smollm3-3b-tp1-s8")]
    assert rotary == ["rotary_emb[smollm3-3b-tp1-s8]"]


def test_contexts_are_whole_pages_where_a_window_is_not(uses):
    scenario = uses["flash_attn_decode[phi3-mini-4k-tp1-s8]"]
    table = next(spec for spec in scenario.inputs if spec.name == "block_table")
    assert (scenario.init["sliding_window"], table.shape) == (2047, ("tokens", 255))


def test_token_counts(shipped):
    every = {}
    for s in shipped.scenarios():
        every.setdefault((s.op, s.variant), set()).add(s.tokens)
    chosen = shipped.scenarios(Selection(models=("llama31-8b",), tps=(1,), seqlens=(32, 512)))
    counts = {(s.op, s.variant): every[s.op, s.variant] for s in chosen}
    decode, prefill = {1, 8, 32, 128}, {512, 2048, 8192}
    special = {
        ("linear", "lm_head"): decode,
        ("flash_attn_decode", ""): decode,
        ("flash_attn_decode", "context8192"): {1, 8, 32},
        ("flash_attn_prefill", ""): prefill,
        ("flash_attn_prefill", "ragged"): prefill,
        ("flash_attn_prefill", "chunked"): prefill,
        ("parallel_lm_head", ""): decode,
        ("attention", "mixed"): {512, 2048},
        ("llama_attention", "mixed"): {512, 2048},
        ("llama_decoder_layer", "mixed"): {512, 2048},
        ("llama_decoder_layer", "first"): decode,
        ("llama_for_causal_lm", "mixed"): {512, 2048},
    }
    assert counts == {key: special.get(key, decode | prefill) for key in counts}
    assert set(special) < set(counts)


def test_equal_shapes_are_one_entry(shipped):
    seen = set()
    for entry in shipped.entries:
        key = (entry.op.name, entry.variant, entry.tokens, str(entry.init), str(entry.inputs))
        assert key not in seen
        seen.add(key)


def test_blocks_take_the_whole_models_sizes_and_ranks_their_share(uses):
    at = uses["llama_attention[llama31-8b-tp8-s8]"]
    assert {name: at.init[name] for name in ("hidden_size", "num_heads", "num_kv_heads")} == {
        "hidden_size": 4096, "num_heads": 32, "num_kv_heads": 8}  # fmt: skip
    assert at.init["config"]["rope_scaling"]["factor"] == 8.0
    assert shapes(at) == {
        "context.block_table": (8, 64), "context.seqused_k": (8,), "context.slot_mapping": (8,),
        "context.key_cache": (8 * 64 + 8, 16, 1, 128), "context.value_cache": (8 * 64 + 8, 16, 1, 128),
        "positions": (8,), "hidden_states": (8, 4096),
    }  # fmt: skip
    assert shapes(uses["row_parallel_linear[llama31-8b-tp4-s8-down_proj]"]) == {"x": (8, 3584)}
    assert uses["row_parallel_linear[llama31-8b-tp4-s8-down_proj]"].init["input_size"] == 14336
    assert uses["vocab_parallel_embedding[llama31-8b-tp8-s8]"].init["num_embeddings"] == 128256
    first, second = (uses[f"llama_mlp[llama31-8b-tp{tp}-s8]"] for tp in (1, 2))
    assert first.init == second.init
    assert first.shape_key != second.shape_key


def test_a_mixed_batch_has_decodes_before_the_chunk(uses):
    scenario = uses["llama_decoder_layer[llama31-8b-tp8-s512-mixed]"]
    found = shapes(scenario)
    assert found["residual"] == (520, 4096)
    assert found["context.key_slots"] == (1536,)
    assert found["context.block_table"] == (8, 64)
    by_name = {spec.name: spec.args for spec in scenario.inputs}
    assert by_name["context.key_slots"]["first"] == by_name["context.block_table"]["pages"] == 512
    assert scenario.phase == "prefill"


def test_a_router_is_named_where_hidden_states_lean_to_experts(uses):
    def args(op, name, variant=""):
        spec = next(s for s in uses[op].inputs if s.name == name)
        return spec.values, spec.args

    assert args("qwen3_moe[qwen3-30b-a3b-tp4-s8]", "hidden_states") == ("routed", {"gate": "gate.weight", "top_k": 8})
    assert args("gpt_oss_moe[gpt-oss-20b-tp4-s8]", "x") == (
        "routed", {"gate": "router.weight", "top_k": 4, "bias": "router.bias", "least": 1.0})  # fmt: skip
    assert args("deepseek_v2_moe[deepseek-v3-tp8-s8]", "hidden_states")[1] == {
        "gate": "gate.weight", "top_k": 8, "groups": 8, "top_groups": 4, "least": 1.0}  # fmt: skip


@pytest.mark.parametrize(("positions", "keys", "prefill", "mixed"), [
    (131072, 1024, {512, 2048, 8192}, {512, 2048}), (2048, 1024, {512}, {512}), (600, 592, {512}, set()),
    (40, 32, set(), set()),
])
def test_no_position_lies_past_the_last(positions, keys, prefill, mixed):
    config = json.loads((MODELS / "llama31-8b.json").read_text()) | {"max_position_embeddings": positions}
    manifest = parse_manifest(generate([parse_config(config, "c.json", "short", "me/Short")]), Path("short.yaml"))
    scenarios = manifest.scenarios(Selection(targets=("llama_attention",), tps=(1,)))
    decode = [s for s in scenarios if s.phase == "decode"]
    assert {next(i.args["max"] for i in s.inputs if i.name == "context.seqused_k") for s in decode} == {keys}
    assert {s.tokens for s in scenarios if s.phase == "prefill" and not s.variant} == prefill
    assert {s.tokens for s in scenarios if s.variant == "mixed"} == mixed
    for scenario in (s.with_tokens(s.tokens + 1) for s in scenarios if s.phase == "prefill"):
        longest = next(scenario.resolved_args(i) for i in scenario.inputs if i.name == "context.prefill_max_seqlen_k")
        assert longest["value"] <= positions


@pytest.mark.parametrize(("window", "keys"), [(512, 1024), (2047, 4080), (4096, 8192), (32768, 32768)])
def test_a_window_of_any_width_has_contexts_of_whole_pages_within_the_positions(window, keys):
    config = json.loads((MODELS / "mistral-7b-v03.json").read_text()) | {"sliding_window": window}
    text = generate([parse_config(config, "c.json", "windowed", "me/Windowed")], tps=(1,))
    manifest = parse_manifest(text, Path("windowed.yaml"))
    for op in ("flash_attn_decode", "llama_attention"):
        scenarios = manifest.scenarios(Selection(targets=(op,), seqlens=(8,)))
        inputs = {spec.name.removeprefix("context."): spec for spec in scenarios[0].inputs}
        assert inputs["seqused_k"].args["max"] == keys
        assert inputs["block_table"].shape[1] * 16 == keys


def test_pairs_of_a_rotated_key_lie_side_by_side_unless_the_config_says_otherwise():
    data = json.loads((MODELS / "deepseek-v3.json").read_text())
    for extra, is_neox_style in (({}, False), ({"rope_interleave": False}, True)):
        text = generate([parse_config({**data, **extra}, "c.json", "latent", "me/Latent")])
        scenarios = parse_manifest(text, Path("latent.yaml")).scenarios(Selection(targets=("rotary_emb",)))
        assert {s.init["is_neox_style"] for s in scenarios} == {is_neox_style}


def test_windows_and_sinks(uses):
    full, window = (uses[f"flash_attn_decode[gpt-oss-20b-tp8-s8{variant}]"] for variant in ("", "-window"))
    assert "sliding_window" not in full.init
    assert window.init["sliding_window"] == 128
    assert shapes(full)["sinks"] == shapes(window)["sinks"] == (8,)
    gemma = uses["flash_attn_decode[gemma3-27b-tp1-s8-window]"]
    assert (gemma.init["sliding_window"], gemma.init["scale"]) == (1024, 168**-0.5)
    assert shapes(gemma)["block_table"] == (8, 2048 // 16)  # a context that is longer than the window


def test_replicated_shapes_do_not_depend_on_tp(shipped):
    for op in ("topk_softmax", "rms_norm"):
        for entry in shipped.entries:
            if entry.op.name == op and entry.variant in ("", "residual"):
                degrees = {model.name: [tp for m, tp in entry.uses if m is model] for model, _ in entry.uses}
                assert all(tuple(degrees[model.name]) == model.tps for model, _ in entry.uses)


@pytest.fixture(scope="module")
def baseline():
    return discover(BASELINE)


@pytest.mark.parametrize("op", OPERATORS)
def test_entries_fit_the_baseline_class(shipped, baseline, op):
    operator = shipped.operators[op]
    signature = baseline[f"L{operator.level}.{operator.module}"].classes[operator.class_name]
    init, forward = signature.init.named(), signature.forward.named()
    needed = [{name for name, param in params.items() if param.required} for params in (init, forward)]
    for entry in shipped.entries:
        if entry.op is operator:
            arguments = {spec.name for spec in entry.inputs if not spec.name.startswith("context.")}
            if operator.level == 4:
                arguments.remove("logits_indices")  # of compute_logits (runtime.served)
            assert needed[0] <= set(entry.init) <= set(init)
            assert needed[1] <= arguments <= set(forward)


def test_every_block_layer_and_model_of_the_baseline_has_entries(shipped, baseline):
    graded = {f"L{op.level}.{op.module}" for op in shipped.operators.values()}
    assert set(baseline) <= graded


def test_a_new_dense_family_is_one_row(monkeypatch):
    monkeypatch.setitem(FAMILIES, "NewForCausalLM", Family(qkv_bias=True))
    config = json.loads((MODELS / "llama31-8b.json").read_text()) | {"architectures": ["NewForCausalLM"]}
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
        assert yaml.safe_load(f"[{flow(value)}]") == load_plain(f"[{flow(value)}]") == [value]


def test_command_writes_and_checks(tmp_path, capsys):
    output = tmp_path / "m.yaml"
    words = ["--config", str(MODELS / "qwen3-8b.json"), "--tp", "2", "--output", str(output)]
    assert command(*words) == 0
    assert capsys.readouterr().out.endswith("m.yaml: models 1, operators 19, entries 40, scenarios 197\n")
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
    with pytest.raises(ManifestError, match=re.escape(f"needs huggingface_hub: {install_command('hub')}")):
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
