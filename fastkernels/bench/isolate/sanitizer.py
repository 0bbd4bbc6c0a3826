"""compute-sanitizer: where it is installed, how a worker runs under it, and what its log says."""

import os
import re
import shutil
from pathlib import Path

TOOLS = ("memcheck", "racecheck", "initcheck")
"""What may be asked for."""

PROGRAM = "compute-sanitizer"

_SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)")
_FINDING = re.compile(r"^========= (?!COMPUTE-SANITIZER|(?:ERROR|RACECHECK) SUMMARY|Target application| )(.*\S)",
                      re.MULTILINE)
_PLACE = re.compile(r"^=========     at (.*\S)", re.MULTILINE)


def find() -> str | None:
    """The program: on the path, or with the CUDA toolkit; None where it is not installed."""
    toolkit = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / PROGRAM
    return shutil.which(PROGRAM) or (str(toolkit) if os.access(toolkit, os.X_OK) else None)


def command(program: str, tool: str, log: Path) -> list[str]:
    """What stands before a worker's own command line. The worker forks below itself, so all processes are watched."""
    return [program, "--tool", tool, "--target-processes", "all", "--print-limit", "20", "--log-file", str(log)]


def first_finding(text: str) -> str | None:
    """The first finding in a log in one line, '' where there is none, None where the log has no end."""
    counts = [int(number) for number in _SUMMARY.findall(text)]
    found = _FINDING.search(text)
    if found is None or not any(counts):
        return "" if counts and not any(counts) else None
    place = _PLACE.search(text, found.end())
    return found[1] + (f" at {place[1]}" if place else "")
