"""A loaded manifest: operators, models, and the scenarios that a selection leaves."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastkernels.errors import SelectionError, one_of
from fastkernels.manifest.pause import collector_paused
from fastkernels.manifest.scenario import InputSpec, Scenario, Selection

DECODE_LIMIT = 128
"""Up to this many tokens an entry without a phase is decode, above it prefill."""

EVERYTHING = Selection()
"""No restriction."""


@dataclass(frozen=True)
class OperatorEntry:
    """One operator of the manifest."""

    name: str
    """The manifest key."""
    level: int
    """1 kernel, 2 block, 3 decoder layer, 4 model."""
    module: str
    """File stem below `tasks/baseline/L{level}/`."""
    class_name: str
    """Class in that file."""
    category: str
    """Category, such as `llm`."""


@dataclass(frozen=True)
class ModelEntry:
    """One model of the manifest."""

    name: str
    """Short name used in addresses."""
    model_id: str
    """Hugging Face id."""
    tps: tuple[int, ...]
    """TP degrees that its dimensions allow."""

    def matches(self, prefix: str) -> bool:
        """Return whether the short name, the hub id or its part after the slash starts with `prefix`, in any case."""
        return bool(prefix) and any(name.startswith(prefix.lower()) for name in self.names())

    def names(self) -> tuple[str, str, str]:
        """Short name, hub id and the part of it after the slash, in lower case."""
        full = self.model_id.lower()
        return self.name.lower(), full, full.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Entry:
    """One group of scenarios with equal shapes."""

    op: OperatorEntry
    """Its operator."""
    uses: tuple[tuple[ModelEntry, int], ...]
    """Models and TP degrees with these shapes."""
    tokens: tuple[int, ...]
    """Token counts."""
    phase: str
    """`decode`, `prefill`, or empty: by token count."""
    variant: str
    """Use within the model; may be empty."""
    init: Mapping[str, Any]
    """Keyword arguments of the class."""
    inputs: tuple[InputSpec, ...]
    """What the forward context holds (`context.X`), then the arguments of `forward`, in order."""
    parameters: int = 0
    """Weights of the module at TP 1; 0 where `init` tells."""
    golden: Mapping[str, Any] | None = None
    """Recorded call, as `Scenario.golden`."""

    def scenario(self, model: ModelEntry, tp: int, tokens: int) -> Scenario:
        """Return the scenario of one model, TP degree and token count."""
        return Scenario(
            op=self.op.name,
            module=self.op.module,
            class_name=self.op.class_name,
            level=self.op.level,
            category=self.op.category,
            model=model.name,
            model_id=model.model_id,
            tp=tp,
            tokens=tokens,
            phase=self.phase or ("decode" if tokens <= DECODE_LIMIT else "prefill"),
            variant=self.variant,
            init=self.init,
            inputs=self.inputs,
            parameters=self.parameters,
            golden=self.golden,
        )


_KINDS = {
    "targets": "operator",
    "levels": "level",
    "models": "model",
    "tps": "TP",
    "seqlens": "token count",
    "categories": "category",
}
"""What each field of Selection names, for messages."""


@dataclass(frozen=True)
class Manifest:
    """One manifest file, checked."""

    path: Path
    """The file."""
    operators: Mapping[str, OperatorEntry]
    """Operators by name."""
    models: Mapping[str, ModelEntry]
    """Models by short name."""
    entries: tuple[Entry, ...]
    """Every group of scenarios."""

    def scenarios(self, selection: Selection = EVERYTHING) -> list[Scenario]:
        """Return the selected scenarios by operator, model, TP degree, variant and token count.

        SelectionError where a value matches nothing, or where the values together leave nothing.
        """
        self._refuse_unknown(selection)
        with collector_paused():
            found = list(self._select(selection))
        if not found:
            raise SelectionError(self._nothing_left(selection))
        return found

    def _select(self, selection: Selection) -> Iterator[Scenario]:
        models = {name for name, model in self.models.items() if _model_selected(model, selection.models)}
        rank = {name: number for number, name in enumerate(self.models)}
        for op in self.operators.values():
            if not _operator_selected(op, selection):
                continue
            entries = [entry for entry in self.entries if entry.op is op]
            variants = list(dict.fromkeys(entry.variant for entry in entries))
            picked = [
                (rank[model.name], tp, variants.index(entry.variant), tokens, entry, model)
                for entry in entries
                for model, tp in entry.uses
                if model.name in models and tp in (selection.tps or (tp,))
                for tokens in entry.tokens
                if tokens in (selection.seqlens or (tokens,))
            ]
            picked.sort(key=lambda row: row[:4])
            for _, tp, _, tokens, entry, model in picked:
                yield entry.scenario(model, tp, tokens)

    def _refuse_unknown(self, selection: Selection) -> None:
        known: dict[str, list[Any]] = {
            "targets": list(self.operators),
            "levels": sorted({op.level for op in self.operators.values()}),
            "tps": sorted({tp for entry in self.entries for _, tp in entry.uses}),
            "seqlens": sorted({tokens for entry in self.entries for tokens in entry.tokens}),
            "categories": sorted({op.category for op in self.operators.values()}),
        }
        for name, allowed in known.items():
            for value in getattr(selection, name):
                if value not in allowed:
                    raise SelectionError(f"{shown(self.path)}: {_KINDS[name]} {one_of(value, allowed)}")
        for prefix in selection.models:
            if not any(model.matches(prefix) for model in self.models.values()):
                raise SelectionError(f"{shown(self.path)}: {self._no_model(prefix)}")

    def _no_model(self, prefix: str) -> str:
        listed = ", ".join(self.models)
        # a prefix is nearest to a name cut to its length
        starts = {name[: len(prefix) + 1]: m.name for m in reversed(list(self.models.values())) for name in m.names()}
        close = difflib.get_close_matches(prefix.lower(), starts, n=1, cutoff=0.5)
        nearest = f". Did you mean {starts[close[0]]!r}?" if close else ""
        return f"model {prefix!r} starts no name or Hugging Face id of {listed}{nearest}"

    def _nothing_left(self, selection: Selection) -> str:
        given = [name for name in _KINDS if getattr(selection, name)]
        words = {name: f"{_KINDS[name]} {', '.join(map(str, getattr(selection, name)))}" for name in given}
        counts = {name: sum(1 for _ in self._select(replace(selection, **{name: ()}))) for name in given}
        hints = [f"{count} without {words[name]}" for name, count in counts.items() if count]
        together = "; ".join(words.values())
        return f"{shown(self.path)}: no scenario has all of: {together}" + (f" ({'; '.join(hints)})" if hints else "")


def model_map(manifest: Manifest) -> dict[str, list[str]]:
    """Return the operators of each model, by short model name."""
    used = {(model.name, entry.op.name) for entry in manifest.entries for model, _ in entry.uses}
    return {name: [op for op in manifest.operators if (name, op) in used] for name in manifest.models}


def shown(path: Path) -> str:
    """Return a path as messages show it: relative to the working directory where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _model_selected(model: ModelEntry, prefixes: tuple[str, ...]) -> bool:
    return not prefixes or any(model.matches(prefix) for prefix in prefixes)


def _operator_selected(op: OperatorEntry, selection: Selection) -> bool:
    pairs = ((op.name, selection.targets), (op.level, selection.levels), (op.category, selection.categories))
    return all(not allowed or value in allowed for value, allowed in pairs)
