"""Reads a model's config.json into the object that models are built from."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastkernels.errors import ModelError, one_of, shown
from fastkernels.manifest.families import FAMILIES

DTYPES = ("bfloat16", "float16", "float32")
"""dtypes that a model can be built in."""


def read_model_config(directory: Path) -> SimpleNamespace:
    """The directory's config.json; a `text_config` in it, as models with images have, is laid over the rest.

    ModelError where there is none, it is no JSON object, or the model is quantized.
    """
    path = directory / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{shown(path)}: no such file; a model's directory holds its config.json") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{shown(path)}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{shown(path)}: a model config is a JSON object, found {type(data).__name__}")
    architectures = data.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise ModelError(f"{shown(path)}: architectures: missing; it names the model's class")
    if data.get("quantization_config"):
        raise ModelError(f"{shown(path)}: quantization_config: quantized weights are not supported; use the model in "
                         "bfloat16")
    return SimpleNamespace(**_merged(data, architectures[0]), config_path=path)


def _merged(data: dict[str, Any], architecture: str) -> dict[str, Any]:
    """Published configs leave out what their class defaults to; the families' table has it."""
    defaults = FAMILIES[architecture].defaults if architecture in FAMILIES else {}
    text = data.get("text_config")
    merged = {**defaults, **data, **(text if isinstance(text, dict) else {})}
    return {**merged, "architectures": data["architectures"]}


def dtype_name(config: SimpleNamespace) -> str:
    """The dtype that the config names, bfloat16 where it names none; ModelError for one that models cannot have."""
    name = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None) or "bfloat16"
    if name not in DTYPES:
        raise ModelError(f"{shown(config.config_path)}: dtype: {one_of(name, DTYPES)}")
    return str(name)
