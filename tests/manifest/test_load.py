"""Loading, expansion and selection."""

import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path

import pytest

from fastkernels.errors import SelectionError
from fastkernels.manifest import Manifest, Scenario, Selection, load_manifest, model_map
from fastkernels.manifest.manifest import _KINDS


def ids(manifest: Manifest, **selection: tuple) -> list[str]:
    return [scenario.id for scenario in manifest.scenarios(Selection(**selection))]


def test_entries_expand_by_model_tp_variant_and_tokens(write):
    assert ids(load_manifest(write())) == [
        "rms_norm[llama31-8b-tp1-s1]",
        "rms_norm[llama31-8b-tp1-s512]",
        "rms_norm[llama31-8b-tp1-s512-residual]",
        "rms_norm[qwen3-8b-tp2-s1]",
        "rms_norm[qwen3-8b-tp2-s512]",
        "store[qwen3-8b-tp1-s8]",
        "store[qwen3-8b-tp1-s2048]",
    ]


def test_a_scenario_holds_what_its_entry_says(write):
    scenario = load_manifest(write()).scenarios(Selection(targets=("store",), seqlens=(8,)))[0]
    assert (scenario.op, scenario.module, scenario.class_name, scenario.level) == (
        "store",
        "store_kvcache",
        "StoreKVCache",
        2,
    )
    assert (scenario.model, scenario.model_id, scenario.tp) == ("qwen3-8b", "Qwen/Qwen3-8B", 1)
    assert (scenario.tokens, scenario.category, scenario.init) == (8, "llm", {})
    shapes = {spec.name: scenario.resolved_shape(spec) for spec in scenario.inputs}
    assert shapes == {"key_cache": (40, 16), "slot_mapping": (8,), "cu_seqlens": (9,), "max_seqlen": ()}
    assert [scenario.resolved_args(spec) for spec in scenario.inputs] == [
        {"std": 0.5},
        {"slots": 640},
        {"total": 8, "sequences": 8},
        {"value": 8},
    ]


def test_phase_follows_the_token_count_unless_given(write):
    phases = {s.id: s.phase for s in load_manifest(write()).scenarios()}
    assert phases["rms_norm[llama31-8b-tp1-s1]"] == "decode"
    assert phases["rms_norm[llama31-8b-tp1-s512]"] == "prefill"
    assert phases["store[qwen3-8b-tp1-s8]"] == "prefill"


def test_operators_models_and_map(write):
    manifest = load_manifest(write())
    assert manifest.path.name == "m.yaml"
    assert [(o.name, o.level, o.module, o.class_name, o.category) for o in manifest.operators.values()] == [
        ("rms_norm", 1, "rms_norm", "RMSNorm", "llm"),
        ("store", 2, "store_kvcache", "StoreKVCache", "llm"),
    ]
    assert manifest.models["qwen3-8b"].tps == (1, 2)
    assert model_map(manifest) == {"llama31-8b": ["rms_norm"], "qwen3-8b": ["rms_norm", "store"]}


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        ({"targets": ("rms_norm",)}, 5),
        ({"targets": ("rms_norm", "store")}, 7),
        ({"levels": (2,)}, 2),
        ({"models": ("llama",)}, 3),
        ({"models": ("LLAMA31",)}, 3),
        ({"models": ("meta-llama/llama-3.1-8b",)}, 3),
        ({"models": ("Qwen3-8B",)}, 4),
        ({"models": ("qwen/", "llama31-8b")}, 7),
        ({"tps": (2,)}, 2),
        ({"seqlens": (512,)}, 3),
        ({"seqlens": (512, 1), "tps": (1,), "categories": ("llm",)}, 3),
    ],
)
def test_selection(write, selection, count):
    assert len(ids(load_manifest(write()), **selection)) == count


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (
            {"targets": ("rms_nrm",)},
            "m.yaml: operator 'rms_nrm' is not one of rms_norm, store. Did you mean 'rms_norm'?",
        ),
        (
            {"targets": ("rms_norm", "rms")},
            "m.yaml: operator 'rms' is not one of rms_norm, store. Did you mean 'rms_norm'?",
        ),
        ({"levels": (3,)}, "m.yaml: level 3 is not one of 1, 2"),
        (
            {"models": ("lama31",)},
            "m.yaml: model 'lama31' starts no name or Hugging Face id of llama31-8b, qwen3-8b. "
            "Did you mean 'llama31-8b'?",
        ),
        ({"models": ("",)}, "m.yaml: model '' starts no name or Hugging Face id of llama31-8b, qwen3-8b"),
        ({"tps": (8,)}, "m.yaml: TP 8 is not one of 1, 2"),
        ({"seqlens": (100,)}, "m.yaml: token count 100 is not one of 1, 8, 512, 2048"),
        ({"categories": ("lm",)}, "m.yaml: category 'lm' is not one of llm. Did you mean 'llm'?"),
        (
            {"targets": ("store",), "models": ("llama",), "seqlens": (512,)},
            "m.yaml: no scenario has all of: operator store; model llama; token count 512 (2 without operator store)",
        ),
    ],
)
def test_a_selection_of_nothing_is_an_error(write, selection, message):
    with pytest.raises(SelectionError) as error:
        load_manifest(write()).scenarios(Selection(**selection))
    assert str(error.value) == message


def test_every_field_of_a_selection_has_a_word_for_messages():
    assert set(_KINDS) == {field.name for field in fields(Selection)}


def test_equal_computations_share_a_key_across_models(write):
    keys = {s.id: s.shape_key for s in load_manifest(write()).scenarios()}
    assert keys["rms_norm[llama31-8b-tp1-s512]"] == keys["rms_norm[qwen3-8b-tp2-s512]"]
    assert keys["rms_norm[llama31-8b-tp1-s512]"] != keys["rms_norm[llama31-8b-tp1-s512-residual]"]


def test_scenarios_survive_a_trip_through_plain_data(shipped):
    for scenario in shipped.scenarios(Selection(models=("qwen3-30b",), tps=(8,))):
        again = Scenario.from_dict(scenario.to_dict())
        assert (again, again.shape_key) == (scenario, scenario.shape_key)


def test_variants_come_in_one_order_for_every_model(shipped):
    orders = {}
    for scenario in shipped.scenarios(Selection(targets=("rms_norm",), seqlens=(8,))):
        orders.setdefault((scenario.model, scenario.tp), []).append(scenario.variant)
    assert {tuple(order) for order in orders.values()} == {
        ("", "residual"), ("", "residual", "q_norm", "k_norm"), ("", "residual", "kv_a_norm"),
        ("", "residual", "kv_a_norm", "q_a_norm"), ("",), ("", "q_norm", "k_norm"),
    }  # fmt: skip


def test_ids_are_unique(shipped):
    addresses = [scenario.id for scenario in shipped.scenarios()]
    assert len(addresses) == len(set(addresses))


def test_loading_imports_no_torch():
    code = textwrap.dedent("""
        import sys
        from fastkernels.manifest import load_manifest
        print(len(load_manifest().scenarios()))
        assert "torch" not in sys.modules
    """)
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert int(out) > 3000
