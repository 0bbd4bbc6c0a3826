"""Finds the manifest's ordinary entry that a recorded call belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from fastkernels.engine.recorder import PLAIN, ROUTING, Call, Kept, OperatorKey
from fastkernels.manifest.context import PREFIX
from fastkernels.manifest.model_checks import LEVEL as MODEL_LEVEL
from fastkernels.manifest.scenario import resolve_dim

UNCLEAR = ("fused_moe",)
"""Operators whose recorded calls are not graded: a block that is given real router logits, of which two may be equal,
has several right answers. Their choice of experts is recorded where it is made, at level 1."""


@dataclass(frozen=True)
class Entry:
    """One entry of the model's ordinary manifest."""

    operator: str
    """Operator."""
    row: Mapping[str, Any]
    """The entry as plain data."""
    specs: Mapping[str, Mapping[str, Any]]
    """Its inputs, `context.X` first."""

    @property
    def arguments(self) -> list[str]:
        """Inputs that are arguments of forward."""
        return [name for name in self.specs if not name.startswith(PREFIX)]

    @property
    def is_structured(self) -> bool:
        """Whether its values depend on the batch or on routing, not on shapes alone."""
        return any(name in ROUTING or name.startswith(PREFIX) or "int" in spec.get("dtype", "")
                   for name, spec in self.specs.items())

    def tokens(self, call: Call) -> int:
        """Token count of a call in the sense of this entry: rows of the first argument that grows with it."""
        for name in self.arguments:
            kept, shape = call.inputs[name], self.specs[name].get("shape") or [1]
            factor = resolve_dim(shape[0], 1) - resolve_dim(shape[0], 0)
            if factor and isinstance(kept, Kept):
                return kept.shape[0] // factor
        raise ValueError(f"{self.operator}: no argument grows with the tokens")


def structured_entries(manifest: Mapping[str, Any]) -> dict[OperatorKey, list[Entry]]:
    """Return the entries with structured inputs of a manifest in plain data, by operator.

    Less whole models: their entries are of models with fewer layers than the one that runs, and what a run gives its
    model is recorded where the model's layers take it.
    """
    found: dict[OperatorKey, list[Entry]] = {}
    for name, operator in manifest["operators"].items():
        if operator["level"] == MODEL_LEVEL:
            continue
        for row in operator["scenarios"]:
            context = manifest["contexts"][row["context"]] if row["context"] else {}
            specs = {**{PREFIX + key: spec for key, spec in context.items()}, **row["inputs"]}
            entry = Entry(name, row, specs)
            if entry.is_structured and name not in UNCLEAR:
                found.setdefault((f"L{operator['level']}.{operator['module']}", operator["class"]), []).append(entry)
    return found


def matching(call: Call, entries: list[Entry], model: nn.Module) -> Entry | None:
    """Return the entry that fits best: init first, then inputs, their shapes, and token counts near the call's."""
    scored = [(score, entry) for entry in entries if (score := _score(call, entry, model)) is not None]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def given(call: Call, entry: Entry) -> dict[str, Any]:
    """The call's inputs without arguments that are None and that the entry does not have."""
    return {name: value for name, value in call.inputs.items() if value is not None or name in entry.specs}


def _score(call: Call, entry: Entry, model: nn.Module) -> tuple[int, ...] | None:
    """Greater is better; None for an entry that this call is none of."""
    inputs = given(call, entry)
    if {name for name in inputs if not name.startswith(PREFIX)} != set(entry.arguments):
        return None
    if not all(_fits(value, entry.specs.get(name)) for name, value in inputs.items()):
        return None
    init = _equal_init(call, entry.row["init"])
    if init is None or not _same_kind(call.module, entry.row["init"], model):
        return None
    tokens = entry.tokens(call)
    agreeing = sum(_agrees(value, entry.specs.get(name), tokens) for name, value in inputs.items())
    distance = min(abs(count - tokens) for count in entry.row["tokens"])
    return init, -len(inputs.keys() ^ entry.specs.keys()), agreeing, -distance


def _fits(value: Any, spec: Mapping[str, Any] | None) -> bool:
    """Whether an entry's input can take the value: tensors of its dtype, plain values for literals."""
    if spec is None:
        return value.values is not None if isinstance(value, Kept) else isinstance(value, PLAIN)
    if isinstance(value, Kept):
        return value.dtype == spec.get("dtype")
    return isinstance(value, PLAIN) and "dtype" not in spec


def _agrees(value: Any, spec: Mapping[str, Any] | None, tokens: int) -> bool:
    if spec is None:
        return False
    if isinstance(value, Kept):
        return value.shape == tuple(resolve_dim(dim, tokens) for dim in spec["shape"])
    expected = spec.get("args", {}).get("value")
    return bool(value == (tokens if expected == "tokens" else expected))


def _equal_init(call: Call, init: Mapping[str, Any]) -> int | None:
    """Arguments that the module keeps under their own name; at level 1 None where one has another value.

    Above it the entry's sizes are the whole model's, the module's may be its rank's.
    """
    equal, module = 0, call.module
    for name, value in init.items():
        kept = getattr(module, name, ...)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name == "prefix" or not (isinstance(kept, bool | int | float) or (kept is None and is_number)):
            continue
        if kept != value and call.key[0].startswith("L1."):
            return None
        equal += 1 if kept == value else -1
    return equal


def _same_kind(module: nn.Module, init: Mapping[str, Any], model: nn.Module) -> bool:
    """Where an entry names its layer by `prefix`: whether that layer is built as this one is."""
    prefix = init.get("prefix")
    if not prefix:
        return True
    try:
        other = model.get_submodule(prefix)
    except AttributeError:
        return False
    return _build(other) == _build(module)


def _build(module: nn.Module) -> list[tuple[str, Any]]:
    return [(type(part).__name__, getattr(part, "sliding_window", None)) for part in module.modules()]
