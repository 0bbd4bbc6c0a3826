"""Reads a config.json as it was published: which architecture it is of, and what its class would make of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastkernels.errors import ManifestError
from fastkernels.manifest import keys
from fastkernels.manifest.families import FAMILIES, Family

PAGE = "docs/adding-a-model.md"
_TYPO = 0.85
"""Likeness from which on what a model is made for is misspelt: ForCausualLM."""


@dataclass(frozen=True)
class Published:
    """A config whose keys are all known."""

    source: str
    """File that errors name."""
    architecture: str
    """Its class."""
    family: Family
    """How that is built."""
    values: Mapping[str, Any]
    """The text model's config over the family's defaults, less what the architecture ignores."""

    @property
    def namespace(self) -> SimpleNamespace:
        """The values as attributes, which `facts` and models read."""
        return SimpleNamespace(**self.values)


def read_json(file: Path) -> dict[str, Any]:
    """Return a config.json's content; ManifestError where it is no JSON object."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"{file}: no such model config") from None
    except OSError as error:
        raise ManifestError(f"{file}: cannot be read: {error.strerror}") from error
    except RecursionError:
        raise ManifestError(f"{file}: not a model config: nested too deeply") from None
    except ValueError as error:
        raise ManifestError(f"{file}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ManifestError(f"{file}: a model config is a JSON object, found {type(data).__name__}")
    return data


def settle(data: Mapping[str, Any], source: str) -> Published:
    """Check every key and lay the config over the architecture's defaults; ManifestError names keys and values."""
    architecture = find_architecture(data, source)
    family = FAMILIES[architecture]
    text = data.get("text_config") if family.text_config else None
    if text is not None and not isinstance(text, Mapping):
        raise ManifestError(f"{source}: text_config: found {type(text).__name__}, it is a JSON object")
    published = {**data, **(text or {})}
    if family.text_config:
        published.pop("text_config", None)
    _check_model_type(published, architecture, family, source)
    problems = [f"{source}: {key}: {problem}" for key, problem in keys.problems(published, architecture, family)]
    if problems:
        raise ManifestError("\n".join(problems))
    values = {key: value for key, value in {**family.defaults, **published}.items() if key not in family.ignored}
    kind = {"model_type": family.model_types[0]} if family.model_types and not values.get("model_type") else {}
    return Published(source, architecture, family, {**values, **kind, "architectures": data["architectures"]})


def find_architecture(data: Mapping[str, Any], source: str) -> str:
    """Return the first of the config's `architectures` that is supported; ManifestError where none is."""
    names = data.get("architectures")
    if not isinstance(names, list) or not names:
        raise ManifestError(f"{source}: architectures: missing; supported are {', '.join(sorted(FAMILIES))}")
    for name in names:
        if isinstance(name, str) and name in FAMILIES:
            return name
    raise ManifestError(f"{source}: architectures: {unsupported(names[0])}")


def unsupported(name: object) -> str:
    """Return what is missing for an architecture, or the one that was meant where it is only misspelt.

    A family of another name is another model, however like the names are, and is not proposed.
    """
    listed = f"{name!r} is not one of {', '.join(sorted(FAMILIES))}"
    meant = next((known for known in FAMILIES if isinstance(name, str) and _is_misspelt(name, known)), "")
    if meant:
        return f"{listed}. Did you mean {meant!r}?"
    return (
        f"{listed}. What is missing is a row of FAMILIES: which norms, projections and activations its layers have "
        f"stands in no config, so that the shapes of level 1 cannot be had either. With the row they can "
        f"(generate-inputs --level 1); levels 2 to 4 need classes in tasks/baseline: {PAGE}"
    )


def _is_misspelt(name: str, known: str) -> bool:
    """Whether both name the same family, but for case, marks and the order of letters, and nearly the same head."""
    stem, _, head = _letters(name).partition("for")
    meant, _, known_head = _letters(known).partition("for")
    return sorted(stem) == sorted(meant) and SequenceMatcher(None, head, known_head).ratio() >= _TYPO


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _check_model_type(published: Mapping[str, Any], architecture: str, family: Family, source: str) -> None:
    """transformers chooses the class by model_type, vLLM by architectures: they have to name the same one."""
    kind = published.get("model_type")
    if kind is not None and family.model_types and kind not in family.model_types:
        raise ManifestError(
            f"{source}: model_type: {kind!r} is not {' or '.join(map(repr, family.model_types))}, the one of "
            f"{architecture}; transformers reads the config by it"
        )
