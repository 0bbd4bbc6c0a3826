"""Every kind of shipped model can be captured: its blocks and layers are recorded under entries of their own kind."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from manifest.configs_by_hand import shipped
from suite import exhaustive

from fastkernels.engine.golden import Capture, record
from fastkernels.manifest.reader import read_config

KINDS = shipped()
ALWAYS = ("smollm3-3b", "olmo3-7b")
"""One with layers without positions, one whose norms and windows are its own."""


@pytest.mark.parametrize("name", [*ALWAYS, *exhaustive(*(name for name in KINDS if name not in ALWAYS))])
def test_blocks_and_layers_of_each_kind_are_recorded(name: str, tmp_path: Path) -> None:
    config: dict[str, Any] = {**KINDS[name], "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = read_config(tmp_path)
    recorded = record(Capture(tmp_path, model, 3, 0, "dummy"), torch.device("cpu"), lambda _: None)
    found = {(one.entry.operator, str(one.entry.row["init"].get("prefix", ""))) for one in recorded.records}
    layers = {f"model.layers.{layer.index}" for layer in model.layers}
    assert {prefix for operator, prefix in found if operator == model.family.layer} == layers
    assert model.family.attention in {operator for operator, _ in found}
    unfit = [reason for reason in recorded.left_out if "no entry" in reason]
    assert unfit == []
