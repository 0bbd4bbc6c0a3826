"""`fastkernels compare`: the regression gate between two results files."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from fastkernels.report import compare, read_run
from fastkernels.report.compare import MAX_SLOWDOWN
from fastkernels.report.comparison_text import as_data, as_text
from fastkernels.report.formats import limit_percent

_PERCENT = re.compile(r"(\d+(?:\.\d+)?|\.\d+)%")
_HIGHEST = 1000.0
"""Per cent that --max-slowdown takes at most."""
_DEFAULT = limit_percent(MAX_SLOWDOWN).replace(" ", "")


def add_parser(subparsers: Any) -> None:
    """Add the command to an argparse subparsers object."""
    parser = subparsers.add_parser(
        "compare",
        help="compare two results files; exits 1 where a kernel got slower or wrong",
        description="Compare the scenarios of two results files by address. Exit status 1 where a verdict got worse, "
        "where the intervals say that a kernel is slower by more than the limit, where a scenario is gone or no longer "
        "timed, or where nothing can be compared; 4 for a wrong command line or a file that cannot be read; else 0. "
        "Times are compared as speedups against the baseline of the same run, so that a slower machine cancels. "
        "How it is decided: docs/report.md.",
        allow_abbrev=False,
    )
    parser.add_argument("base", type=Path, metavar="BASE.json", help="results file of the earlier run, or its .json.gz")
    parser.add_argument("new", type=Path, metavar="NEW.json", help="results file of the later run, or its .json.gz")
    parser.add_argument(
        "--max-slowdown", type=max_slowdown, default=MAX_SLOWDOWN, metavar="PERCENT%",
        help="how much longer a call may take, in per cent of its time, such as 0%% or 2.5%% "
        f"(default: {_DEFAULT.replace('%', '%%')})")
    parser.add_argument(
        "--allow-missing", action="store_true",
        help="pass although scenarios of BASE are not in NEW, where NEW is a run of a part (default: they fail)")
    parser.add_argument(
        "--across-machines", action="store_true",
        help="compare speedups although GPU or CPU differ (default: such times are not compared, which fails)")
    parser.add_argument("--all", action="store_true", help="list every scenario (default: 20 of each kind)")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON, with every scenario")


def run(args: argparse.Namespace) -> int:
    """Print the comparison; return 1 where it fails and 0 where it passes."""
    base, new = read_run(args.base), read_run(args.new)
    found = compare(base.result, new.result, args.max_slowdown, allow_missing=args.allow_missing,
                    across_machines=args.across_machines)
    names = (base.name, new.name)
    print(json.dumps(as_data(found, names), indent=1, allow_nan=False) if args.json
          else as_text(found, names, args.all))
    return 1 if found.failures else 0


def max_slowdown(text: str) -> float:
    """`3%` as the fraction 0.03; argparse's error for anything else."""
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage: write a number from 0 to {_HIGHEST:g} and the "
                                         f"sign, such as 3%{_nearest(text)}")
    value = float(match[1])
    if value > _HIGHEST:
        raise argparse.ArgumentTypeError(f"{text!r} is over {_HIGHEST:g}%")
    return value / 100


def _nearest(text: str) -> str:
    """What was probably meant by a number without its sign."""
    try:
        value = float(text.strip().rstrip("%").strip())
    except ValueError:
        return ""
    if not 0 <= value <= _HIGHEST:
        return ""
    if "%" in text or value == 0 or value >= 1:
        return f". Did you mean {value:g}%?"
    return f". Did you mean {100 * value:g}%, or {value:g}%?"
