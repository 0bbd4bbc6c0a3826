"""The rows of the benchmark are calls that the operators take, and a wrong result is no row of the table."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def variants():
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("attention_variants", FOLDER / "attention_variants.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["attention_variants"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(FOLDER))
    for name in ("attention_variants", "device_time"):
        sys.modules.pop(name, None)


def rows(variants):
    for layer in variants.LAYERS:
        yield variants.decode_row(layer, 2, 40, "cpu")
        yield variants.prefill_row(layer, 2, 20, device="cpu")
    yield variants.latent_row("deepseek-v3 tp8", 2, 70, "cpu")
    yield variants.prefill_row(variants.Heads("latent", 4, 4, 192), 2, 20, 128, "cpu")
    yield from variants.token_rows(3, "cpu")


def test_every_row_is_a_call_and_agrees_with_itself(variants):
    count = 0
    for row in rows(variants):
        assert variants.relative_error(row) < 1e-2
        work = row.module.work(row.inputs, variants.outputs_of(row.module(**row.inputs)))
        assert work.bytes > 0
        count += 1
    assert count == 2 * len(variants.LAYERS) + 5


def test_a_wrong_result_is_an_error_and_the_next_rows_still_run(variants):
    right, wrong = (variants.decode_row(variants.LAYERS[0], 2, 40, "cpu") for _ in range(2))

    def doubled(*args, **inputs):
        y = right.module(*args, **inputs)
        return 2 * y if y.dtype == torch.bfloat16 else y

    wrong.module.forward = doubled
    found = [result for row in (wrong, wrong) for result in variants.measured(lambda row=row: iter([row]), None, False)]
    assert len(found) == 2
    assert all("flash_attn_decode gemma3-27b window 1024 2 x 40: relative error" in each["error"] for each in found)


def test_a_sweep_fixes_the_splits(variants):
    seen = []
    calls = dict(variants.swept(SimpleNamespace(
        op="mla_decode", length=200, inputs={}, module=lambda: seen.append(variants.mla_decode.split_count(1, 2, 3, 4))
    )))  # fmt: skip
    assert list(calls) == [1, 2, 3, 4]
    for run in calls.values():
        run()
    assert seen == [1, 2, 3, 4]
