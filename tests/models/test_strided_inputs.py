"""What whole models pass to operators with gaps between rows is what these declare (`Op.strided_inputs`)."""

import inspect

import pytest
import torch
from models.parity import make_tiny
from models.test_deepseek_v2_parity import LATENT

from fastkernels.engine import Chunk, ModelRunner, Sequence, load_model
from fastkernels.engine.batch import lay_out
from fastkernels.runtime.forward_context import ForwardContext, set_forward_context
from fastkernels.runtime.op import Op

KINDS = {
    "llama": {}, "qwen3": {}, "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "deepseek_v2": LATENT | {"q_lora_rank": 24, "num_hidden_layers": 1},
}  # fmt: skip
LEAST = {"llama": {"RotaryEmbedding.query", "RotaryEmbedding.key", "StoreKVCache.value"}, "qwen3": {"RMSNorm.x"},
         "gemma3_text": {"GemmaRMSNorm.x"}, "deepseek_v2": {"RMSNorm.x", "RotaryEmbedding.key"}}
"""Seen at least, so that the test cannot pass by seeing nothing."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_that_comes_with_gaps_is_declared(kind, tmp_path):
    make_tiny({"model_type": kind} | KINDS[kind], tmp_path)
    model = load_model(tmp_path)
    seen, undeclared = set(), set()

    def look(op, args, kwargs):
        call = op.forward_native if type(op).forward is Op.forward else op.forward
        inputs = inspect.signature(call).bind(*args, **kwargs).arguments
        gapped = {name for name, value in inputs.items()
                  if isinstance(value, torch.Tensor) and not value.is_contiguous()}
        seen.update(f"{type(op).__name__}.{name}" for name in gapped)
        undeclared.update(f"{type(op).__name__}.{name}" for name in gapped - set(op.strided_inputs(inputs)))

    for part in model.modules():
        if isinstance(part, Op):
            part.register_forward_pre_hook(look, with_kwargs=True)
    runner = ModelRunner(model, pages=8)
    chunks = [Chunk(sequence, sequence.pending) for sequence in (Sequence([1, 2, 3, 4, 5]), Sequence([6, 7]))]
    for chunk in chunks:
        runner.pool.grow(chunk.sequence, chunk.end)
    batch = lay_out(chunks, runner.pool.page_size, torch.device("cpu"))
    with torch.inference_mode(), set_forward_context(ForwardContext(batch.metadata, runner.kv_caches)):
        model(batch.input_ids, batch.positions)
    assert seen >= LEAST[kind]
    assert undeclared == set()
