"""`fastkernels report`: writes one HTML page from results files."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastkernels.errors import ReportError, shown
from fastkernels.report import NamedRun, page, read_run
from fastkernels.report.figures import require_extra
from fastkernels.report.formats import plural
from fastkernels.results.files import write_whole

DEFAULT_RESULTS = Path("bench/results/kernels.json")
"""Where `pytest --fk-...` writes its results."""


def add_parser(subparsers: Any) -> None:
    """Add the command to an argparse subparsers object."""
    parser = subparsers.add_parser(
        "report",
        help="write one HTML page from results files",
        description="Write one self-contained HTML page: verdicts, speedups by model, TP degree and tokens, roofline, "
        "error ratios, samples, failures and sources of the last results file, and what changed since the first.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "results", nargs="*", type=Path, metavar="RESULTS.json",
        help=f"results files, oldest first; .json.gz is read too (default: {DEFAULT_RESULTS})")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.html",
        help="page to write (default: report.html beside the first results file)")


def run(args: argparse.Namespace) -> int:
    """Read the results, write the page and return the exit status."""
    require_extra()
    paths = args.results or [_default_results()]
    output = args.output or paths[0].parent / "report.html"
    _check_output(output, paths)
    runs = [read_run(path) for path in paths]
    text = page(runs)
    try:
        write_whole(output, text.encode())
    except OSError as error:
        raise ReportError(f"{shown(output)}: cannot be written: {error.strerror}") from error
    print(f"{shown(output)}: {_described(runs)}, {len(text.encode()) / 1e6:.2f} MB")
    return 0


def _default_results() -> Path:
    if not DEFAULT_RESULTS.exists():
        raise ReportError(f"{DEFAULT_RESULTS}: no such file below {Path.cwd()}; grade something first "
                          "(fastkernels kernels --help), or name a results file")
    return DEFAULT_RESULTS


def _check_output(output: Path, paths: Sequence[Path]) -> None:
    """Find what would fail before the results are read; a page never replaces a results file."""
    if output.is_dir():
        raise ReportError(f"--output: {shown(output)} is a directory; name a file in it, such as "
                          f"{shown(output / 'report.html')}")
    if not output.parent.is_dir():
        raise ReportError(f"--output: {shown(output)}: there is no directory {shown(output.parent)}")
    if os.path.realpath(output) in map(os.path.realpath, paths):
        raise ReportError(f"--output: {shown(output)} is one of the results files")


def _described(runs: Sequence[NamedRun]) -> str:
    count = plural(len(runs[-1].result.results), "scenario")
    return count if len(runs) == 1 else f"{count} of {runs[-1].name}, compared with {runs[0].name}"
