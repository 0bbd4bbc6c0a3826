"""The command line that grades one scenario again."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_fastkernels.options import BY_NAME

if TYPE_CHECKING:
    from pytest_fastkernels.session import FkSession

KEPT = ("candidates", "manifest", "self_test", "device", "baseline", "no_timing", "min_speedup", "timeout",
        "build_timeout", "memory_limit", "allow_passthrough", "gates", "sanitize", "require_gates")
"""Options that change a verdict."""
PLUGIN = "pytest_fastkernels.plugin"


def command(fk: "FkSession", address: str, seed: int) -> str:
    """Return a line for a shell, to be run in the same directory."""
    words = ["pytest"] if _is_installed(fk) else ["python", "-m", "pytest", "-p", PLUGIN]
    words.append(address)
    for name in KEPT:
        option, value = BY_NAME[name], getattr(fk.settings, name)
        if value is True:
            words.append(option.flag)
        elif isinstance(value, Path):
            words.append(f"{option.flag}={fk.shown(value)}")
        elif isinstance(value, tuple):
            words += [f"{option.flag}={','.join(value)}"] if value else []
        elif option.flag in fk.settings.given and value is not False:
            words.append(f"{option.flag}={value}")
    return shlex.join([*words, f"--fk-seed={seed}"])


def _is_installed(fk: "FkSession") -> bool:
    found = fk.config.pluginmanager.list_plugin_distinfo()
    return any(getattr(plugin, "__name__", "") == PLUGIN for plugin, _ in found)
