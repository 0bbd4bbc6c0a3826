"""Finds a model's directory: a local one, or a snapshot from the Hugging Face hub."""

import re
from pathlib import Path

from fastkernels.errors import ModelError, install_command

_HUB_ID = re.compile(r"^\w[\w.-]*/\w[\w.-]*$")
FILES = ("*.json", "*.safetensors")
"""Files of a model that are fetched."""
OTHER_FORMATS = ["*/*", "consolidated*"]
"""The same weights once more in another layout, which some models bring along, mostly in folders."""


def find_model(source: str | Path, with_weights: bool = True) -> Path:
    """Return the directory of a model; fetches what is not in the hub's local cache. ModelError where it cannot."""
    if Path(source).is_dir():
        return Path(source)
    if Path(source).exists():
        raise ModelError(f"{source}: a file; a model is a directory with config.json and safetensors files")
    if not _HUB_ID.match(str(source)):
        raise ModelError(f"{source}: no such directory and no Hugging Face id (OWNER/NAME)")
    return _download(str(source), with_weights)


def _download(model_id: str, with_weights: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise ModelError(
            f"{model_id}: no such directory; fetching it from the Hugging Face hub needs huggingface_hub: "
            f"{install_command('hub')}, or give the path of its directory"
        ) from None
    try:
        patterns = list(FILES if with_weights else FILES[:1])
        return Path(snapshot_download(model_id, allow_patterns=patterns, ignore_patterns=OTHER_FORMATS))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"{model_id}: cannot be fetched from the Hugging Face hub: {reason}. Offline, or for a model behind a "
            "licence, download it and give the path of its directory"
        ) from error
