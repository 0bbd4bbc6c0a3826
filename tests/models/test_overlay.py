"""Replacing an operator of level 1 is seen at every level above, in a model that is loaded through the overlay."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from models.parity import Tiny, generate, make_tiny
from reference_blocks import in_context, reference_model

from fastkernels.engine import load_model
from fastkernels.registry import Candidates, ImportGraph, Overlay, subsumed
from fastkernels.registry.operators import baseline_root
from fastkernels.runtime.model_config import rope_parameters

COUNTING = '''
import torch
from torch import nn

calls = 0

class RMSNorm(nn.Module):
    """The baseline's rule and ten per cent, and a count of its calls."""

    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.variance_epsilon = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))

    def forward(self, x, residual=None):
        global calls
        calls += 1
        total = x if residual is None else x + residual
        scale = torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        y = total * scale * self.weight * 1.1
        return y if residual is None else (y, total)
'''
WITHOUT_NORMS = '''
from torch import nn

class LlamaDecoderLayer(nn.Module):
    def __init__(self, config, prefix="", dtype=None):
        super().__init__()

    def forward(self, positions, hidden_states, residual):
        return hidden_states, residual
'''


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    write(tmp_path, "L1/rms_norm.py", COUNTING)
    return tmp_path


@pytest.fixture
def overlay(candidates: Path) -> Iterator[Overlay]:
    with Overlay(candidates, package="counting_overlay") as overlay:
        yield overlay


def write(folder: Path, path: str, text: str) -> None:
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text(text)


def both(overlay: Overlay, module: str, name: str, call) -> tuple[torch.Tensor, torch.Tensor, int]:
    """What `call(class)` gives with the baseline's class and with the overlay's, and the candidate's calls in it."""
    with Overlay(None, package="plain_overlay") as plain:
        expected = call(getattr(plain.module(module), name))
    counter = overlay.module("L1.rms_norm")
    before = counter.calls
    got = call(getattr(overlay.module(module), name))
    return expected, got, counter.calls - before


def test_level_2(overlay: Overlay) -> None:
    config = reference_model(model_type="qwen3").config

    def call(cls):
        torch.manual_seed(0)
        block = cls(64, 4, 2, rope_parameters(config)).requires_grad_(False)
        x = torch.randn(21, 64)
        return in_context(block, lambda batch: block(batch.positions, x))

    expected, got, calls = both(overlay, "L2.qwen3_attention", "Qwen3Attention", call)
    assert calls == 2
    assert not torch.allclose(got, expected, atol=1e-4)


def test_level_3(overlay: Overlay) -> None:
    config = reference_model(model_type="llama").config

    def call(cls):
        torch.manual_seed(0)
        layer = cls(config, prefix="model.layers.0").requires_grad_(False)
        x = torch.randn(21, 64)
        return in_context(layer, lambda batch: layer(batch.positions, x, None)[0])

    expected, got, calls = both(overlay, "L3.llama_decoder_layer", "LlamaDecoderLayer", call)
    assert calls == 2
    assert not torch.allclose(got, expected, atol=1e-4)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny({"model_type": "llama"}, tmp_path_factory.mktemp("llama"))


def test_level_4(overlay: Overlay, llama: Tiny) -> None:
    expected = generate(load_model(llama.directory), llama.prompts, steps=3)
    model = load_model(llama.directory, tasks=overlay.package)
    assert type(model).__module__ == "counting_overlay.L4.llama"
    got = generate(model, llama.prompts, steps=3)
    assert overlay.module("L1.rms_norm").calls == 4 * (2 * 2 + 1)  # four passes: two a layer, one at the end
    assert not torch.allclose(got.logits[0][0], expected.logits[0][0], atol=1e-3)


def test_the_baseline_is_left_alone(overlay: Overlay, llama: Tiny) -> None:
    load_model(llama.directory, tasks=overlay.package)
    generate(load_model(llama.directory), llama.prompts, steps=1)
    assert overlay.module("L1.rms_norm").calls == 0


def test_the_graph_names_who_is_affected(candidates: Path) -> None:
    root = baseline_root()
    graph = ImportGraph.of(root, Candidates.load(candidates, root))
    assert {"L2.qwen3_attention", "L3.llama_decoder_layer", "L3.qwen3_decoder_layer", "L4.llama"} <= set(
        graph.users("L1.rms_norm"))  # fmt: skip
    assert "L2.llama_mlp" not in graph.users("L1.rms_norm")


def test_a_subsumed_candidate_is_reported(candidates: Path) -> None:
    write(candidates, "L3/llama_decoder_layer.py", WITHOUT_NORMS)
    root = baseline_root()
    loaded = Candidates.load(candidates, root)
    graph = ImportGraph.of(root, loaded)
    assert [(s.candidate, s.by) for s in subsumed(graph, loaded, ["L3.llama_decoder_layer"])] == [
        ("L1.rms_norm", "L3.llama_decoder_layer")]  # fmt: skip
    assert subsumed(graph, loaded, ["L4.llama"]) == []  # the last norm still runs it
