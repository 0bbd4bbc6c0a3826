"""`fastkernels kernels`: a thin front for the same pytest run."""

import argparse
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

from fastkernels.registry import Candidates

PASSES_ON = True
"""Words after `--` are pytest's."""
PLUGIN = "pytest_fastkernels.plugin"
VALUES = {
    "target": ("OP", "operators, such as rms_norm"),
    "model": ("NAME", "prefixes of model names, such as llama31"),
    "tp": ("N", "tensor parallel degrees"),
    "category": ("NAME", "manifest categories, such as llm"),
    "level": ("N", "levels, 1 to 4"),
}
"""Filters that take several values, separated by blanks or commas."""
SINGLE = {
    "candidates": ("DIR", "directory of candidates, laid out as tasks/candidate"),
    "num-warmup": ("N", "warm-up calls of each side"),
    "num-runs": ("N", "most timed calls of each side (CUDA: 24 rounds of sections for 100)"),
    "output-json": ("FILE", "results file"),
}
"""Options with one value; their defaults are those of pytest --fk-..."""


def add_parser(subparsers: Any) -> None:
    """Add the options of this command."""
    parser = subparsers.add_parser(
        "kernels", allow_abbrev=False, usage="fastkernels kernels [options] [-- pytest options]",
        help="grade candidates for single operators",
        description="Grade every operator that has a candidate in tasks/candidate, or those that the filters select. "
                    "What follows -- goes to pytest: fastkernels kernels --level 1 -- -n 8 --fk-seqlen=512")
    for name, (metavar, text) in VALUES.items():
        parser.add_argument(f"--{name}", metavar=metavar, nargs="+", action="extend", default=[], help=text)
    for name, (metavar, text) in SINGLE.items():
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    parser.add_argument("--list", action="store_true", help="list operators and exit")
    parser.add_argument("--map", action="store_true", help="list each model's operators and exit")
    parser.add_argument("--self-test", action="store_true", help="grade the baseline itself")


def run(args: argparse.Namespace) -> int:
    """Run pytest with these options and return its exit status."""
    return subprocess.run([sys.executable, "-m", "pytest", *pytest_options(args)], check=False).returncode


def pytest_options(args: argparse.Namespace) -> list[str]:
    """Translate the command's options into pytest's."""
    words = [] if plugin_is_installed() else ["-p", PLUGIN]
    for name in VALUES:
        words += [f"--fk-{name}={value}" for value in getattr(args, name)]
    for name in SINGLE:
        value = getattr(args, name.replace("-", "_"))
        words += [f"--fk-{name}={value}"] if value is not None else []
    words += [f"--fk-{name}" for name in ("list", "map", "self-test") if getattr(args, name.replace("-", "_"))]
    if not (args.candidates or args.self_test or args.list or args.map):
        words += [] if any(getattr(args, name) for name in VALUES) else [f"--fk-candidates={default_candidates()}"]
    return words + list(args.passed_on)


def default_candidates() -> str:
    """Return the installed candidate directory; naming it makes an empty one an error and not a self-test."""
    return str(Candidates.load(None).directory)


def plugin_is_installed() -> bool:
    """True where pytest loads the plugin by itself; naming it again would register it twice."""
    return any(point.value == PLUGIN for point in entry_points(group="pytest11"))
