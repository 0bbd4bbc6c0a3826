"""Writes a manifest as YAML: block style for the structure, flow style for shapes, arguments and lists."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastkernels.manifest.drafts import Alias

WIDTH = 120
_PLAIN = re.compile(r"^[A-Za-z_][\w./*+-]*$")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
"""Plain words that YAML 1.1 would read as something else."""


def scalar(value: Any) -> str:
    """Return one scalar: numbers as YAML 1.1 reads them back, strings plain where that is safe."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    if isinstance(value, int):
        return str(value)
    text = str(value)
    # `4*tokens` starts with a digit and has an operator, so that no number is meant
    plain = _PLAIN.match(text) or re.match(r"^\d+\*tokens(\+\d+)?$", text)
    if plain and text.lower() not in _WORDS:
        return text
    return quoted(text)


def quoted(text: str) -> str:
    """Return text in double quotes; what is not printable is escaped."""
    return '"' + "".join(_escaped(letter) for letter in text) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"


def flow(value: Any) -> str:
    """Return a value in flow style on one line."""
    if isinstance(value, Alias):
        return f"*{value}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def wrapped(prefix: str, items: Sequence[Any]) -> Iterator[str]:
    """Yield `prefix: [a, b, ...]`, broken between items where it exceeds the width."""
    line = f"{prefix}: ["
    indent = " " * (len(prefix) - len(prefix.lstrip(" -")) + 2)
    for number, item in enumerate(items):
        text = flow(item) + ("]" if number == len(items) - 1 else ",")
        if len(line) + 1 + len(text) > WIDTH:
            yield line.rstrip()
            line = indent + text
        else:
            line += text if line.endswith("[") else f" {text}"
    yield line if items else line + "]"


def anchored(section: str, named: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield mappings under names that are YAML anchors too, so that entries refer to them as `*NAME`."""
    if named:
        yield f"{section}:"
    for name, mapping in named.items():
        yield f"  {scalar(name)}: &{name}"
        for key, value in mapping.items():
            if isinstance(value, list):
                yield from wrapped(f"    {scalar(key)}", value)
            else:
                yield f"    {scalar(key)}: {flow(value)}"


def entry_lines(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield one item of an operator's `scenarios`."""
    yield from wrapped("    - uses", entry["uses"])
    yield from wrapped("      tokens", entry["tokens"])
    for key in ("phase", "variant", "golden", "parameters"):
        if entry.get(key):
            yield f"      {key}: {scalar(entry[key])}"
    yield f"      init: {flow(entry['init'])}"
    if entry.get("context"):
        yield f"      context: {flow(entry['context'])}"
    yield "      inputs:"
    for name, spec in entry["inputs"].items():
        yield f"        {scalar(name)}: {flow(spec)}"


def manifest_lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield a whole manifest without its header comment."""
    yield f"schema_version: {manifest['schema_version']}"
    yield f"category: {scalar(manifest['category'])}"
    yield "models:"
    for name, model in manifest["models"].items():
        yield f"  {scalar(name)}: {flow(model)}"
    if manifest.get("golden"):
        yield f"golden: {flow(manifest['golden'])}"
    yield from anchored("configs", manifest.get("configs", {}))
    yield from anchored("contexts", manifest.get("contexts", {}))
    yield "operators:"
    for name, operator in manifest["operators"].items():
        yield f"  {name}:"
        yield f"    level: {operator['level']}"
        if operator.get("module", name) != name:
            yield f"    module: {scalar(operator['module'])}"
        yield f"    class: {scalar(operator['class'])}"
        yield "    scenarios:"
        for entry in operator["scenarios"]:
            yield from entry_lines(entry)
