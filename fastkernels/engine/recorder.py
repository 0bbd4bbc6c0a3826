"""Forward hooks that keep what operators of a running model are called with."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import torch
from torch import nn

from fastkernels.manifest.context import CACHES, PREFIX
from fastkernels.runtime.forward_context import ForwardContext, get_forward_context
from fastkernels.runtime.op import Op

ROUTING = ("gating_output", "e_score_correction_bias")
"""Float inputs that decide which experts are chosen; other floats have no structure and are not kept."""
PLAIN = (bool, int, float, str, type(None))

OperatorKey = tuple[str, str]
"""Module below the task root and class: (`L1.rotary_emb`, `RotaryEmbedding`)."""


@dataclass(frozen=True)
class Kept:
    """One tensor input."""

    dtype: str
    """torch dtype name."""
    shape: tuple[int, ...]
    """Its shape."""
    values: torch.Tensor | None
    """A copy on the CPU; None where only the shape is kept."""


@dataclass(frozen=True)
class Call:
    """One call of one operator."""

    key: OperatorKey
    """Its operator."""
    layer: str
    """Its module within the model."""
    module: nn.Module
    """The module itself."""
    passed: str
    """Name of the forward pass."""
    inputs: dict[str, Any]
    """`Kept` or plain values by parameter name, `context.X` for what the forward context holds."""


class Recorder:
    """Keeps the calls of some operators in the passes that are named; a context manager."""

    def __init__(self, model: nn.Module, operators: Mapping[OperatorKey, bool], tasks: str) -> None:
        """`operators`: which, and whether each reads the forward context; `tasks`: package of the task tree."""
        self.calls: list[Call] = []
        self.passed = ""
        """Name of the pass that runs; empty: nothing is kept."""
        self._undo: list[Callable[[], None]] = []
        for name, module in model.named_modules():
            for cls in type(module).__mro__:
                key = operator_key(cls, tasks)
                if key in operators:
                    self._attach(module, cls is type(module), self._hook(key, name, operators[key]))

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *exception: object) -> None:
        for undo in self._undo:
            undo()

    def _attach(self, module: nn.Module, is_own: bool, hook: "Hook") -> None:
        """Hook the module's forward, or, where its class wraps the operator's forward, the paths that this chooses."""
        if is_own:
            self._undo.append(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
            return
        for path in ("forward_native", "forward_cuda"):
            setattr(module, path, _before(getattr(module, path), module, hook))
            self._undo.append(partial(delattr, module, path))

    def _hook(self, key: OperatorKey, name: str, reads_context: bool) -> "Hook":
        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self.passed:
                inputs = dict(_signature(module, key).bind(*args, **kwargs).arguments)
                if reads_context:
                    inputs |= _flat(get_forward_context(), module)
                kept = {parameter: _kept(parameter, value) for parameter, value in inputs.items()}
                self.calls.append(Call(key, name, module, self.passed, kept))

        return keep


Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]


def _before(function: Callable[..., Any], module: nn.Module, hook: Hook) -> Callable[..., Any]:
    """The function with the hook called on its arguments first."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        hook(module, args, kwargs)
        return function(*args, **kwargs)

    return call


def operator_key(cls: type, tasks: str) -> OperatorKey:
    """Return what the manifest knows a class by."""
    return cls.__module__.removeprefix(f"{tasks}."), cls.__name__


def _signature(module: nn.Module, key: OperatorKey) -> inspect.Signature:
    """The parameters by which the operator's inputs are named."""
    owns_forward = type(module).__name__ == key[1] and type(module).forward is not Op.forward
    function: Any = module.forward if owns_forward else module.forward_native
    return inspect.signature(function)


def _kept(name: str, value: object) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    stored = not value.is_floating_point() or name in ROUTING
    copy = value.detach().to("cpu", copy=True).contiguous() if stored else None
    return Kept(str(value.dtype).removeprefix("torch."), tuple(value.shape), copy)


def _flat(context: ForwardContext, module: nn.Module) -> dict[str, Any]:
    """The context of a call as inputs named `context.X`, with the caches of the module's own layer."""
    batch, prefill = context.metadata, context.metadata.prefill
    found: dict[str, Any] = {"slot_mapping": batch.slot_mapping}
    if batch.num_decodes:
        found |= {"block_table": batch.block_table, "seqused_k": batch.seqused_k, "num_decodes": batch.num_decodes,
                  "max_seqlen_k": batch.max_seqlen_k}  # fmt: skip
    if prefill is not None:
        found |= {"cu_seqlens_q": prefill.cu_seqlens_q, "cu_seqlens_k": prefill.cu_seqlens_k,
                  "max_seqlen_q": prefill.max_seqlen_q, "prefill_max_seqlen_k": prefill.max_seqlen_k}  # fmt: skip
        if prefill.key_slots is not None:
            found["key_slots"] = prefill.key_slots
    layer = next(part.layer_name for part in module.modules() if hasattr(part, "kv_cache_shapes"))
    caches = context.kv_cache(str(layer))
    names: Collection[str] = next(group for group in CACHES if len(group) == len(caches))
    found |= dict(zip(names, caches, strict=True))
    return {PREFIX + name: value for name, value in found.items()}
