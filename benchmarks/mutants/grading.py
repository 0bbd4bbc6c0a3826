"""Grades mutants as a user's candidates are graded, several at once."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from benchmarks.mutants.mutant import LEVELS, Mutant
from benchmarks.mutants.scenarios import graded_by
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.results import Verdict

ENDED = (
    Verdict.SYNTAX_ERROR, Verdict.MISSING_CLASS, Verdict.WRONG_SIGNATURE, Verdict.IMPORT_ERROR, Verdict.INIT_ERROR,
    Verdict.WRONG_WEIGHTS, Verdict.FORWARD_ERROR, Verdict.OUT_OF_MEMORY, Verdict.LIMIT_EXCEEDED, Verdict.CRASHED,
    Verdict.HUNG, Verdict.EXITED, Verdict.NO_RESULT,
)  # fmt: skip
"""Verdicts on mutants that do not even run: they say little of a judge."""


@dataclass(frozen=True)
class Graded:
    """What the grader said of one mutant."""

    module: str
    """The module that was changed."""
    kind: str
    """What is wrong with it."""
    change: str
    """Where, before and after."""
    origin: str
    """`generic`, `domain` or `copy`."""
    verdict: str
    """The first that is not `passed`; `passed` where it survived every scenario."""
    scenario: str
    """Address of the scenario that found it, or of the last."""
    message: str
    """What the grader said."""
    scenarios: int
    """Scenarios graded."""
    sha256: str = ""
    """Hash of the mutant's text."""

    @property
    def id(self) -> str:
        """The mutant's name."""
        return f"{self.module} {self.change}"

    @property
    def level(self) -> int:
        """Level of its module."""
        return int(self.module[1])

    @property
    def survived(self) -> bool:
        """Whether it passed every scenario."""
        return self.verdict == Verdict.PASSED

    @property
    def ended(self) -> bool:
        """Whether it did not even run."""
        return self.verdict in ENDED

    @property
    def ungraded(self) -> bool:
        """Whether the harness and not the mutant failed."""
        return self.verdict == Verdict.TASK_INVALID


def grade(grader: KernelGrader, directory: Path, mutant: Mutant) -> Graded:
    """Grade one mutant, alone in the grader's directory, until a scenario is not passed."""
    for level in LEVELS:
        shutil.rmtree(directory / f"L{level}", ignore_errors=True)
    path = directory / mutant.path
    path.parent.mkdir(parents=True)
    path.write_text(mutant.source)
    for number, scenario in enumerate(graded_by(mutant.module), start=1):  # noqa: B007  the last is kept
        result = grader.grade(scenario)
        if mutant.module not in result.replaced:
            raise AssertionError(f"{scenario.id} does not run {mutant.module}, but {', '.join(result.replaced) or '-'}")
        if result.verdict != Verdict.PASSED:
            break
    return Graded(mutant.module, mutant.kind, mutant.change, mutant.origin, str(result.verdict),
                  scenario.id, " ".join(result.message.split())[:200], number, mutant.sha256)


def grade_all(mutants: Sequence[Mutant], settings: GraderSettings, jobs: int) -> Iterator[Graded]:
    """Grade with `jobs` graders at once; yields as they are done."""
    with ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        free: SimpleQueue[tuple[KernelGrader, Path]] = SimpleQueue()
        for _ in range(jobs):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-")))
            (directory / "L1").mkdir()
            free.put((stack.enter_context(KernelGrader(replace(settings, candidates_dir=directory))), directory))

        def work(mutant: Mutant) -> Graded:
            grader, directory = free.get()
            try:
                return grade(grader, directory, mutant)
            finally:
                free.put((grader, directory))

        waiting = [pool.submit(work, mutant) for mutant in mutants]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            for job in waiting:
                job.cancel()
