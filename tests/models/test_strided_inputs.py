"""What whole models pass with gaps between rows is what the manifest draws and what operators declare."""

import inspect
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from models.parity import make_tiny
from models.test_deepseek_v2_parity import LATENT
from torch import nn

from fastkernels.engine import Chunk, ModelRunner, Sequence, load_model
from fastkernels.engine.batch import lay_out
from fastkernels.manifest.generate import build_manifest
from fastkernels.manifest.reader import read_config
from fastkernels.runtime.forward_context import ForwardContext, set_forward_context
from fastkernels.runtime.op import Op

KINDS = {
    "llama": {}, "qwen3": {}, "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "deepseek_v2": LATENT | {"q_lora_rank": 24, "num_hidden_layers": 1},
}  # fmt: skip
LEAST = {"llama": {"RotaryEmbedding.query", "RotaryEmbedding.key", "StoreKVCache.value", "Attention.query"},
         "qwen3": {"RMSNorm.x", "FlashAttnPrefill.value", "Attention.value"},
         "gemma3_text": {"GemmaRMSNorm.x"}, "deepseek_v2": {"RMSNorm.x", "RotaryEmbedding.key", "StoreMLACache.k_pe"}}
"""Seen at least, so that the test cannot pass by seeing nothing."""

Slice = tuple[str, str, tuple[int, ...], tuple[int, ...]]
"""(class, input, its shape without the tokens, its strides)."""


def in_place(rotary: nn.Module) -> None:
    """Rotate where query and key lie, as on CUDA: what follows then reads the same slices."""
    original = rotary.forward_native

    def forward(self: nn.Module, positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> Any:
        for x, rotated in zip((query, key), original(positions, query, key), strict=True):
            x.copy_(rotated)
        return query, key

    rotary.forward_native = types.MethodType(forward, rotary)


def calls(kind: str, folder: Any) -> Iterator[tuple[nn.Module, dict[str, Any]]]:
    """Every call that a step with a prompt and one that decodes make, with what is passed by name."""
    make_tiny({"model_type": kind} | KINDS[kind], folder)
    model = load_model(folder)
    seen: list[tuple[nn.Module, dict[str, Any]]] = []

    def look(part: nn.Module, args: Any, kwargs: Any) -> None:
        call = part.forward_native if isinstance(part, Op) and type(part).forward is Op.forward else part.forward
        seen.append((part, dict(inspect.signature(call).bind(*args, **kwargs).arguments)))

    for part in model.modules():
        part.register_forward_pre_hook(look, with_kwargs=True)
        if type(part).__name__ == "RotaryEmbedding":
            in_place(part)
    runner = ModelRunner(model, pages=8)
    prompts = [Sequence([1, 2, 3, 4, 5]), Sequence([6, 7])]
    step(model, runner, [Chunk(sequence, sequence.pending) for sequence in prompts])
    for sequence in prompts:
        sequence.computed = len(sequence.tokens)
        sequence.tokens.append(8)
    step(model, runner, [Chunk(sequence, 1) for sequence in prompts])
    yield from seen


def step(model: nn.Module, runner: ModelRunner, chunks: list[Chunk]) -> None:
    for chunk in chunks:
        runner.pool.grow(chunk.sequence, chunk.end)
    batch = lay_out(chunks, runner.pool.page_size, torch.device("cpu"))
    with torch.inference_mode(), set_forward_context(ForwardContext(batch.metadata, runner.kv_caches)):
        model(batch.input_ids, batch.positions)


def gapped(part: nn.Module, inputs: dict[str, Any]) -> Iterator[Slice]:
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and not value.is_contiguous():
            yield type(part).__name__, name, tuple(value.shape[1:]), value.stride()


def drawn_with_gaps(folder: Any) -> tuple[set[Slice], set[str]]:
    """What the manifest of this model draws as slices, and the classes that it has entries of."""
    operators = build_manifest([read_config(folder)], (1,))["operators"]
    return ({(op["class"], name, tuple(spec["shape"][1:]), tuple(spec["strides"]))
             for op in operators.values() for entry in op["scenarios"] for name, spec in entry["inputs"].items()
             if "strides" in spec}, {op["class"] for op in operators.values()})


@pytest.mark.parametrize("kind", KINDS)
def test_slices_are_drawn_as_the_model_passes_them_and_declared(kind, tmp_path):
    seen: set[Slice] = set()
    undeclared = set()
    for part, inputs in calls(kind, tmp_path):
        found = set(gapped(part, inputs))
        seen |= found
        if isinstance(part, Op):
            undeclared |= {f"{type(part).__name__}.{name}" for _, name, *_ in found} - {
                f"{type(part).__name__}.{name}" for name in part.strided_inputs(inputs)}
    drawn, graded = drawn_with_gaps(tmp_path)
    assert {f"{owner}.{name}" for owner, name, *_ in seen} >= LEAST[kind]
    assert undeclared == set()
    # DeepSeek's prompts take FlashAttnPrefill with heads of other sizes, for which no entry is generated
    passed = {slice for slice in seen if slice[0] in graded}
    assert passed == drawn
