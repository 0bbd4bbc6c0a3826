"""Grades a scenario of several ranks: each rank's candidate is called at once on a part of its own, and each is judged.

Correctness alone: the two sides cannot be timed in turns, since the trusted one exchanges nothing.
"""

from pathlib import Path

from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.kernels.pipeline import Attempt, Found
from fastkernels.bench.kernels.rank_group import RankGroup
from fastkernels.bench.kernels.settings import GraderSettings
from fastkernels.bench.kernels.workers import CandidateFailedError
from fastkernels.manifest import Scenario


class RanksAttempt:
    """One scenario on its way through the workers of all its ranks."""

    def __init__(self, group: RankGroup, settings: GraderSettings, scenario: Scenario) -> None:
        self.found = Found()
        self._group = group
        self._settings = settings
        self._scenario = scenario
        self._ranks = [Attempt(workers, settings, scenario, self.found) for workers in group.workers]

    def run(self, directory: Path | None, loaded: str) -> Found:
        """Grade the candidates of a directory (see `RankGroup.ready`).

        WorkerError where the harness fails, never an exception for what the candidate does.
        """
        found = self.found
        try:
            with self._ranks[0].share.throughout():
                self._group.ready(directory, loaded)
                self._check()
        except CandidateFailedError as error:
            found.verdict, found.message, found.evidence = error.verdict, error.message, error.evidence
        return found

    def _check(self) -> None:
        scenario, plain = self._scenario, self._scenario.to_dict()
        importing = {"do": "import", "module": scenario.relative_module, "class_name": scenario.class_name}
        self._group.ask([importing for _ in self._ranks])
        self.found.imported = True
        with self._ranks[0].share.on_the_device():
            prepared = [rank.trusted({"do": "prepare", "scenario": plain, "seed": self._settings.seed})
                        for rank in self._ranks]
        self.found.provider = str(prepared[0].get("provider", ""))
        if any(rank.take(reply) for rank, reply in zip(self._ranks, prepared, strict=True)):
            return
        self._group.ask([{"do": "build", "scenario": plain, "weights": reply["weights"], "arenas": reply["arenas"]}
                         for reply in prepared])
        draws = prepared[0]["draws"]
        if any(self._call_and_judge(index, last=index == draws - 1) for index in range(draws)):
            return
        if self._call_and_judge(0, in_order=True):
            self.found.wrong_again()

    def _call_and_judge(self, index: int, last: bool = False, in_order: bool = False) -> bool:
        """Have every rank called on its part of a draw and judged; True where one is wrong."""
        with self._ranks[0].share.on_the_device():
            drawn = [rank.trusted({"do": "draw", "index": index}) for rank in self._ranks]
            answers = self._group.ask([{"do": "call", "inputs": one["inputs"], "arenas": one["arenas"], "last": last,
                                        "in_order": in_order} for one in drawn])
            return any(self._wrong(number, answer, drawn[number]["bytes"]) for number, answer in enumerate(answers))

    def _wrong(self, number: int, answer: Message, input_bytes: int) -> bool:
        rank = self._ranks[number]
        rank.note(answer)
        if answer.get("slots") is None:
            answer = rank.collect(answer, input_bytes)
        wrong = rank.take(rank.trusted({"do": "judge", "answer": answer}))
        if wrong:
            self.found.message = f"rank {number}: {self.found.message}"
        return wrong
