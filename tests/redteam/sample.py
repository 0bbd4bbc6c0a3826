"""What CI runs of the red team: a quarter of the files by the commit, and what the last changes touch.

The quarters follow each other from commit to commit of the first parents' line, so that any four consecutive commits
run every file. A file's quarter depends on its name alone: a new file moves no other.
"""

import hashlib
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from redteam.case import CLASSES, HERE, TWINS, Case, CaseError

ROOT = HERE.parents[1]
QUARTERS = 4
SALT = 114
"""Makes the quarters about equal in size, and each class have a file in each quarter."""
EVERYTHING = CLASSES
TIMES = ("clock", "time", "hidden_work", "replay")
TOUCHES: dict[str, tuple[str, ...]] = {
    "fastkernels/bench/grade/": ("numerics", "judge", "effects"),
    "fastkernels/bench/grade/draws.py": ("numerics", "replay"),
    "fastkernels/bench/grade/inputs.py": ("numerics", "replay"),
    "fastkernels/bench/grade/noise.py": ("numerics", "replay"),
    "fastkernels/bench/grade/golden.py": (),
    "fastkernels/bench/grade/task_check.py": (),
    "fastkernels/bench/isolate/": ("process", "reference", "effects"),
    "fastkernels/bench/isolate/arena.py": ("process", "reference", "effects", "judge"),
    "fastkernels/bench/isolate/batch.py": ("hidden_work", "replay"),
    "fastkernels/bench/isolate/bits.py": ("hidden_work", "replay"),
    "fastkernels/bench/isolate/candidate_worker.py": ("process", "reference", "effects", "judge", *TIMES),
    "fastkernels/bench/isolate/compiler_errors.py": (),
    "fastkernels/bench/isolate/gates.py": (),
    "fastkernels/bench/isolate/guarded.py": ("effects",),
    "fastkernels/bench/isolate/late.py": ("hidden_work",),
    "fastkernels/bench/isolate/passthrough.py": ("reference",),
    "fastkernels/bench/isolate/placement.py": TIMES,
    "fastkernels/bench/isolate/poison.py": ("effects", "numerics"),
    "fastkernels/bench/isolate/process.py": ("process", "reference", "judge"),
    "fastkernels/bench/isolate/protocol.py": ("process", "judge"),
    "fastkernels/bench/isolate/providers/": ("reference",),
    "fastkernels/bench/isolate/rank_baseline.py": ("distributed",),
    "fastkernels/bench/isolate/rank_peers.py": ("distributed",),
    "fastkernels/bench/isolate/sections/": ("time", "effects"),
    "fastkernels/bench/isolate/ran_through.py": ("reference",),
    "fastkernels/bench/isolate/reload.py": ("hidden_work",),
    "fastkernels/bench/isolate/service.py": ("process", "reference", "effects", "judge"),
    "fastkernels/bench/isolate/slots.py": ("judge", "replay"),
    "fastkernels/bench/isolate/sweep.py": ("numerics",),
    "fastkernels/bench/isolate/sweep_calls.py": ("numerics",),
    "fastkernels/bench/isolate/sweep_counts.py": ("numerics",),
    "fastkernels/bench/isolate/sweep_plan.py": ("numerics",),
    "fastkernels/bench/isolate/work.py": ("hidden_work", "replay"),
    "fastkernels/bench/kernels/": EVERYTHING,
    "fastkernels/bench/kernels/advice.py": (),
    "fastkernels/bench/kernels/gate_choice.py": (),
    "fastkernels/bench/kernels/gates.py": (),
    "fastkernels/bench/kernels/idle.py": TIMES,
    "fastkernels/bench/kernels/proof.py": TIMES,
    "fastkernels/bench/kernels/rank_group.py": ("distributed",),
    "fastkernels/bench/kernels/ranks.py": ("distributed",),
    "fastkernels/bench/kernels/reproduce.py": (),
    "fastkernels/bench/kernels/sections.py": ("time",),
    "fastkernels/bench/kernels/settle.py": TIMES,
    "fastkernels/bench/kernels/sweep.py": ("numerics",),
    "fastkernels/bench/kernels/timed.py": TIMES,
    "fastkernels/bench/timing/": TIMES,
    "fastkernels/bench/timing/peaks.py": ("clock", "judge"),
    "fastkernels/registry/": ("reference",),
    "fastkernels/results/": ("judge",),
    "fastkernels/runtime/": ("reference", "numerics", "effects"),
    "pytest_fastkernels/": ("judge",),
    "tests/redteam/": EVERYTHING,
    "tests/redteam/cases/": (),     # a changed file runs itself
    "tests/redteam/twins/": (),
    "tests/redteam/sample.py": (),
    "tests/redteam/table.py": (),
    "tests/redteam/test_": (),
}
"""The classes whose adversaries meet the code at a path; the longest path counts, and what is not named meets none."""


@dataclass(frozen=True)
class Choice:
    """Files that are chosen, and the line that says why."""

    cases: tuple[Case, ...]
    """The files."""
    why: str
    """One line or more."""


def sample(cases: Sequence[Case], commit: str) -> Choice:
    """The quarter that is this commit's turn; of a class with no file in there one that the commit's hash chooses."""
    full = _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    if full is None:
        if _git("rev-parse", "HEAD") is None:
            return Choice(tuple(cases), "sample: there is no git history here, so all files are chosen")
        raise CaseError(f"--sample: {commit} is no commit of this repository")
    if _git("rev-parse", "--is-shallow-repository") == "true":
        return Choice(tuple(cases), "sample: this clone is shallow, so that commits cannot be counted and all files "
                                    "are chosen; `git fetch --unshallow` mends it")
    count = int(_git("rev-list", "--count", "--first-parent", full) or 0)
    chosen = quarter(cases, count, full)
    return Choice(chosen, f"sample: {len(chosen)} of {len(cases)} files: quarter {count % QUARTERS + 1} of {QUARTERS}, "
                          f"the turn of commit {full[:12]}, number {count} of the first parents' line")


def quarter(cases: Sequence[Case], count: int, commit: str) -> tuple[Case, ...]:
    """The files of the commit with this number and hash."""
    chosen = [case for case in cases if quarter_of(case.name) == count % QUARTERS]
    for kind in sorted({case.kind for case in cases} - {case.kind for case in chosen}):
        chosen.append(min((case for case in cases if case.kind == kind), key=lambda case: _digest(commit + case.name)))
    return tuple(chosen)


def quarter_of(name: str) -> int:
    """The quarter of a file of this name."""
    return _digest(f"{SALT}{name}")[0] % QUARTERS


def changed(cases: Sequence[Case], base: str) -> Choice:
    """Files that changed since `base` (`auto`: see `base_of`), those of the touched classes, and the twins of these."""
    if _git("rev-parse", "HEAD") is None:
        return Choice(tuple(cases), "changed: there is no git history here, so all files are chosen")
    commit, words = base_of(base)
    listed = _git("diff", "--name-only", commit)
    new = _git("ls-files", "--others", "--exclude-standard", "--full-name", ":/")
    if listed is None or new is None:
        raise CaseError(f"--changed: git cannot compare with {commit}")
    paths = [*listed.splitlines(), *new.splitlines()]
    chosen = touched_files(cases, paths)
    reasons = "; ".join(f"{kind} by {', '.join(why[:2])}{f' and {len(why) - 2} more' if why[2:] else ''}"
                        for kind, why in touched_classes(paths).items())
    return Choice(chosen, f"changed: {len(chosen)} of {len(cases)} files for what changed since {commit[:12]} ({words})"
                          + (f"\n  whole classes: {reasons}" if reasons else ""))


def base_of(base: str) -> tuple[str, str]:
    """The commit to compare with, and what it is.

    `auto` is where HEAD left origin/main. On main itself nothing tells what CI saw last, so there it is the last commit
    that is a day older than HEAD.
    """
    if base != "auto":
        commit = _git("rev-parse", "--verify", "--quiet", f"{base}^{{commit}}")
        if commit is None:
            raise CaseError(f"--changed: {base} is no commit of this repository")
        return commit, base
    fork, head = _git("merge-base", "HEAD", "origin/main"), _git("rev-parse", "HEAD") or ""
    if fork and fork != head:
        return fork, "where HEAD left origin/main"
    newest = int(_git("show", "--no-patch", "--format=%ct", head) or 0)
    day = _git("rev-list", "-1", "--first-parent", f"--before={newest - 24 * 3600}", head)
    if day:
        return day, "the last commit a day before HEAD's"
    oldest = (_git("rev-list", "--first-parent", head) or head).split()[-1]
    return oldest, "the oldest commit here; all are of one day"


def touched_classes(paths: Iterable[str]) -> dict[str, list[str]]:
    """By class: the changed paths that its adversaries meet."""
    found: dict[str, list[str]] = {}
    for path in paths:
        known = [prefix for prefix in TOUCHES if path.startswith(prefix)]
        for kind in TOUCHES[max(known, key=len)] if known else ():
            found.setdefault(kind, []).append(path)
    return dict(sorted(found.items()))


def touched_files(cases: Sequence[Case], paths: Sequence[str]) -> tuple[Case, ...]:
    """Changed files of the red team, those of the touched classes, and the twins of all these."""
    kinds = touched_classes(paths)
    own = [case for case in cases if case.kind in kinds or _inside(case.path) in paths]
    twins = {case.twin for case in own}
    return tuple(case for case in cases if case in own or (case.kind == TWINS and case.name in twins))


def _inside(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _git(*arguments: str) -> str | None:
    """What git says, None where it fails or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
