"""Captures golden data: runs random requests through a model and writes what its operators were called with."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Many
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastkernels.engine.golden_entries import Entry, given, matching, structured_entries
from fastkernels.engine.kv_cache import PAGE_SIZE
from fastkernels.engine.load import BASELINE, load_model
from fastkernels.engine.recorder import Call, Kept, Recorder
from fastkernels.engine.requests import Pass, Request, draw_requests, kept_passes, plan_passes
from fastkernels.engine.runner import ModelRunner
from fastkernels.engine.sequence import Chunk, Sequence
from fastkernels.errors import ModelError, shown
from fastkernels.manifest.config import ModelConfig
from fastkernels.manifest.emit import manifest_lines
from fastkernels.manifest.generate import build_manifest
from fastkernels.manifest.golden import INDEX, SCHEMA_VERSION, digest
from fastkernels.manifest.manifest import DECODE_LIMIT

MANIFEST = "golden.yaml"
LAYERS_KEPT = 4
"""Calls of different values that are kept of one use in one pass: of as many layers, where each layer has its own."""
RECORD_BYTES = 8 * 2**20
"""Most bytes of one record."""
SPARE_PAGES = 8
"""Pages of the KV cache that no request uses."""

HEADER = """\
# Scenarios that are graded on golden data: {model}, TP {tp}, {count} requests, seed {seed}, weights: {load_format}.
# Generated; changes by hand are lost. Written by:  fastkernels capture-golden
# Format: docs/golden.md
"""


@dataclass(frozen=True)
class Capture:
    """What to run."""

    directory: Path
    """Directory of the model."""
    config: ModelConfig
    """Its config, as the manifest reads it."""
    num_requests: int
    """Random requests."""
    seed: int
    """Seed of requests and dummy weights."""
    load_format: str
    """`auto` or `dummy`."""
    tp: int = 1
    """Tensor parallel degree."""
    operators: tuple[str, ...] = ()
    """Operators to record; all with structured inputs where empty."""


@dataclass
class Record:
    """One call to write, or several with equal values."""

    entry: Entry
    call: Call
    inputs: Mapping[str, Any]
    layers: list[str]
    name: str = ""


@dataclass
class Recorded:
    """What was recorded."""

    requests: list[Request]
    passes: dict[str, Pass]
    records: list[Record]
    left_out: dict[str, int] = field(default_factory=dict)
    """Calls that are not kept, by reason."""


def record(capture: Capture, device: torch.device, progress: Callable[[str], None]) -> Recorded:
    """Load the model within the tensor parallel group that is set, run the requests, and return this rank's records."""
    entries = {
        key: chosen
        for key, found in structured_entries(build_manifest([capture.config], [capture.tp])).items()
        if (chosen := [e for e in found if not capture.operators or e.operator in capture.operators])
    }
    progress("loading the model")
    model = load_model(capture.directory, device, load_format=capture.load_format, seed=capture.seed)
    requests = draw_requests(
        capture.num_requests, capture.seed, capture.config.vocab_size, capture.config.max_position_embeddings
    )
    passes = list(plan_passes(requests))
    names = kept_passes(passes)
    reads_context = {key: bool(found[0].row["context"]) for key, found in entries.items()}
    with Recorder(model, reads_context, BASELINE) as recorder:
        _run(model, requests, passes, names, recorder, progress)
    recorded = Recorded(requests, {name: passes[place] for place, name in names.items()}, [])
    for call in recorder.calls:
        entry = matching(call, entries[call.key], model)
        if entry is None:
            _count(recorded, f"{call.key[0]}: no entry of the manifest fits the call")
        else:
            _keep(recorded, Record(entry, call, given(call, entry), [call.layer]))
    _name(recorded.records)
    return recorded


def _run(
    model: nn.Module, requests: Many[Request], passes: Many[Pass], names: Mapping[int, str], recorder: Recorder,
    progress: Callable[[str], None],
) -> None:  # fmt: skip
    """Compute the passes, with the greedy next tokens."""
    pages = sum(-(-request.total // PAGE_SIZE) for request in requests) + SPARE_PAGES
    runner = ModelRunner(model, pages)
    sequences = [Sequence(list(request.prompt)) for request in requests]
    for place, one in enumerate(passes):
        progress(f"pass {place + 1} of {len(passes)} ({one.phase}, {sum(s.count for s in one.spans)} tokens)")
        recorder.passed = names.get(place, "")
        logits = runner.run([Chunk(sequences[span.request], span.count) for span in one.spans])
        for span, rows in zip(one.spans, logits, strict=True):
            if not sequences[span.request].pending:
                sequences[span.request].tokens.append(int(rows[-1].argmax()))


def _keep(recorded: Recorded, new: Record) -> None:
    """Add a record, or its layer to one of equal values; count it where there are enough or it is too large."""
    alike = [r for r in recorded.records if r.entry is new.entry and r.call.passed == new.call.passed]
    for one in alike:
        if _equal(one.inputs, new.inputs):
            one.layers.append(new.call.layer)
            return
    if not any(_is_stored(value) for value in new.inputs.values()):
        _count(recorded, f"{new.entry.operator}: nothing to store")
    elif _bytes(new.inputs) > RECORD_BYTES:
        _count(recorded, f"{new.entry.operator}: over {RECORD_BYTES >> 20} MiB")
    elif len(alike) == LAYERS_KEPT:
        _count(recorded, f"{new.entry.operator}: beyond {LAYERS_KEPT} layers of one pass")
    else:
        recorded.records.append(new)


def _name(records: list[Record]) -> None:
    """Sort by operator and pass, and number within both."""
    records.sort(key=lambda r: (r.entry.operator, r.call.passed))
    for (operator, passed), group in groupby(records, lambda r: (r.entry.operator, r.call.passed)):
        for number, one in enumerate(group):
            one.name = f"{operator}-{passed}-{number}"


def write(capture: Capture, recorded: Recorded, output: Path) -> None:
    """Write data files, index and manifest into a directory that is new or empty; ModelError where it cannot."""
    from safetensors.torch import save

    if not recorded.records:
        raise ModelError("nothing was captured: no operator of this run has inputs to store")
    try:
        output.mkdir(parents=True, exist_ok=True)
        files = {}
        for passed in recorded.passes:
            tensors = {f"{r.name}/{name}": value.values for r in recorded.records if r.call.passed == passed
                       for name, value in r.inputs.items() if _is_stored(value)}  # fmt: skip
            if tensors:
                data = save(tensors)
                (output / f"{passed}.safetensors").write_bytes(data)
                files[f"{passed}.safetensors"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        index = json.dumps(_index(capture, recorded, files), indent=1)
        (output / INDEX).write_text(index + "\n", encoding="utf-8")
        (output / MANIFEST).write_text(_manifest(capture, recorded, digest(output / INDEX)), encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{shown(output)}: cannot be written: {error}") from error


def _index(capture: Capture, recorded: Recorded, files: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "model": capture.config.model_id,
        "config_sha256": digest(capture.directory / "config.json"),
        "load_format": capture.load_format,
        "seed": capture.seed,
        "tp": capture.tp,
        "page_size": PAGE_SIZE,
        "requests": [{"prompt_tokens": len(r.prompt), "output_tokens": r.output_tokens} for r in recorded.requests],
        "passes": {name: {"phase": one.phase, "spans": [asdict(span) for span in one.spans]}
                   for name, one in recorded.passes.items()},
        "files": files,
        "records": [
            {
                "name": one.name, "operator": one.entry.operator, "layers": one.layers, "passed": one.call.passed,
                "phase": recorded.passes[one.call.passed].phase, "tokens": one.entry.tokens(one.call),
                "file": f"{one.call.passed}.safetensors",
                "inputs": {name: _described(value) for name, value in one.inputs.items()},
            }
            for one in recorded.records
        ],
    }  # fmt: skip


def _described(value: Any) -> dict[str, Any]:
    if not isinstance(value, Kept):
        return {"value": value}
    return {"dtype": value.dtype, "shape": list(value.shape), "stored": value.values is not None}


def _manifest(capture: Capture, recorded: Recorded, index_sha256: str) -> str:
    """The model's ordinary manifest with one entry for each record in the place of all of its entries."""
    manifest = build_manifest([capture.config], [capture.tp])
    manifest["golden"] = {"index": INDEX, "sha256": index_sha256}
    rows = {name: [_row(one, recorded.passes[one.call.passed].phase) for one in recorded.records
                   if one.entry.operator == name] for name in manifest["operators"]}  # fmt: skip
    manifest["operators"] = {name: {**operator, "scenarios": rows[name]}
                             for name, operator in manifest["operators"].items() if rows[name]}
    used = {str(value) for row in _all(rows) for value in (row["context"], *row["init"].values())}
    for section in ("configs", "contexts"):
        manifest[section] = {name: value for name, value in manifest[section].items() if name in used}
    header = HEADER.format(model=capture.config.model_id, tp=capture.tp, count=capture.num_requests,
                           seed=capture.seed, load_format=capture.load_format)
    return header + "\n".join(manifest_lines(manifest)) + "\n"


def _row(one: Record, phase: str) -> dict[str, Any]:
    """The ordinary entry at the record's token count. A mixed pass is decode where the entry's counts are."""
    if phase == "mixed":
        phase = "decode" if max(one.entry.row["tokens"]) <= DECODE_LIMIT else "prefill"
    number = one.name.rsplit("-", 1)[1]
    variant = "_".join(filter(None, (one.entry.row["variant"], one.call.passed, number)))
    return {**one.entry.row, "tokens": [one.entry.tokens(one.call)], "phase": phase, "variant": variant,
            "golden": one.name}  # fmt: skip


def _all(rows: Mapping[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    return (row for found in rows.values() for row in found)


def _is_stored(value: Any) -> bool:
    return isinstance(value, Kept) and value.values is not None


def _bytes(inputs: Mapping[str, Any]) -> int:
    kept = [value.values for value in inputs.values() if isinstance(value, Kept) and value.values is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two calls have the same plain arguments, shapes and stored values."""
    if one.keys() != other.keys():
        return False
    return all(_same(value, other[name]) for name, value in one.items())


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Kept) or not isinstance(other, Kept):
        return bool(one == other)
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return one.values is None or other.values is None or torch.equal(one.values, other.values)


def _count(recorded: Recorded, reason: str) -> None:
    recorded.left_out[reason] = recorded.left_out.get(reason, 0) + 1
