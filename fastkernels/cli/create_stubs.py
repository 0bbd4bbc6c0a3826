"""`fastkernels create-stubs`: writes candidate files of a model's operators, ready to be filled in."""

import argparse
from pathlib import Path
from typing import Any

from fastkernels.errors import CandidateError, shown
from fastkernels.manifest import load_manifest
from fastkernels.registry import baseline_root
from fastkernels.registry.stubs import make_stubs, write_stubs

DEFAULT = Path("my_kernels")
"""Directory to write to where none is named and the project is installed."""


def add_parser(subparsers: Any) -> None:
    """Add the command to an argparse subparsers object."""
    parser = subparsers.add_parser(
        "create-stubs", allow_abbrev=False, help="write candidate files of a model's operators, to be filled in",
        description="Write one candidate file for each operator of a model: the baseline's class, signature, "
                    "docstring and __init__, the shapes that the model calls it with, and a forward that raises "
                    "NotImplementedError. Never overwrites: where one of the files exists, none is written.")
    parser.add_argument("--model", required=True, metavar="NAME",
                        help="short name or Hugging Face id, or the beginning of one: llama31-8b")
    parser.add_argument("--level", metavar="N", nargs="+", action="extend", type=_level, default=[],
                        help="levels, 1 to 4 (default: every level of the model's operators)")
    parser.add_argument("--target", metavar="OP", nargs="+", action="extend", default=[],
                        help="operators, such as rms_norm (default: all of them)")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="candidate directory to write to (default: tasks/candidate in a checkout of this project, "
                        f"else {DEFAULT})")
    parser.add_argument("--manifest", type=Path, metavar="FILE",
                        help="manifest to read shapes from (default: the installed manifests/llm.yaml)")


def run(args: argparse.Namespace) -> int:
    """Write the stubs and say how to grade them; return the exit status."""
    manifest = load_manifest(args.manifest)
    stubs = make_stubs(manifest, args.model, args.target, args.level)
    slot = baseline_root().parent / "candidate"
    directory = args.output or (DEFAULT if is_installed(slot) else slot)
    if directory.exists() and not directory.is_dir():
        raise CandidateError(f"--output: {shown(directory)} is a file; name a directory")
    if is_installed(directory):
        raise CandidateError(f"--output: {shown(directory)} belongs to the installed packages, where the next install "
                             f"removes it; name a directory of yours, such as {DEFAULT}")
    for path, stub in zip(write_stubs(stubs, directory), stubs, strict=True):
        print(f"{shown(path)}: {', '.join(stub.operators)}")
    targets = ",".join(dict.fromkeys(op for stub in stubs for op in stub.operators))
    places = {"candidates": None if directory == slot else directory, "manifest": args.manifest}
    where = "".join(f" --fk-{name}={shown(path)}" for name, path in places.items() if path is not None)
    print(f"Fill in forward, then: pytest --fk-model={args.model} --fk-target={targets}{where}")
    return 0


def is_installed(path: Path) -> bool:
    """Whether a path lies among installed packages."""
    return not {"site-packages", "dist-packages"}.isdisjoint(path.resolve().parts)


def _level(text: str) -> int:
    if text not in ("1", "2", "3", "4"):
        raise argparse.ArgumentTypeError(f"{text!r} is not one of 1, 2, 3, 4")
    return int(text)
