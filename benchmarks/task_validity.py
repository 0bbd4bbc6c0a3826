"""Asks of every distinct task of the manifest whether it can tell right from wrong, and prints what was found.

    PYTHONPATH=. python3 benchmarks/task_validity.py [--op rms_norm] [--level 1] [--output task-validity.jsonl]

A distinct task is one (operator, init arguments, inputs) at 5 tokens, or at 1 where 1 is listed (17 where four prompts
are packed): the check takes no more, so that scenarios which differ in larger token counts only are one task.
Exit status 1 where anything was found.
"""

import argparse
import gc
import importlib
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.task_movement import examine, tokens_of
from fastkernels.bench.grade import clear_choices, randomise_weights
from fastkernels.bench.isolate.build import build
from fastkernels.bench.kernels import limits
from fastkernels.errors import one_of
from fastkernels.manifest import Scenario, Selection, load_manifest
from fastkernels.runtime.parallel import MirroredRank, set_tp_group
from fastkernels.runtime.weights import finish_weights

Tasks = dict[str, tuple[Scenario, int]]
"""Distinct tasks by key, with the number of scenarios that each stands for."""

MAX_MB = 700.0
"""Weights of a task, above which it is skipped unless --max-mb says otherwise."""

ROWS = 1024
"""Outputs of a matrix a rank, at most: each is a dot product with a row of its own, so that fewer ask the same."""

COLUMNS = 256
"""Width of an embedding's rows, at most: a lookup treats every column alike."""

COLLECTED_MB = 1000.0
"""A module of more than this is freed before the next is built; references go in circles."""

PROGRESS_S = 10.0
"""Seconds between two lines of progress."""


def shrunk(scenario: Scenario) -> Scenario:
    """The same task with fewer outputs, where these do not depend on each other; else the task itself."""
    init: dict[str, Any] = dict(scenario.init)
    ranks = scenario.tp if scenario.level > 1 or scenario.op.endswith("parallel_linear") else 1
    if scenario.op in ("linear", "moe_grouped_gemm", "row_parallel_linear", "replicated_linear",
                       "column_parallel_linear"):
        init["output_size"] = min(init["output_size"], ROWS * ranks)
    elif scenario.op == "merged_column_parallel_linear":
        init["output_sizes"] = [min(size, ROWS * ranks) for size in init["output_sizes"]]
    elif scenario.op in ("embedding", "vocab_parallel_embedding"):
        init["embedding_dim"] = min(init["embedding_dim"], COLUMNS)
    elif scenario.op == "parallel_lm_head":
        init["num_embeddings"] = min(init["num_embeddings"], ROWS * scenario.tp)
    return replace(scenario, init=init)


def tasks_of(scenarios: Iterable[Scenario]) -> Tasks:
    """Distinct tasks by key, operators in turn and the light before the heavy: a run cut short has seen most kinds."""
    found: dict[str, Scenario] = {}
    counts: Counter[str] = Counter()
    for scenario in scenarios:
        least = shrunk(replace(scenario, golden=None, tokens=tokens_of(scenario)))
        found.setdefault(least.shape_key, least)
        counts[least.shape_key] += 1
    turn: Counter[str] = Counter()
    order = []
    for key, task in sorted(found.items(), key=lambda item: _megabytes(item[1])):
        turn[task.op] += 1
        order.append((turn[task.op] + _megabytes(task), key))
    return {key: (found[key], counts[key]) for _, key in sorted(order)}


def _megabytes(task: Scenario) -> float:
    return (limits.weight_bytes(task) + limits.input_bytes(task)) / 1e6


def too_heavy(task: Scenario, most_mb: float) -> str:
    """Why a task is not checked here, or ''."""
    weights = limits.weight_bytes(task) / 1e6
    return f"over {most_mb:g} MB of weights" if weights > most_mb else ""


def check(task: Scenario, device: torch.device) -> dict[str, Any]:
    """Build a task's baseline with random weights and examine it."""
    with set_tp_group(MirroredRank(task.rank, task.tp)):
        module = importlib.import_module(f"fastkernels.tasks.baseline.{task.relative_module}")
        built = build(getattr(module, task.class_name), task, device)
        randomise_weights(built, 3)
        clear_choices(built, task, 4)
        finish_weights(built)
        return examine(built, task, device)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run by key; ValueError where a line is none of its rows."""
    rows: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), start=1):
        try:
            row = json.loads(line)
            rows[row["key"]] = row
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: no row of this script: {line[:80]!r}; name another --output") from error
    return rows


def report(tasks: Tasks, rows: Mapping[str, Mapping[str, Any]]) -> int:
    """Print the table, what was skipped and what was found; returns the number of findings."""
    rows = {key: row for key, row in rows.items() if key in tasks}
    by_op: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for key, (task, _) in tasks.items():
        by_op[task.op].append(rows.get(key, {"skipped": "not reached yet"}))
    print("| operator | tasks | checked | skipped | least movement, elements | by any rule | findings |")
    print("|---|---|---|---|---|---|---|")
    for op, found in by_op.items():
        done = [row for row in found if not row.get("skipped")]
        moves = [(*moved, name) for row in done for name, moved in row["moves"].items()]
        least, _, name = min(moves, default=(0.0, 0.0, "-"))
        scale, _, beside = min(((max(a, b), a, name) for a, b, name in moves), default=(0.0, 0.0, "-"))
        findings = sum(bool(row["findings"]) for row in done)
        print(f"| {op} | {len(found)} | {len(done)} | {len(found) - len(done)} | "
              f"{least:.3g} ({name}) | {scale:.3g} ({beside}) | {findings} |")
    skipped = Counter(row["skipped"] for found in by_op.values() for row in found if row.get("skipped"))
    for reason, count in skipped.items():
        print(f"skipped: {count} tasks: {reason}")
    wrong = [row for row in rows.values() if row.get("findings")]
    kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in wrong:
        for finding in row["findings"]:
            kinds[row["op"], finding.partition(" = ")[0]].append(row["id"])
    for (op, finding), ids in kinds.items():
        print(f"found: {op}: {finding}: {len(ids)} tasks, such as {ids[0]}")
    scenarios = sum(count for _, count in tasks.values())
    covered = sum(count for key, (_, count) in tasks.items() if key in rows and not rows[key].get("skipped"))
    fixed = Counter(f"{row['op']} {name}" for row in rows.values() for name in row.get("fixed", ()))
    print(f"inputs that their generator draws alike at this size, not asked: {sum(fixed.values())} in "
          f"{len(fixed)} places: {', '.join(fixed)}")
    print(f"{len(tasks)} distinct tasks of {scenarios} scenarios; checked tasks stand for {covered}; "
          f"{len(wrong)} tasks with findings; {sum(r.get('seconds', 0.0) for r in rows.values()):.0f} s")
    return len(wrong)


def run(tasks: Tasks, options: argparse.Namespace, rows: dict[str, dict[str, Any]]) -> None:
    """Check what `rows` lacks and append it to the output; stops after --minutes."""
    device, started, told = torch.device(options.device), time.monotonic(), 0.0
    with options.output.open("a") as log:
        for number, (key, (task, _)) in enumerate(tasks.items(), start=1):
            if key in rows and not rows[key].get("skipped"):
                continue
            if time.monotonic() - started > options.minutes * 60:
                print(f"stopped after {options.minutes:g} minutes; the same command goes on", flush=True)
                return
            row: dict[str, Any] = {"key": key, "id": task.id, "op": task.op}
            reason = too_heavy(task, options.max_mb)
            begin = time.monotonic()
            row |= {"skipped": reason} if reason else check(task, device)
            if _megabytes(task) > COLLECTED_MB:
                gc.collect()
            row["seconds"] = round(time.monotonic() - begin, 3)
            rows[key] = row
            log.write(json.dumps(row) + "\n")
            log.flush()
            if time.monotonic() - told > PROGRESS_S or row.get("findings"):
                told = time.monotonic()
                print(f"{number}/{len(tasks)} {told - started:.0f} s {task.id} {'; '.join(row.get('findings', ()))}",
                      file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; a word that is none ends the run with what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", nargs="*", default=(), help="operators (default: all)")
    parser.add_argument("--level", nargs="*", type=int, default=(), help="levels, 1 to 4 (default: all)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default %(default)s")
    parser.add_argument("--max-mb", type=float, default=MAX_MB,
                        help="weights of a task in MB, above which it is skipped and counted (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after this time (default: none)")
    parser.add_argument("--output", type=Path, default=Path("task-validity.jsonl"),
                        help="one JSON line a task; what it holds is not checked again (default %(default)s)")
    options = parser.parse_args(arguments)
    known = {scenario.op for scenario in load_manifest().scenarios(Selection())}
    for op in options.op:
        if op not in known:
            parser.error(f"--op: {one_of(op, sorted(known))}")
    for level in options.level:
        if level not in (1, 2, 3, 4):
            parser.error(f"--level: {one_of(level, (1, 2, 3, 4))}")
    return options


def main() -> None:
    """Check and report."""
    options = parse()
    selection = Selection(targets=tuple(options.op), levels=tuple(options.level))
    tasks = tasks_of(load_manifest().scenarios(selection))
    try:
        rows = read(options.output)
    except ValueError as error:
        sys.exit(str(error))
    run(tasks, options, rows)
    sys.exit(1 if report(tasks, rows) else 0)


if __name__ == "__main__":
    main()
