"""`fastkernels kernels`: a thin front for the same pytest run."""

import argparse
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

from fastkernels.options import OPTIONS
from fastkernels.registry import Candidates

SEVERAL: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
"""Values are separated by blanks or commas."""
PASSES_ON = True
"""Words after `--` are pytest's."""
PLUGIN = "pytest_fastkernels.plugin"
def add_parser(subparsers: Any) -> None:
    """Add the options of this command."""
    parser = subparsers.add_parser(
        "kernels", allow_abbrev=False, usage="fastkernels kernels [options] [-- pytest options]",
        help="grade candidates for single operators",
        description="Grade every operator that has a candidate in tasks/candidate, or those that the filters select. "
                    "What follows -- goes to pytest: fastkernels kernels --level 1 --seqlen 512 -- -n 8")
    for option in OPTIONS:
        text = option.full_help(command=True).replace("%", "%%")
        if option.metavar is None:
            parser.add_argument(option.word, action="store_true", help=text)
        else:
            parser.add_argument(option.word, metavar=option.metavar, help=text, **(SEVERAL if option.many else {}))


def run(args: argparse.Namespace) -> int:
    """Run pytest with these options and return its exit status."""
    return subprocess.run([sys.executable, "-m", "pytest", *pytest_options(args)], check=False).returncode


def pytest_options(args: argparse.Namespace) -> list[str]:
    """Translate the command's options into pytest's."""
    words = [] if plugin_is_installed() else ["-p", PLUGIN]
    for option in OPTIONS:
        value = getattr(args, option.name)
        if option.metavar is None:
            words += [option.flag] if value else []
        elif option.many:
            words += [f"{option.flag}={one}" for one in value]
        else:
            words += [f"{option.flag}={value}"] if value is not None else []
    given = {option.name for option in OPTIONS if getattr(args, option.name)}
    if not given & ({option.name for option in OPTIONS if option.selects} | {"list", "map"}):
        words.append(f"--fk-candidates={default_candidates()}")
    return words + list(args.passed_on)


def default_candidates() -> str:
    """Return the installed candidate directory; naming it makes an empty one an error and not a self-test."""
    return str(Candidates.load(None).directory)


def plugin_is_installed() -> bool:
    """True where pytest loads the plugin by itself; naming it again would register it twice."""
    return any(point.value == PLUGIN for point in entry_points(group="pytest11"))
