"""`--fk-list` and `--fk-map`: what there is to grade, without collecting and without torch."""

import textwrap

import pytest

from fastkernels.errors import FastKernelsError, system_error
from fastkernels.manifest import load_manifest, model_map
from fastkernels.registry import Candidates
from pytest_fastkernels.options import Settings
from pytest_fastkernels.plan import selection_of
from pytest_fastkernels.table import WIDTH


def listing(settings: Settings) -> list[str]:
    """Return the lines of --fk-list, of --fk-map, or of both."""
    try:
        return (_operators(settings) if settings.list else []) + (_models(settings) if settings.map else [])
    except FastKernelsError as error:
        raise pytest.UsageError(str(error)) from error
    except OSError as error:
        raise pytest.UsageError(system_error(error)) from error


def _operators(settings: Settings) -> list[str]:
    manifest = load_manifest(settings.manifest)
    candidates = Candidates.load(settings.candidates)
    counts: dict[str, int] = {}
    for scenario in manifest.scenarios(selection_of(settings)):
        counts[scenario.op] = counts.get(scenario.op, 0) + 1
    rows: list[tuple[str, ...]] = [("operator", "level", "class", "scenarios", "candidate")]
    for name, entry in manifest.operators.items():
        wanted = not settings.selects or name in counts
        if wanted or (settings.level and entry.level in settings.level and settings.target == ()):
            candidate = "yes" if f"L{entry.level}.{entry.module}" in candidates.files else "no"
            rows.append((name, str(entry.level), entry.class_name, str(counts.get(name, 0)), candidate))
    return _columns(rows)


def _models(settings: Settings) -> list[str]:
    manifest = load_manifest(settings.manifest)
    chosen = {(s.model, s.op) for s in manifest.scenarios(selection_of(settings))}
    rows = [(model, ", ".join(op for op in ops if (model, op) in chosen)) for model, ops in model_map(manifest).items()]
    room = WIDTH - max(len(model) for model, _ in rows) - 2
    lines = [(model if first else "", part) for model, ops in rows
             for first, part in zip([True, *[False] * len(ops)], textwrap.wrap(ops, room), strict=False)]
    return _columns([("model", "operators"), *lines])


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
