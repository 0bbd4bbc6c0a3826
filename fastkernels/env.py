"""Every environment variable that the project reads, in one place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastkernels.errors import FastKernelsError, one_of


def cache_dir() -> Path:
    """FASTKERNELS_CACHE_DIR: where device peaks and the like are kept (default ~/.cache/fastkernels)."""
    return Path(os.environ.get("FASTKERNELS_CACHE_DIR") or Path.home() / ".cache" / "fastkernels")


def tracking_is_off() -> bool:
    """FASTKERNELS_TRACKING=off: no run is tracked, as if mlflow were not installed, and without its warning."""
    return os.environ.get("FASTKERNELS_TRACKING", "").lower() in ("off", "0", "false")


STARTERS = "FASTKERNELS_STARTERS"
"""Names the process whose starters the processes below it may use; set by the project, not by users."""


def given_starters() -> str:
    """FASTKERNELS_STARTERS: process id, its start time and the descriptors of its starters' doors; empty for none."""
    return os.environ.get(STARTERS, "")


def worker_start() -> str:
    """FASTKERNELS_WORKER_START: `fork` (default) or `exec`, a new Python for each worker process, 1.5 s slower."""
    text = os.environ.get("FASTKERNELS_WORKER_START", "") or "fork"
    if text not in ("fork", "exec"):
        raise FastKernelsError(f"FASTKERNELS_WORKER_START: {one_of(text, ('fork', 'exec'))}")
    return text


def mlflow_tracking_uri() -> str:
    """MLFLOW_TRACKING_URI: the MLflow server or database that keeps runs; empty stands for the local store."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


@contextmanager
def mlflow_request_limits(timeout_s: int, retries: int) -> Iterator[None]:
    """MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.

    Set where they are not, within the block only. MLflow reads them at each request and takes no argument in their
    place; its own defaults wait for minutes and print a line on stdout at the end of each run on a server.
    """
    wanted = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
              "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def require_browser() -> bool:
    """FASTKERNELS_REQUIRE_BROWSER=1: this project's own tests fail instead of skipping where no Chromium is found."""
    return os.environ.get("FASTKERNELS_REQUIRE_BROWSER", "") == "1"


def required_gpus() -> int:
    """FASTKERNELS_REQUIRE_GPU=N: this project's own tests of up to N CUDA devices fail instead of skipping for want."""
    text = os.environ.get("FASTKERNELS_REQUIRE_GPU", "")
    return int(text) if text.isdecimal() else 0


def chosen_tests() -> str:
    """FASTKERNELS_TESTS=quick, usual or all: how much of this project's own tests runs; empty stands for usual."""
    return os.environ.get("FASTKERNELS_TESTS", "")
