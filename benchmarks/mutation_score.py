"""The mutation score of the grader: how many wrong versions of the baseline's own operators it finds.

    PYTHONPATH=. python3 benchmarks/mutation_score.py --output docs/results/mutation-score.json
    PYTHONPATH=. python3 benchmarks/mutation_score.py --op rms_norm --level 1

Every mutant is a candidate file with one thing wrong (benchmarks/mutants), graded by the public library on small
scenarios of real models until one of them is not passed. Before, an unchanged copy of each file is graded and must pass
on all of them. Exit status 1 where a copy fails, something cannot be graded, a mutant survives that no table explains,
or one survives no more that the table says does. With --log a run that was cut short goes on where it stopped.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.mutants import table
from benchmarks.mutants.domain import domain_mutants
from benchmarks.mutants.generic import generic_mutants, thinned
from benchmarks.mutants.grading import Graded, grade_all
from benchmarks.mutants.mutant import LEVELS, Mutant, different, read_baseline
from benchmarks.mutants.scenarios import graded_by
from fastkernels.bench.kernels import GraderSettings
from fastkernels.bench.timing import describe_environment
from fastkernels.errors import FastKernelsError, one_of
from fastkernels.registry import baseline_root

TIMEOUT_S = 30.0
"""Longest that a mutant may take for one request."""

PROGRESS_S = 15.0
"""Seconds between two lines of progress."""


def modules() -> list[str]:
    """Modules of the baseline that some scenario grades: operators, and what they share."""
    found = (path for level in LEVELS for path in sorted((baseline_root() / f"L{level}").glob("*.py")))
    names = (f"{path.parent.name}.{path.stem}" for path in found if path.stem != "__init__")
    return [name for name in names if graded_by(name)]


def mutants_of(wanted: Sequence[str], device: str, every: bool) -> list[Mutant]:
    """Mutants of these modules whose code runs on this device, each text once."""
    made: list[Mutant] = [mutant for mutant in domain_mutants() if mutant.module in wanted]
    for module in wanted:
        by_rule = different(generic_mutants(module))
        made += by_rule if every else thinned(by_rule)
    return [mutant for mutant in different(made) if device in mutant.devices]


def copies_of(wanted: Sequence[str]) -> list[Mutant]:
    """Unchanged files, which must pass."""
    return [Mutant(module, "unchanged", "unchanged", read_baseline(module).decode(), "copy") for module in wanted]


def run(mutants: Sequence[Mutant], options: argparse.Namespace, name: str) -> list[Graded]:
    """Grade and print progress to stderr; in the order of the mutants."""
    settings = GraderSettings(device=options.device, seed=options.seed, timing=False, gates=("none",),
                              timeout_s=TIMEOUT_S)
    started = told = time.monotonic()
    found = read_log(options.log, mutants)
    for graded in grade_all([mutant for mutant in mutants if mutant.id not in found], settings, options.jobs):
        found[graded.id] = graded
        if options.log:
            with options.log.open("a") as log:
                log.write(json.dumps(asdict(graded)) + "\n")
        now = time.monotonic()
        if now - told > PROGRESS_S or len(found) == len(mutants):
            told = now
            survived = sum(g.survived for g in found.values())
            print(f"{name}: {len(found)}/{len(mutants)}, passed {survived}, {now - started:.0f} s", file=sys.stderr,
                  flush=True)
    return [found[mutant.id] for mutant in mutants]


def read_log(path: Path | None, mutants: Sequence[Mutant]) -> dict[str, Graded]:
    """What an earlier run has found of these very files; ValueError where a line is none of this script's."""
    wanted = {(mutant.id, mutant.sha256) for mutant in mutants}
    found = {}
    for number, line in enumerate(path.read_text().splitlines() if path and path.exists() else (), start=1):
        try:
            graded = Graded(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"--log: {path}:{number}: no row of this script: {line[:80]!r}; name another") from error
        if (graded.id, graded.sha256) in wanted:
            found[graded.id] = graded
    return found


def survivors_in(path: Path) -> set[str]:
    """Names of the mutants that survived in an earlier run; ValueError where the file is none of its outputs."""
    try:
        rows = json.loads(path.read_text())["mutants"]
        return {f"{row['module']} {row['change']}" for row in rows if row["verdict"] == "passed"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--only-survivors: {path} holds no earlier run: {error}") from error


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; a word that is none ends the run with what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", nargs="*", default=(), help="files: rms_norm, _attention_block (default: all)")
    parser.add_argument("--level", nargs="*", type=int, default=(), help="levels, 1 to 3 (default: all)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"),
                        help="cuda: kernels instead of the native paths of level 1 (default %(default)s)")
    parser.add_argument("--every", action="store_true",
                        help="all mutants by rule, not only some of each module that has many")
    parser.add_argument("--only-survivors", type=Path, metavar="FILE", help="only what survived in this earlier output")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="graders at once (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and inputs (default %(default)s)")
    parser.add_argument("--log", type=Path, help="JSON lines, added to as mutants are graded; what it holds is kept")
    parser.add_argument("--list", action="store_true", help="print the mutants, grade nothing")
    parser.add_argument("--output", type=Path, help="JSON file with every mutant's verdict")
    options = parser.parse_args(arguments)
    known = sorted({module.partition(".")[2] for module in modules()})
    for op in options.op:
        if op not in known:
            parser.error(f"--op: {one_of(op, known)}")
    for level in options.level:
        if level not in LEVELS:
            parser.error(f"--level: {one_of(level, LEVELS)}")
    if options.jobs < 1:
        parser.error(f"--jobs: {options.jobs} is not 1 or more")
    return options


def selected(options: argparse.Namespace) -> list[str]:
    """Modules that the options name."""
    found = [module for module in modules() if (not options.op or module.partition(".")[2] in options.op)
             and (not options.level or int(module[1]) in options.level)]
    if not found:
        raise ValueError(f"no module {', '.join(options.op)} at level {', '.join(map(str, options.level))}")
    return found


def written(options: argparse.Namespace, mutants: Sequence[Graded], copies: Sequence[Graded],
            wall_s: float, from_log: int) -> dict[str, Any]:  # fmt: skip
    """The output file's content; `from_log` mutants were graded in earlier runs, which `wall_s` leaves out."""
    rows = [{key: value for key, value in asdict(graded).items() if value != "" and key != "sha256"}
            for graded in mutants]
    return {"command": shlex.join(["PYTHONPATH=.", "python3", *sys.argv]), "seed": options.seed,
            "wall_s": round(wall_s), "from_log": from_log, "environment": describe_environment(options.device),
            "summary": table.summary(mutants), "copies": {g.module: g.verdict for g in copies},
            "mutants": rows}  # fmt: skip


def main() -> None:
    """Grade and report."""
    options, started = parse(), time.monotonic()
    # Two graders on two cores: more threads each would only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        wanted = selected(options)
        mutants = mutants_of(wanted, options.device, options.every)
        if options.only_survivors:
            kept = survivors_in(options.only_survivors)
            mutants = [mutant for mutant in mutants if mutant.id in kept]
        if options.list:
            print("\n".join(f"{mutant.origin}, {mutant.kind}: {mutant.id}" for mutant in mutants))
            print(f"{len(mutants)} mutants of {len({mutant.module for mutant in mutants})} files")
            return
        used = [module for module in wanted if any(mutant.module == module for mutant in mutants)]
        from_log = len(read_log(options.log, mutants))
        copies = run(copies_of(used), options, "copies")
        graded = run(mutants, options, "mutants")
    except (ValueError, FastKernelsError) as error:
        sys.exit(f"error: {error}")
    print(table.report(graded))
    problems = table.problems(graded, copies)
    print("\n".join(f"problem: {problem}" for problem in problems))
    if options.output:
        content = written(options, graded, copies, time.monotonic() - started, from_log)
        rows = ",\n".join(json.dumps(row) for row in content.pop("mutants"))
        options.output.write_text(json.dumps(content, indent=1)[:-2] + f',\n "mutants": [\n{rows}\n ]\n}}\n')
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
