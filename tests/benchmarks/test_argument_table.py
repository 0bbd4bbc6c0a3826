"""The table of arguments names all of every operator; small modules tell who ignores one that is not shipped."""

from pathlib import Path

import pytest
import torch
from suite import exhaustive

from benchmarks.argument_table import NO_DRAW, _built_with, arguments, built, catalogue, refused, rows_of
from fastkernels.bench.grade import check_task
from fastkernels.manifest import Scenario
from fastkernels.manifest.variants import CHANGES, Variant, variants

TABLE = Path(__file__).resolve().parents[2] / "docs" / "argument-table.md"
SMALLEST_FIRST = catalogue()


def _one_each() -> list[tuple[Scenario, Variant]]:
    found: dict[str, tuple[Scenario, Variant]] = {}
    for scenario in (scenario for op in CHANGES for scenario in SMALLEST_FIRST[op]):
        for variant in variants(scenario):
            found.setdefault(f"{scenario.op} {variant.name}", (scenario, variant))
    return list(found.values())


def _every_use() -> list[tuple[Scenario, Variant]]:
    return list({(scenario.op, variant.name, scenario.phase, scenario.variant): (scenario, variant)
                 for op in CHANGES for scenario in SMALLEST_FIRST[op] for variant in variants(scenario)}.values())


def _name(value: Scenario | Variant) -> str:
    return value.name if isinstance(value, Variant) else value.id


VARIANTS = _one_each()
QUICK = ("rotary_emb", "gelu_and_mul", "flash_attn_prefill", "flash_attn_decode", "qwen2_attention", "qwen3_moe",
         "gpt_oss_attention")  # fmt: skip
USUAL = [found for found in VARIANTS if found[0].op in QUICK]


def test_every_operator_with_variants_has_one():
    assert {scenario.op for scenario, _ in VARIANTS} == set(CHANGES)


def test_inputs_of_variants_have_as_many_rows_as_the_batch():
    for scenario, variant in _every_use():
        rows = {spec.name: spec.shape[0] for spec in scenario.inputs if spec.shape}
        assert {spec.name: spec.shape[0] for spec in variant.scenario.inputs if spec.shape} == rows, scenario.id


@pytest.mark.parametrize(("scenario", "variant"), exhaustive(*_every_use()), ids=_name)
def test_every_use_of_a_variant_can_be_called(scenario, variant):
    del scenario
    assert check_task(built(variant.scenario), variant.scenario, torch.device("cpu")) is None


@pytest.mark.parametrize(("scenario", "variant"), [
    *USUAL, *exhaustive(*(found for found in VARIANTS if found not in USUAL)),
], ids=_name)  # fmt: skip
def test_who_ignores_the_argument_fails_and_the_baseline_does_not(scenario, variant):
    task = variant.scenario
    module = built(task)
    assert check_task(module, task, torch.device("cpu")) is None
    assert not refused(task, module, module, is_variant=True)
    for name in (part.partition("=")[0] for part in variant.name.split(", ")):
        if f"{task.op} {name}" == "mla_decode qk_rope_head_dim":  # the query's shape says it
            continue
        ignoring = _built_with(task, name, scenario.init.get(name))
        assert ignoring is None or refused(task, module, ignoring, is_variant=True), name


def test_the_table_has_every_argument_of_every_operator():
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ") and line.count("|") == 5][1:]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    due = [(op, *argument) for op, scenarios in SMALLEST_FIRST.items() for argument in arguments(scenarios)]
    assert sorted(row[:3] for row in rows) == sorted(due), "run benchmarks/argument_table.py"
    assert not [row for row in rows if row[3] == NO_DRAW]


@pytest.mark.parametrize("op", ["topk_softmax", "store_kvcache"])
def test_the_table_says_what_a_run_finds(op):
    rows = {f"| {row.op} | {row.kind} | {row.name} | {row.found} |" for row in rows_of(op, SMALLEST_FIRST[op])}
    assert rows <= set(TABLE.read_text().splitlines())
