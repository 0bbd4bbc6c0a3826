"""Reads and writes the results file (`--fk-output-json`), checked against its schema."""

from pathlib import Path
from typing import Any

from fastkernels.results import KernelBenchResult


def write_result(path: Path, result: KernelBenchResult) -> None:
    """Write the results file, whole or not at all (a temporary file beside it is renamed)."""
    raise NotImplementedError


def read_result(path: Path) -> KernelBenchResult:
    """Read a results file; ResultsError for a file that is missing, no JSON, of another version or of another form."""
    raise NotImplementedError


def json_schema() -> dict[str, Any]:
    """The JSON schema of the results file."""
    raise NotImplementedError
