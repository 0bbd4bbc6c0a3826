"""Finds the model config that a command line names: a file, a directory, a shipped model or a Hugging Face id."""

import re
from collections.abc import Sequence
from pathlib import Path

from fastkernels.errors import ManifestError, did_you_mean, install_command
from fastkernels.manifest.config import ModelConfig
from fastkernels.manifest.reader import read_config, short_name

_HUB_ID = re.compile(r"^\w[\w.-]*/\w[\w.-]*$")


def find_config(source: str, shipped: Sequence[ModelConfig]) -> ModelConfig:
    """Return the config that `source` names; a path that exists comes first, then shipped models, then the hub."""
    if Path(source).exists():
        return read_config(Path(source))
    for config in shipped:
        if source.lower() in (config.name, config.model_id.lower()):
            return config
    if not _HUB_ID.match(source):
        known = [name for config in shipped for name in (config.name, config.model_id)]
        raise ManifestError(
            f"--config {source}: no such file or directory, no shipped model and no Hugging Face id "
            f"(OWNER/NAME){did_you_mean(source, known)}"
        )
    return read_config(_download(source), name=short_name(source), model_id=source)


def _download(model_id: str) -> Path:
    """Return the path of the hub's config.json in the local cache, fetching it if need be."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise ManifestError(
            f"--config {model_id}: no such file; reading it from the Hugging Face hub needs huggingface_hub: "
            f"{install_command('hub')}, or give the path of a config.json"
        ) from None
    try:
        return Path(hf_hub_download(model_id, "config.json"))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ManifestError(
            f"--config {model_id}: cannot be read from the Hugging Face hub: {reason}. Offline, or for a model behind "
            "a licence, download its config.json and give the path"
        ) from error
