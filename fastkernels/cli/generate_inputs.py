"""`fastkernels generate-inputs`: writes a manifest from model configs."""

import argparse
import difflib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastkernels.errors import ManifestError
from fastkernels.manifest.config import ModelConfig
from fastkernels.manifest.generate import LEVELS, TP_DEGREES, generate, shipped_configs
from fastkernels.manifest.hub import find_config
from fastkernels.manifest.loader import default_path, manifests_directory, parse_manifest
from fastkernels.manifest.manifest import Manifest, shown
from fastkernels.results.files import write_whole

SHOWN_LINES = 20
"""Lines of difference that --check prints."""


def add_parser(subparsers: Any) -> None:
    """Add the command to an argparse subparsers object."""
    parser = subparsers.add_parser(
        "generate-inputs",
        help="write a manifest from model configs",
        description="Derive operator scenarios (per-rank shapes by model, TP degree and token count) from model "
        "configs in the Hugging Face config.json form. Without options: manifests/llm.yaml from manifests/models/.",
    )
    parser.add_argument(
        "--config",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH_OR_ID",
        help="config.json, a directory that holds one, a shipped model's short name, or a Hugging Face id "
        "(default: every shipped model)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="manifest to write (default: the shipped one; stdout with --config)"
    )
    parser.add_argument(
        "--tp",
        nargs="+",
        type=_tp_degree,
        default=list(TP_DEGREES),
        metavar="N",
        help="TP degrees, where a model's dimensions divide (default: 1 2 4 8)",
    )
    parser.add_argument(
        "--level",
        nargs="+",
        type=int,
        choices=LEVELS,
        default=list(LEVELS),
        metavar="N",
        help="levels to write: 1 kernels, 2 blocks, 3 decoder layers (default: 1 2 3)",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the file would change")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the manifest, or compare it with the file; return the exit status."""
    shipped = shipped_configs(manifests_directory() / "models")
    configs = _configs(args.config, shipped)
    text = generate(configs, tps=sorted(set(args.tp)), options=_options(args), levels=args.level)
    output: Path | None = args.output or (None if args.config else default_path())
    manifest = parse_manifest(text, output or Path("generated manifest"))
    if args.check:
        if output is None:
            raise ManifestError("--check needs --output where --config is given: there is no file to compare with")
        return _check(text, output)
    if output is None:
        sys.stdout.write(text)
        return 0
    try:
        write_whole(output, text.encode())
    except OSError as error:
        raise ManifestError(f"{shown(output)}: cannot be written: {error.strerror}") from error
    print(f"{shown(output)}: {summary(manifest)}")
    return 0


def summary(manifest: Manifest) -> str:
    """Return the manifest's counts."""
    models, operators, entries = len(manifest.models), len(manifest.operators), len(manifest.entries)
    return f"models {models}, operators {operators}, entries {entries}, scenarios {len(manifest.scenarios())}"


def _configs(sources: Sequence[str], shipped: list[ModelConfig]) -> list[ModelConfig]:
    return [find_config(source, shipped) for source in sources] if sources else shipped


def _options(args: argparse.Namespace) -> str:
    """Return the options that make this very text, for its header."""
    given = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shlex.join(args.config))
    words = [f" --config {given}"] if args.config else []
    if args.tp != list(TP_DEGREES):
        words.append(f" --tp {' '.join(str(tp) for tp in args.tp)}")
    if sorted(set(args.level)) != list(LEVELS):
        words.append(f" --level {' '.join(str(level) for level in sorted(set(args.level)))}")
    return "".join(words)


def _check(text: str, output: Path) -> int:
    try:
        there = output.read_text(encoding="utf-8")
    except OSError as error:
        raise ManifestError(f"{shown(output)}: cannot be read: {error.strerror}") from error
    if there == text:
        print(f"{shown(output)}: up to date")
        return 0
    lines = list(difflib.unified_diff(there.splitlines(), text.splitlines(), "file", "generated", n=1, lineterm=""))
    print(f"{shown(output)}: not what its configs give; regenerate it, or change the configs", file=sys.stderr)
    print("\n".join(lines[:SHOWN_LINES]), file=sys.stderr)
    return 1


def _tp_degree(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
