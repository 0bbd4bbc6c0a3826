"""Whether what a starter has in memory is still what lies on disk and in the environment."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping

_NO_MATTER = ("PYTEST_", "FASTKERNELS_", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "COLUMNS", "LINES", "CUDA_VISIBLE_DEVICES",
              "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME", "TORCH_EXTENSIONS_DIR",
              "PYTHONDONTWRITEBYTECODE", "_=")
"""Beginnings of variables that nothing reads while a starter imports; workers are given them anew after the fork."""

_VERSIONS = ("torch.version", "triton.knobs", "numpy.version")
"""Modules below a top level that a new installation of the same package is sure to write."""

Stamp = tuple[int, int, int]


def environment_digest(environment: Mapping[str, str]) -> str:
    """Hash of the variables that may matter to what is imported and to how its memory and threads are set up."""
    matters = sorted((name, value) for name, value in environment.items() if not f"{name}=".startswith(_NO_MATTER))
    return hashlib.sha256(json.dumps([sys.executable, matters]).encode()).hexdigest()


def stamps_of_loaded() -> dict[str, Stamp]:
    """Inode, size and time of change of each file of this project that is loaded, and of each package's first file."""
    found = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        top, _, below = name.partition(".")
        of_interest = top == "fastkernels" or not below or name in _VERSIONS
        if path and of_interest and top not in sys.stdlib_module_names and (stamp := _stamp(path)):
            found[path] = stamp
    return found


def first_changed(stamps: Mapping[str, Stamp]) -> str:
    """A file that is another than when it was loaded, or is gone; '' where there is none."""
    return next((path for path, stamp in stamps.items() if _stamp(path) != stamp), "")


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
