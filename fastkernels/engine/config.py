"""Reads a model's config.json into the object that models are built from."""

from pathlib import Path
from types import SimpleNamespace

from fastkernels.errors import ManifestError, ModelError, one_of, shown
from fastkernels.manifest.published import read_json
from fastkernels.manifest.reader import DTYPES, parse_config


def read_model_config(directory: Path) -> SimpleNamespace:
    """The directory's config.json as the manifest reads it: the text model's values over its family's defaults.

    ModelError where there is none, it is no JSON object, or the model is not one that is built here.
    """
    path = directory / "config.json"
    if not path.exists():
        raise ModelError(f"{shown(path)}: no such file; a model's directory holds its config.json")
    try:
        config = parse_config(read_json(path), shown(path), directory.name, directory.name)
    except ManifestError as error:
        raise ModelError(str(error)) from error
    return SimpleNamespace(**config.values, config_path=path)


def dtype_name(config: SimpleNamespace) -> str:
    """The dtype that the config names, bfloat16 where it names none; ModelError for one that models cannot have."""
    name = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None) or "bfloat16"
    if name not in DTYPES:
        raise ModelError(f"{shown(config.config_path)}: dtype: {one_of(name, DTYPES)}")
    return str(name)
