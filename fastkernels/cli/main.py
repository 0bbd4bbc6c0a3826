"""The `fastkernels` command: finds the sub-command and imports only that one."""

import argparse
import importlib
import re
import sys
from collections.abc import Sequence

from fastkernels import __version__
from fastkernels.errors import FastKernelsError, did_you_mean, missing_dependencies, system_error

COMMANDS = {
    "kernels": ("fastkernels.cli.kernels", "grade candidates for single operators (a front for pytest --fk-...)"),
    "create-stubs": ("fastkernels.cli.create_stubs", "write candidate files of a model's operators, to be filled in"),
    "compare": ("fastkernels.cli.compare", "compare two results files; exits 1 where a kernel got slower or wrong"),
    "report": ("fastkernels.cli.report", "write one HTML page from results files"),
    "history": ("fastkernels.cli.history", "list tracked runs, or the best run of each operator"),
    "mlflow-ui": ("fastkernels.cli.mlflow_ui", "browse tracked runs in MLflow's web page"),
    "generate-inputs": ("fastkernels.cli.generate_inputs", "derive the manifest from model configs"),
    "capture-golden": ("fastkernels.cli.capture_golden", "record structured inputs of operators from a model run"),
}
"""Module and one-line help of each command; a module has `add_parser(subparsers)` and `run(args) -> int`.

With `PASSES_ON = True` in the module, the words after `--` reach it as `args.passed_on`.
"""

USAGE_ERROR = 4
"""Exit status for a wrong command line, as pytest's."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0 if words else USAGE_ERROR
    if words[0] == "--version":
        print(f"fastkernels {__version__}")
        return 0
    if words[0] not in COMMANDS:
        print(f"fastkernels: {words[0]!r} is no command{did_you_mean(words[0], COMMANDS)}\n\n{overview()}",
              file=sys.stderr)
        return USAGE_ERROR
    try:
        if missing := missing_dependencies():
            raise FastKernelsError(missing)
        return run_command(words)
    except FastKernelsError as error:
        print(f"fastkernels {words[0]}: {error}", file=sys.stderr)
    except OSError as error:  # a directory that may not be read, a name that is too long, a full disk
        print(f"fastkernels {words[0]}: {system_error(error)}", file=sys.stderr)
    return USAGE_ERROR


def overview() -> str:
    """Return the usage text with every command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: fastkernels [--version] COMMAND [options]", "", "commands:", *lines, "",
                      "fastkernels COMMAND --help lists the options of a command."])


def run_command(words: list[str]) -> int:
    """Import the command's module, parse its options and run it."""
    parser = argparse.ArgumentParser(prog="fastkernels", allow_abbrev=False)
    module = importlib.import_module(COMMANDS[words[0]][0])
    commands = parser.add_subparsers(dest="command")
    module.add_parser(commands)
    end = words.index("--") if "--" in words and getattr(module, "PASSES_ON", False) else len(words)
    try:
        args, unknown = parser.parse_known_args(words[:end], argparse.Namespace(passed_on=words[end + 1:]))
        if unknown:
            refuse(commands.choices[words[0]], unknown)
    except SystemExit as end:
        return USAGE_ERROR if end.code else 0
    status: int = module.run(args)
    return status


def refuse(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> None:
    """Exit as argparse does on what it does not know, with the nearest option."""
    nearest = did_you_mean(unknown[0].partition("=")[0], option_names(parser)) if unknown[0].startswith("-") else ""
    parser.error(f"unrecognized arguments: {' '.join(unknown)}{nearest}")


def option_names(parser: argparse.ArgumentParser) -> list[str]:
    """The options that the help of a command lists: `--output` and so on."""
    return re.findall(r"(?m)^ +(?:-\w, )?(--[a-z][a-z-]*)", parser.format_help())
