"""The index of golden data: what a run of a whole model recorded, in which files, and whether those are unchanged."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr, ValidationError

from fastkernels.errors import ManifestError, did_you_mean, shown
from fastkernels.manifest.checks import flattened
from fastkernels.manifest.schema import EntryRow, ManifestFile, Problem, key_path

SCHEMA_VERSION = 1
"""Raised when a key of the index changes its meaning or goes."""
INDEX = "golden.json"
"""Name of an index."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(_Row):
    """One input of a recorded call."""

    dtype: StrictStr = ""
    """torch dtype name; empty for a plain argument."""
    shape: list[StrictInt] = []
    """Elements in each dimension."""
    stored: bool = False
    """Whether the file holds its values, as `RECORD/INPUT`; the others are drawn in this shape."""
    value: int | float | str | bool | None = None
    """The plain argument."""


class Record(_Row):
    """One call of one operator."""

    name: StrictStr
    """Such as `rotary_emb-decode0-0`: operator, pass, number."""
    operator: StrictStr
    """Operator, by its manifest key."""
    layers: list[StrictStr]
    """Modules of the model whose calls had these very values."""
    passed: StrictStr
    """The forward pass, a key of `passes`."""
    phase: StrictStr
    """`prefill`, `decode`, or `mixed` of both."""
    tokens: StrictInt
    """Token count of the call, in the sense of the operator's manifest entries."""
    file: StrictStr
    """safetensors file, relative to the index."""
    inputs: dict[StrictStr, Input]
    """Every input, `context.X` for what the forward context held."""


class File(_Row):
    """One safetensors file."""

    sha256: StrictStr
    """Hash of its bytes."""
    bytes: StrictInt
    """Its size."""


class Span(_Row):
    """Tokens of one request in a pass."""

    request: StrictInt
    """Which request."""
    start: StrictInt
    """Tokens of it that were computed before."""
    count: StrictInt
    """Tokens of it that the pass computes."""


class Pass(_Row):
    """One forward pass."""

    phase: StrictStr
    """`prefill`, `decode`, or `mixed`."""
    spans: list[Span]
    """Its tokens, by request."""


class Request(_Row):
    """One request."""

    prompt_tokens: StrictInt
    """Tokens of the prompt."""
    output_tokens: StrictInt
    """Tokens generated after it."""


class Index(_Row):
    """The index."""

    schema_version: StrictInt
    """Version of this form."""
    model: StrictStr
    """The model, as it was named."""
    config_sha256: StrictStr
    """Hash of its config.json."""
    load_format: StrictStr
    """`auto`: the model's weights; `dummy`: random ones."""
    seed: StrictInt
    """Seed of requests and dummy weights."""
    tp: StrictInt
    """Tensor parallel degree; the data is rank 0's."""
    page_size: StrictInt
    """Tokens in a page of the KV cache."""
    requests: list[Request]
    """What was run."""
    passes: dict[StrictStr, Pass]
    """The forward passes that were recorded."""
    files: dict[StrictStr, File]
    """Data files by name."""
    records: list[Record]
    """What was recorded."""


@dataclass(frozen=True)
class Found:
    """A record and where its values are."""

    record: Record
    """The record."""
    path: Path
    """Its file."""
    sha256: str
    """Hash that the file must have."""


Records = Mapping[str, Found]
"""Records by name."""


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_index(manifest: Path, file: ManifestFile) -> Records:
    """Return the records of a manifest's index, none where it names none; ManifestError where one was changed."""
    if file.golden is None:
        return {}
    path = manifest.parent / file.golden.index
    where = f"{shown(manifest)}: golden.index"
    _check_hash(path, file.golden.sha256, where)
    index = read_index(path)
    for name, data in index.files.items():
        _check_hash(path.parent / name, data.sha256, f"{shown(path)}: files.{name}")
    return {
        record.name: Found(record, path.parent / record.file, index.files[record.file].sha256)
        for record in index.records
    }  # fmt: skip


def read_index(path: Path) -> Index:
    """Return an index, its data files unread; ManifestError where it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{shown(path)}: not an index of golden data: {error}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise ManifestError(f"{shown(path)}: schema_version: {version!r} is not {SCHEMA_VERSION}, the version that is "
                            "read here; capture it anew")
    try:
        index = Index.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ManifestError(f"{shown(path)}: {key_path(first['loc'])}: {first['msg'].lower()}") from error
    for place, record in enumerate(index.records):
        if record.file not in index.files:
            raise ManifestError(f"{shown(path)}: records[{place}].file: {record.file!r} is not in files")
    return index


def problems(file: ManifestFile, records: Records) -> Iterator[Problem]:
    """Yield what is wrong with the records that entries name."""
    for name, operator in file.operators.items():
        for number, entry in enumerate(operator.scenarios):
            if entry.golden:
                path = f"operators.{name}.scenarios[{number}].golden"
                found = records.get(entry.golden)
                if file.golden is None:
                    yield path, f"{entry.golden!r} needs the key golden at the top, with index and sha256"
                elif found is None:
                    nearest = did_you_mean(entry.golden, records)
                    yield path, f"{entry.golden!r} is no record of {file.golden.index}{nearest}"
                else:
                    yield from ((path, problem) for problem in _misfits(name, entry, found.record))


def attached(found: Found) -> dict[str, Any]:
    """Return the plain data of a recorded call that a scenario carries to the grader."""
    record = found.record
    return {
        "file": str(found.path.resolve()),
        "sha256": found.sha256,
        "record": record.name,
        "tokens": record.tokens,
        "inputs": {name: value.model_dump() for name, value in record.inputs.items()},
    }


def _misfits(name: str, entry: EntryRow, record: Record) -> Iterator[str]:
    if record.operator != name:
        yield f"{record.name} is a record of {record.operator}"
        return
    if record.tokens not in entry.tokens:
        yield f"{record.name} has {record.tokens} tokens, which are not among the entry's"
    specs = flattened(entry)
    for key, recorded in record.inputs.items():
        spec = specs.get(key)
        if spec is None and recorded.dtype and not recorded.stored:
            yield f"{record.name} has an input {key} without values, which the entry lacks{did_you_mean(key, specs)}"
        elif spec is not None and spec.dtype and recorded.dtype and spec.dtype != recorded.dtype:
            yield f"{record.name} has {key} in {recorded.dtype}, the entry in {spec.dtype}"


def _check_hash(path: Path, sha256: str, where: str) -> None:
    try:
        found = digest(path)
    except FileNotFoundError:
        raise ManifestError(f"{where}: {shown(path)}: no such file; `fastkernels capture-golden` writes it") from None
    except OSError as error:
        raise ManifestError(f"{where}: {shown(path)}: cannot be read: {error.strerror}") from error
    if found != sha256:
        raise ManifestError(f"{where}: {shown(path)}: changed since it was captured: its SHA-256 is {found[:12]}..., "
                            f"recorded is {sha256[:12]}...; capture it anew")
