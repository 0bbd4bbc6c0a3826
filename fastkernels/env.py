"""Every environment variable that the project reads, in one place."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """FASTKERNELS_CACHE_DIR: where device peaks and the like are kept (default ~/.cache/fastkernels)."""
    return Path(os.environ.get("FASTKERNELS_CACHE_DIR") or Path.home() / ".cache" / "fastkernels")


def tracking_is_off() -> bool:
    """FASTKERNELS_TRACKING=off: no run is tracked, as if mlflow were not installed, and without its warning."""
    return os.environ.get("FASTKERNELS_TRACKING", "").lower() in ("off", "0", "false")


def require_browser() -> bool:
    """FASTKERNELS_REQUIRE_BROWSER=1: this project's own tests fail instead of skipping where no Chromium is found."""
    return os.environ.get("FASTKERNELS_REQUIRE_BROWSER", "") == "1"


def require_gpu() -> bool:
    """FASTKERNELS_REQUIRE_GPU=1: this project's own tests fail instead of skipping where no CUDA device is found."""
    return os.environ.get("FASTKERNELS_REQUIRE_GPU", "") == "1"
