"""The errors that users see; each message says where, what was found, what is allowed and the nearest match."""

import difflib
import os
import shlex
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

DEPENDENCIES = ("torch", "yaml", "pydantic", "filelock", "psutil")
"""Modules that grading imports, the plugin's own left out."""
NAME = "pytest-fastkernels"
"""The project's name in package indexes."""


class FastKernelsError(Exception):
    """Root of every error that this project raises on purpose."""


class ManifestError(FastKernelsError):
    """A manifest or model config that cannot be used."""


class SelectionError(FastKernelsError):
    """A selection that names something unknown or leaves nothing to grade."""


class ModelError(FastKernelsError):
    """A model that cannot be built: its config, or a tensor parallel degree that does not fit it."""


class WeightsError(FastKernelsError):
    """Weights that do not fit the model, or that cannot be read."""

    def __init__(self, message: str, tensor: str = "") -> None:
        super().__init__(message)
        self.tensor = tensor
        """Name of the first tensor at fault, as the checkpoint has it; empty where the fault is none of a tensor's."""


class CandidateError(FastKernelsError):
    """A candidate directory or file that cannot be used at all."""


class DeploymentError(FastKernelsError):
    """Candidates that a run of the kernel tier has found unfit for a whole model; the message lists them."""


class DeviceError(FastKernelsError):
    """A device that was asked for and is not here."""


class WorkerError(FastKernelsError):
    """The harness's own worker process failed; never a verdict on a candidate."""


class ResultsError(FastKernelsError):
    """A results file that cannot be read or is of another schema version."""


class ReportError(FastKernelsError):
    """A report that cannot be made: nothing to show, nowhere to write, or packages that are not installed."""


class TrackingError(FastKernelsError):
    """A store of tracked runs that cannot be read or served: not installed, not reachable, or broken."""


def system_error(error: OSError) -> str:
    """One line for what the operating system refuses: `kernels/L1: Permission denied`."""
    where = shown(Path(os.fsdecode(error.filename))) if isinstance(error.filename, str | bytes) else ""
    return ": ".join(filter(None, (where, error.strerror or str(error))))


def missing_dependencies() -> str:
    """One line that names what is not installed of what grading needs, and how to install it; empty where all is."""
    missing = [name for name in DEPENDENCIES if find_spec(name) is None]
    return f"{', '.join(missing)} not installed, which grading needs: {install_command()}" if missing else ""


def install_command(extra: str = "") -> str:
    """The command that installs this project with an extra: from the checkout where it runs from one."""
    root = Path(__file__).resolve().parents[1]
    suffix = f"[{extra}]" if extra else ""
    if (root / "pyproject.toml").exists():
        return f"pip install -e {shlex.quote(f'{root}{suffix}')}"
    return f"pip install {shlex.quote(f'{NAME}{suffix}')}"


def did_you_mean(found: object, allowed: Iterable[object], likeness: float = 0.5) -> str:
    """Return `. Did you mean 'rms_norm'?` for the nearest allowed word, at least so like it, or an empty string."""
    close = difflib.get_close_matches(str(found), [str(word) for word in allowed], n=1, cutoff=likeness)
    return f". Did you mean {close[0]!r}?" if close else ""


def one_of(found: object, allowed: Iterable[object]) -> str:
    """Return `3 is not one of 1, 2, 4, 8`, with the nearest match for words."""
    words = list(allowed)
    listed = ", ".join(str(word) for word in words)
    nearest = did_you_mean(found, words) if isinstance(found, str) else ""
    return f"{found!r} is not one of {listed}{nearest}"


def shown(path: Path) -> str:
    """Return a path as messages show it: relative to the working directory where it lies below it."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
