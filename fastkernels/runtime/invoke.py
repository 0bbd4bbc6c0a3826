"""Calls a module on one flat mapping: arguments of forward, and as `context.X` what its forward context holds.

Manifests and shared memory hold named tensors; this is the one place where they become a ForwardContext.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fastkernels.manifest import context as names
from fastkernels.runtime.forward_context import (
    ANY_LAYER,
    AttentionMetadata,
    ForwardContext,
    KVCache,
    PrefillMetadata,
    set_forward_context,
)


def split(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], ForwardContext | None]:
    """Return the arguments of forward and the context, None where no name starts with `context.`.

    Tensors are passed on as they are. ValueError that names a context value which is unknown or missing.
    """
    arguments = {name: value for name, value in inputs.items() if not name.startswith(names.PREFIX)}
    if len(arguments) == len(inputs):
        return arguments, None
    found = {name.removeprefix(names.PREFIX): inputs[name] for name in inputs if name.startswith(names.PREFIX)}
    for name in found.keys() - set(names.NAMES):
        raise ValueError(f"{names.PREFIX}{name} is not one of {', '.join(names.NAMES)}")
    for name, problem in names.problems(found):
        raise ValueError(f"{names.PREFIX}{name}: {problem}")
    return arguments, ForwardContext(_metadata(found), _caches(found))


def invoke(module: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
    """Call `module` on flat inputs, within their forward context where they hold one."""
    return prepared(module, inputs)()


def prepared(module: Callable[..., Any], inputs: Mapping[str, Any]) -> Callable[[], Any]:
    """`invoke` with everything but the call itself done beforehand, for calls that are timed."""
    arguments, context = split(inputs)
    if context is None:
        return lambda: module(**arguments)

    def call() -> Any:
        with set_forward_context(context):
            return module(**arguments)

    return call


def _caches(found: Mapping[str, Any]) -> dict[str, KVCache]:
    """One layer's caches for whichever asks, or each of a model's layers its part, by name."""
    for group in names.CACHES:
        if group[0] in found:
            return {ANY_LAYER: tuple(found[name] for name in group)}
    stacks = next(tuple(found[name] for name in group) for group in names.MODEL_CACHES if group[0] in found)
    return {names.LAYER_NAME.format(layer): caches for layer, caches in enumerate(zip(*stacks, strict=True))}


def _metadata(found: Mapping[str, Any]) -> AttentionMetadata:
    slots, prefill = found["slot_mapping"], None
    if "cu_seqlens_q" in found:
        prefill = PrefillMetadata(
            cu_seqlens_q=found["cu_seqlens_q"], cu_seqlens_k=found["cu_seqlens_k"],
            max_seqlen_q=found["max_seqlen_q"], max_seqlen_k=found["prefill_max_seqlen_k"],
            key_slots=found.get("key_slots"))
    decodes = "block_table" in found
    none = torch.zeros(0, dtype=torch.int32, device=slots.device)
    return AttentionMetadata(
        slot_mapping=slots, block_table=found["block_table"] if decodes else none.view(0, 1),
        seqused_k=found["seqused_k"] if decodes else none, num_decodes=found["num_decodes"] if decodes else 0,
        max_seqlen_k=found["max_seqlen_k"] if decodes else 0, prefill=prefill)
