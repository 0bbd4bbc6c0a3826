"""What one call to the tracker gives the store: names and values, and files as bytes."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

MAX_KEY = 250
"""Characters of a name that MLflow takes."""
MAX_PARAM = 6000
"""Characters of a parameter's value that MLflow takes."""
MAX_TAG = 8000
"""Characters of a tag's value that MLflow takes."""


@dataclass(frozen=True)
class Record:
    """A part of a run, ready for the store."""

    params: dict[str, str] = field(default_factory=dict)
    """Settings by legal name; one that the run already has keeps its value."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Numbers by legal name; those that are not finite go to the tag `nonfinite`."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags by legal name."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Contents by path below the run's artifacts."""


def legal_key(name: str) -> str:
    """A name that MLflow takes; one that had to be changed ends in a hash of the original, so that none collide."""
    kept = "/".join(part for part in re.sub(r"[^\w\-. :/]", "-", name, flags=re.ASCII).split("/")
                    if part.strip(".")) or "unnamed"
    if kept == name and len(name) <= MAX_KEY:
        return name
    mark = "-" + sha256(name.encode()).hexdigest()[:8]
    return kept[:MAX_KEY - len(mark)] + mark


def scenario_key(scenario_id: str, metric: str) -> str:
    """`rms_norm[llama31-8b-tp1-s512]` and `speedup` become `rms_norm/llama31-8b-tp1-s512/speedup`."""
    op, bracket, rest = scenario_id.partition("[")
    return legal_key(f"{op}/{rest.removesuffix(']')}/{metric}" if bracket else f"{op}/{metric}")


def as_params(values: Mapping[str, object]) -> dict[str, str]:
    """Settings as text, cut where MLflow cuts; None and empty ones are left out."""
    return {legal_key(str(name)): cut(listed(value), MAX_PARAM) for name, value in values.items()
            if value is not None and listed(value) != ""}


def as_tags(values: Mapping[str, object]) -> dict[str, str]:
    """Tags as text, cut where MLflow cuts; True and False become `true` and `false`."""
    words = {True: "true", False: "false"}
    return {legal_key(str(name)): cut(words[value] if isinstance(value, bool) else str(value), MAX_TAG)
            for name, value in values.items()}


def as_metrics(values: Mapping[str, object]) -> tuple[dict[str, float], list[str]]:
    """Numbers by legal name, and for each value that is no number a text that says so."""
    numbers, wrong = {}, []
    for name, value in values.items():
        try:
            numbers[legal_key(str(name))] = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            wrong.append(f"{name} = {cut(repr(value), 40)}")
    return numbers, wrong


def listed(value: object) -> str:
    """`1,2` for a list or a tuple, else the value as text."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def cut(text: str, length: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= length else text[:length - 3] + "..."


def of_environment(environment: Mapping[str, Any]) -> dict[str, object]:
    """Parameters that the description of a machine holds: gpu, cpu, versions, commit."""
    def part(name: str) -> Mapping[str, Any]:
        found = environment.get(name)
        return found if isinstance(found, Mapping) else {}

    versions = ", ".join(f"{name} {value}" for name, value in part("versions").items() if value is not None)
    commit = environment.get("commit")
    changed = "-dirty" if commit and environment.get("dirty") else ""
    return {"gpu": part("gpu").get("name"), "cpu": part("machine").get("cpu"), "versions": versions,
            "commit": f"{commit}{changed}" if commit else None}


def split_finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, str]]:
    """The finite numbers, and `nan`, `inf` or `-inf` by name for the others."""
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return finite, {name: str(value) for name, value in metrics.items() if name not in finite}


def distinct(values: Iterable[object]) -> list[str]:
    """Texts of the values that say something, each once, numbers before words and in order."""
    found = {str(value) for value in values if value not in (None, "")}
    return sorted(found, key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text))
