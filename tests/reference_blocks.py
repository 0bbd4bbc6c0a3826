"""Blocks and layers of level 2 and 3 beside those of transformers, on what flows through a tiny model."""

from collections.abc import Callable
from typing import Any

import torch
from models.parity import TINY, randomise
from torch import nn

from fastkernels.engine import Chunk, PagePool, Sequence
from fastkernels.engine.batch import Batch, lay_out
from fastkernels.runtime.forward_context import ANY_LAYER, ForwardContext, set_forward_context
from fastkernels.runtime.parallel import OneRank, set_tp_group
from fastkernels.runtime.weights import Stacked, load_weights

QKV = Stacked("qkv_proj", {"q_proj": ("q",), "k_proj": ("k",), "v_proj": ("v",)})
GATE_UP = Stacked("gate_up_proj", {"gate_proj": (0,), "up_proj": (1,)})
TOKENS = 21
"""Tokens of the prompt; a page holds 16."""


def reference_model(**config: Any) -> nn.Module:
    """A random model of transformers' class for this `model_type`, of TINY's sizes."""
    from transformers import AutoConfig, AutoModelForCausalLM

    built = AutoConfig.for_model(config.pop("model_type"), **{**TINY, **config})
    model = AutoModelForCausalLM.from_config(built, attn_implementation="eager", dtype=torch.float32).eval()
    randomise(model)
    return model


def flow(model: nn.Module, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What goes into the part of this name and what comes out of it, [T, H] each, for a prompt of TOKENS tokens."""
    seen = []

    def keep(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        entered = args[0] if args else kwargs["hidden_states"]
        left = output[0] if isinstance(output, tuple) else output
        seen.append((entered.reshape(TOKENS, -1), left.reshape(TOKENS, -1)))

    handle = model.get_submodule(name).register_forward_hook(keep, with_kwargs=True)
    ids = torch.randint(model.config.vocab_size, (1, TOKENS), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        model(ids)
    handle.remove()
    return seen[0]


def rank_of(
    size: int, rank: int, build: Callable[[], nn.Module], weights: dict[str, torch.Tensor],
    stacked: tuple[Stacked, ...] = (QKV, GATE_UP),
) -> nn.Module:  # fmt: skip
    """One rank's block, built without its peers, with its share of the weights."""
    with set_tp_group(OneRank(rank, size)):
        block = build().eval().requires_grad_(False)
    load_weights(block, weights.items(), stacked)
    return block


def prompt_batch(page_size: int = 16) -> Batch:
    """A batch of one prompt."""
    sequence, pool = Sequence([0] * TOKENS), PagePool(8, page_size)
    pool.grow(sequence, TOKENS)
    return lay_out([Chunk(sequence, TOKENS)], page_size, torch.device("cpu"))


def in_context(module: nn.Module, call: Callable[[Batch], Any]) -> Any:
    """Call with a batch of one prompt, within its forward context; the caches fit the module's attention layer."""
    layer = next(part for part in module.modules() if hasattr(part, "kv_cache_shapes"))
    caches = tuple(torch.zeros(shape) for shape in layer.kv_cache_shapes(8, 16))
    batch = prompt_batch()
    with torch.inference_mode(), set_forward_context(ForwardContext(batch.metadata, {ANY_LAYER: caches})):
        return call(batch)


def check_attention(model: nn.Module, build: Callable[[], nn.Module], size: int, layer: int = 1) -> None:
    """Assert that our block is transformers' self_attn; over `size` ranks, that their outputs sum to it."""
    x, expected = flow(model, f"model.layers.{layer}.self_attn")
    weights = model.get_submodule(f"model.layers.{layer}.self_attn").state_dict()
    blocks = [rank_of(size, rank, build, weights) for rank in range(size)]
    outputs = [
        in_context(block, lambda b, block=block: block(positions=b.positions, hidden_states=x)) for block in blocks
    ]
    torch.testing.assert_close(sum(outputs), expected, atol=1e-5, rtol=1e-5)


def check_layer(
    model: nn.Module, build: Callable[[], nn.Module], layer: int = 1, stacked: tuple[Stacked, ...] = (QKV, GATE_UP)
) -> None:
    """Assert that our layer is transformers' decoder layer, as the first of a model and after others."""
    x, expected = flow(model, f"model.layers.{layer}")
    block = rank_of(1, 0, build, model.get_submodule(f"model.layers.{layer}").state_dict(), stacked)
    for residual, rest in ((None, x), (x * 0.25, x * 0.75)):
        hidden, sum_so_far = in_context(block, lambda b, h=rest, r=residual: block(
            positions=b.positions, hidden_states=h.clone(), residual=r))  # fmt: skip
        torch.testing.assert_close(hidden + sum_so_far, expected, atol=2e-5, rtol=1e-5)
