"""`fastkernels capture-golden`: records what the operators of a running model are called with."""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fastkernels.bench.kernels.settings import DEVICES, resolve_device
from fastkernels.errors import ManifestError, ModelError, SelectionError, did_you_mean, one_of, shown
from fastkernels.manifest.config import ModelConfig
from fastkernels.manifest.generate import build_manifest, shipped_configs
from fastkernels.manifest.loader import load_manifest, manifests_directory
from fastkernels.manifest.reader import read_config, short_name

LOAD_FORMATS = ("auto", "dummy")
PROGRESS_S = 10.0
"""Seconds between lines of progress where they go to no terminal."""


def add_parser(subparsers: Any) -> None:
    """Add the command to an argparse subparsers object."""
    parser = subparsers.add_parser(
        "capture-golden",
        allow_abbrev=False,
        help="record structured inputs of operators from a model run",
        description="Run random requests through a model and record the structured inputs of its operators: positions, "
        "slots, block tables, sequence lengths, token ids, router logits, chosen experts. Writes safetensors files, "
        "golden.json, which lists them, and golden.yaml, a manifest that is graded on them. Other float inputs are "
        "not stored. With TP over 1 the data is rank 0's.",
    )
    parser.add_argument("--model", required=True, metavar="M_OR_DIR",
                        help="directory with config.json and weights, or a Hugging Face id; with --load-format dummy "
                             "also the short name of a shipped config: llama31-8b")  # fmt: skip
    parser.add_argument("--tp", type=_count, default=1, metavar="N",
                        help="tensor parallel degree, one process a rank (default: 1)")  # fmt: skip
    parser.add_argument("--num-requests", type=_count, default=10, metavar="N",
                        help="requests of random lengths (default: 10)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=42, metavar="N",
                        help="seed of the requests, and of dummy weights (default: 42)")  # fmt: skip
    parser.add_argument("--load-format", choices=LOAD_FORMATS, default="auto",
                        help="auto: the model's weights; dummy: random ones (default: auto)")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="directory to write, new or empty (default: golden/MODEL-tpN)")  # fmt: skip
    parser.add_argument("--op", nargs="+", action="extend", default=[], metavar="OP",
                        help="operators to record (default: every one with structured inputs)")  # fmt: skip
    parser.add_argument("--device", choices=DEVICES, default="auto",
                        help="where to run the model; auto: CUDA where there is any (default: auto)")  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Capture, and print what there is; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        directory, config = _find(args.model, args.load_format, Path(folder))
        output: Path = args.output or Path("golden") / f"{config.name}-tp{args.tp}"
        if output.is_file() or (output.is_dir() and any(output.iterdir())):
            raise ModelError(f"--output: {shown(output)} is not empty; name a new directory, or remove it")
        _check_operators(config, args.tp, args.op)
        _capture(args, directory, config, output)
    _tell(output)
    return 0


def _find(source: str, load_format: str, folder: Path) -> tuple[Path, ModelConfig]:
    """The model's directory and config; for a shipped config `folder` becomes that directory."""
    from fastkernels.engine.hub import find_model

    if not Path(source).exists():
        models = manifests_directory() / "models"
        shipped = {name: config for config in shipped_configs(models) for name in (config.name, config.model_id)}
        config = next((config for name, config in shipped.items() if name.lower() == source.lower()), None)
        if config is not None and load_format == "dummy":
            shutil.copy(models / f"{config.name}.json", folder / "config.json")
            return folder, config
        if config is not None:
            return find_model(config.model_id), config
        if "/" not in source:
            raise ModelError(f"--model {source}: no such directory, no shipped model and no Hugging Face id "
                             f"(OWNER/NAME){did_you_mean(source, shipped)}")
    directory = find_model(source, with_weights=load_format != "dummy")
    if Path(source).exists():
        return directory, read_config(directory)
    return directory, read_config(directory, name=short_name(source), model_id=source)


def _check_operators(config: ModelConfig, tp: int, operators: list[str]) -> None:
    """SelectionError for an operator that has nothing to record in this model."""
    from fastkernels.engine.golden_entries import structured_entries

    try:
        manifest = build_manifest([config], [tp])
    except ManifestError as error:
        raise ModelError(f"--tp: {error}") from error
    found = structured_entries(manifest).values()
    known = [name for name in manifest["operators"] if any(e.operator == name for group in found for e in group)]
    for operator in operators:
        if operator not in known:
            raise SelectionError(f"--op: operators with structured inputs: {one_of(operator, known)}")


def _capture(args: argparse.Namespace, directory: Path, config: ModelConfig, output: Path) -> None:
    from fastkernels.engine.golden import Capture
    from fastkernels.engine.ranks import run_ranks

    capture = Capture(directory, config, args.num_requests, args.seed, args.load_format, args.tp, tuple(args.op))
    run_ranks(_on_rank, args.tp, resolve_device(args.device), capture, output)


def _on_rank(device: Any, capture: Any, output: Path) -> None:
    from fastkernels.engine.golden import record, write
    from fastkernels.runtime.parallel import tp_group

    first = tp_group().rank == 0
    progress = Progress(silent=not first)
    recorded = record(capture, device, progress.show)
    progress.end()
    if first:
        write(capture, recorded, output)
        for reason, count in sorted(recorded.left_out.items()):
            print(f"not kept: {count} {'call' if count == 1 else 'calls'} of {reason}")


class Progress:
    """One line on standard error that is written anew; a line now and then where that is no terminal."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._last_s = 0.0

    def show(self, text: str) -> None:
        """Say what runs."""
        now = time.monotonic()
        if self._silent:
            return
        if sys.stderr.isatty():
            print(f"\r\033[Kcapture-golden: {text}", end="", file=sys.stderr, flush=True)
        elif now - self._last_s >= PROGRESS_S:
            print(f"capture-golden: {text}", file=sys.stderr, flush=True)
            self._last_s = now

    def end(self) -> None:
        """Take the line away."""
        if not self._silent and sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _tell(output: Path) -> None:
    """Read everything back, which checks it, and print a table."""
    from fastkernels.engine.golden import MANIFEST
    from fastkernels.manifest.golden import INDEX, read_index

    load_manifest(output / MANIFEST)
    index = read_index(output / INDEX)
    counts = Counter(record.operator for record in index.records)
    width = max(map(len, counts))
    for operator, count in counts.items():
        records = [record for record in index.records if record.operator == operator]
        stored = sorted({name for record in records for name, value in record.inputs.items() if value.stored})
        print(f"{operator.ljust(width)}  {count:3} {'record ' if count == 1 else 'records'}  {', '.join(stored)}")
    size = sum(file.bytes for file in index.files.values())
    print(f"{shown(output)}: {len(index.records)} records of {len(index.passes)} passes, {size / 2**20:.1f} MiB")
    print(f"Grade on them: pytest --fk-level=1 --fk-manifest={shown(output / MANIFEST)}")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
