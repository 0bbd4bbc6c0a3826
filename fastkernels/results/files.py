"""Reads and writes the results file (`--fk-output-json`), checked against its schema."""

import ast
import dataclasses
import inspect
import json
import math
import os
import stat
import tempfile
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastkernels.errors import ResultsError
from fastkernels.results import gates, kernel, noise
from fastkernels.results.kernel import SCHEMA_VERSION, KernelBenchResult, ScenarioResult
from fastkernels.results.noise import believable

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_NON_FINITE = ("NaN", "Infinity", "-Infinity")
"""How JSON, which has no such numbers, holds them: an error ratio is infinite where a NaN stands."""


def write_result(path: str | Path, result: KernelBenchResult) -> None:
    """Write the results file, whole or not at all; OSError where it cannot be written."""
    write_whole(Path(path), json.dumps(to_json(result), indent=1, allow_nan=False).encode() + b"\n")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all: a temporary file beside it is renamed once the disk has it.

    Its folder is made; a link is followed, and a device or a pipe written to. OSError where that is not possible.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            path.write_bytes(content)
            return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's are for the owner alone
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_result(path: str | Path) -> KernelBenchResult:
    """Read a results file; ResultsError for a file that is missing, no JSON, of another version or of another form.

    Times that contradict themselves are read as noise (`results.noise`).
    """
    from pydantic import ValidationError

    path = Path(path)
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ResultsError(f"{path}: no JSON: {error}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise ResultsError(f"{path}: schema_version: {version!r} is not {SCHEMA_VERSION}, which this version reads")
    try:
        found = _file_adapter().validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ResultsError(f"{path}: {where}: {first['msg']}, found {str(first['input'])[:80]!r}{more}") from error
    return dataclasses.replace(found, results=tuple(map(believable, found.results)))


def to_json(result: KernelBenchResult | ScenarioResult) -> dict[str, Any]:
    """Plain data that strict JSON can hold: NaN and infinities become the words of `_NON_FINITE`."""
    data: dict[str, Any] = json_safe(dataclasses.asdict(result))
    return data


def json_schema() -> dict[str, Any]:
    """The JSON schema of the results file, with the docstring of each field as its description."""
    schema = _with_non_finite(_file_adapter().json_schema(mode="serialization"))
    for name, definition in [("KernelBenchResult", schema), *schema["$defs"].items()]:
        home = next(module for module in (kernel, gates, noise) if hasattr(module, name))
        docs = field_docs(getattr(home, name))
        for key, doc in docs.items():
            if key in definition.get("properties", {}):
                definition["properties"][key]["description"] = doc
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def field_docs(form: type[Any]) -> dict[str, str]:
    """The docstring below each field or member of a class."""
    body = cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(form))).body[0]).body
    docs: dict[str, str] = {}
    for line, below in pairwise(body):
        targets = [line.target] if isinstance(line, ast.AnnAssign) else getattr(line, "targets", [])
        target = targets[0] if targets else None
        if isinstance(target, ast.Name) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            docs[target.id] = str(below.value.value)
    return docs


@cache
def result_adapter() -> "TypeAdapter[ScenarioResult]":
    """Reads one scenario's result."""
    from pydantic import TypeAdapter

    return TypeAdapter(ScenarioResult)


@cache
def _file_adapter() -> "TypeAdapter[KernelBenchResult]":
    from pydantic import TypeAdapter

    return TypeAdapter(KernelBenchResult)


def json_safe(data: Any) -> Any:
    """Data that strict JSON can hold: NaN and infinities as words (`_NON_FINITE`), keys as text, tuples as lists."""
    if isinstance(data, Mapping):
        return {str(key): json_safe(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [json_safe(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return "NaN" if math.isnan(data) else "Infinity" if data > 0 else "-Infinity"
    return data


def _with_non_finite(schema: Any) -> Any:
    """Let every number also be one of the words that stand for what JSON lacks, and drop titles."""
    if isinstance(schema, list):
        return [_with_non_finite(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _with_non_finite(value) for key, value in schema.items()
               if not (key == "title" and isinstance(value, str))}
    if changed.get("type") != "number":
        return changed
    rest = {key: value for key, value in changed.items() if key != "type"}
    return {"anyOf": [{"type": "number"}, {"enum": list(_NON_FINITE)}], **rest}
