"""Reads a manifest file: YAML, keys and types, meaning; one ManifestError lists what is wrong."""

import difflib
import importlib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from fastkernels.errors import ManifestError
from fastkernels.manifest import checks, golden, schema
from fastkernels.manifest.aliases import AliasError, check_aliases
from fastkernels.manifest.manifest import Entry, Manifest, ModelEntry, OperatorEntry, shown
from fastkernels.manifest.pause import collector_paused
from fastkernels.manifest.quick_yaml import NotPlainError, load_plain
from fastkernels.manifest.scenario import InputSpec

SHOWN_PROBLEMS = 10
"""Problems that one error lists; the rest are counted."""

MOST_MERGED = 1_000_000
"""Keys that the merges of one manifest may copy."""

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """A safe loader that refuses a key given twice, which YAML forbids and PyYAML lets pass."""

    merged = 0
    """Keys that merges (`<<`) have copied so far."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Copy what `<<` names into the mapping; ConstructorError where merges of merges copy without end."""
        before = len(node.value)
        super().flatten_mapping(node)
        self.merged += max(0, len(node.value) - before)
        if self.merged > MOST_MERGED:
            raise yaml.constructor.ConstructorError(
                None, None, f"merges (<<) copy over {MOST_MERGED:,} keys", node.start_mark
            )

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build the mapping; ConstructorError names the line of a second key."""
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            self._refuse_duplicate(node)
        return mapping

    def _refuse_duplicate(self, node: yaml.MappingNode) -> None:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice in one mapping", key_node.start_mark
                )
            seen.add(key)


def default_path() -> Path:
    """Return the manifest that is shipped, `manifests/llm.yaml`."""
    return manifests_directory() / "llm.yaml"


def manifests_directory() -> Path:
    """Return the directory of the shipped manifests and model configs."""
    package = importlib.import_module("fastkernels.manifests")
    return Path(str(package.__file__)).parent


def load_manifest(path: str | Path | None = None) -> Manifest:
    """Read and check a manifest, by default the shipped one; ManifestError where it cannot be used."""
    file = default_path() if path is None else Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ManifestError(f"{shown(file)}: no such manifest{_nearest(file)}") from None
    except OSError as error:
        raise ManifestError(f"{shown(file)}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{shown(file)}: not UTF-8: byte {error.start}: {error.reason}") from error
    with collector_paused():
        return parse_manifest(text, file)


def _nearest(file: Path) -> str:
    """Name the manifest beside it whose name is nearest; the suffixes, alike everywhere, do not count."""
    names = {path.stem: path.name for path in file.parent.glob("*.y*ml")}
    close = difflib.get_close_matches(file.stem, names, n=1, cutoff=0.5)
    return f". Did you mean {names[close[0]]!r}?" if close else ""


def parse_manifest(text: str, file: Path) -> Manifest:
    """Check a manifest's text; `file` is what errors name."""
    parsed = schema.parse(_yaml(text, file))
    if isinstance(parsed, list):
        raise _error(file, parsed)
    problems = list(checks.problems(parsed))
    if problems:
        raise _error(file, problems)
    records = golden.load_index(file, parsed)
    problems = list(golden.problems(parsed, records))
    if problems:
        raise _error(file, problems)
    return _build(file, parsed, records)


def _yaml(text: str, file: Path) -> object:
    try:
        data: object = _quickly(text)
        check_aliases(data)
    except AliasError as error:
        raise ManifestError(f"{shown(file)}: {error}") from error
    except RecursionError:
        raise ManifestError(f"{shown(file)}: nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ManifestError(f"{shown(file)}: {where}{error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ManifestError(f"{shown(file)}: not YAML: {error}") from error
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise ManifestError(
            f"{shown(file)}: found {found}; a manifest is a mapping with the keys "
            "schema_version, category, models, operators"
        )
    return data


def _quickly(text: str) -> object:
    try:
        return load_plain(text)
    except NotPlainError:
        return yaml.load(text, _Loader)


def _error(file: Path, problems: Sequence[schema.Problem]) -> ManifestError:
    lines = [f"{shown(file)}: {path}: {problem}" for path, problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"{shown(file)}: {len(problems) - SHOWN_PROBLEMS} more problems")
    return ManifestError("\n".join(lines))


def _build(path: Path, file: schema.ManifestFile, records: golden.Records) -> Manifest:
    models = {name: ModelEntry(name, row.id, tuple(row.tp)) for name, row in file.models.items()}
    operators = {
        name: OperatorEntry(name, row.level, row.module or name, row.class_name, file.category)
        for name, row in file.operators.items()
    }
    entries = tuple(
        _entry(operators[name], entry, models, records)
        for name, row in file.operators.items()
        for entry in row.scenarios
    )
    return Manifest(path, operators, models, entries)


def _entry(
    op: OperatorEntry, row: schema.EntryRow, models: dict[str, ModelEntry], records: golden.Records
) -> Entry:
    pairs = [checks.split_use(use) for use in row.uses]
    inputs = tuple(
        InputSpec(name=name, values=spec.values, shape=tuple(spec.shape), dtype=spec.dtype, args=spec.args,
                  strides=tuple(spec.strides))
        for name, spec in checks.flattened(row).items()
    )
    uses = tuple((models[pair[0]], pair[1]) for pair in pairs if pair)
    return Entry(op, uses, tuple(row.tokens), row.phase, row.variant, row.init, inputs, row.parameters,
                 golden.attached(records[row.golden]) if row.golden else None)
