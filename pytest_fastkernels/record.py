"""What a run has found so far, gathered in the only process or in xdist's controller."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastkernels.results import LeftOut, ScenarioResult, Verdict, to_json
from fastkernels.results.files import result_adapter
from fastkernels.results.text import plain

if TYPE_CHECKING:
    from fastkernels.manifest import Scenario

NOT_REACHED = "not reached: the run ended before it"


def to_wire(results: Iterable[ScenarioResult]) -> list[dict[str, Any]]:
    """Plain lists, dicts, strings and numbers, which is what xdist carries from a worker to the controller."""
    data: list[dict[str, Any]] = json.loads(json.dumps([to_json(result) for result in results]))
    return data


def from_wire(data: Iterable[Mapping[str, Any]]) -> list[ScenarioResult]:
    """Read `to_wire`'s data."""
    return [result_adapter().validate_python(fields) for fields in data]


def lost(scenario: "Scenario", why: str, error: str = "", **more: Any) -> ScenarioResult:
    """Make the result of a scenario whose grading itself broke, so that none is missing.

    why: what pytest reports; error: the exception in it, where it has one.
    """
    why = plain(why)
    last = (plain(error).strip().splitlines()[:1] or why.strip().splitlines()[-1:] or ["no message"])[0]
    return ScenarioResult(
        id=scenario.id, op=scenario.op, level=scenario.level, model=scenario.model, model_id=scenario.model_id,
        tp=scenario.tp, tokens=scenario.tokens, phase=scenario.phase, variant=scenario.variant,
        category=scenario.category, shape_key=scenario.shape_key, verdict=Verdict.NO_RESULT,
        message=f"grading itself broke: {last}", baseline_provider="", evidence=why, **more)


@dataclass
class RunRecord:
    """Results in the order in which they came, and what was expected."""

    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    """UTC time, ISO 8601."""
    clock: float = field(default_factory=time.monotonic)
    """Monotonic seconds at the start."""
    expected: dict[str, "Scenario"] = field(default_factory=dict)
    """Scenarios that are pytest items, by node id, after pytest's own filters."""
    results: list[ScenarioResult] = field(default_factory=list)
    """Everything graded, each address once."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Machine and versions, as the grading process described them."""
    ended: float | None = None
    """Monotonic seconds at the end; None until then."""
    _places: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By address: place among the results, and the test that found it."""

    def add(self, node_id: str, found: Sequence[ScenarioResult]) -> None:
        """Keep what a test has found, in place of what it had found when it ran before.

        Where two tests graded one address, the first stands, but a finding that is not green outranks a green one.
        """
        for result in found:
            if result.id not in self._places:
                self._places[result.id] = len(self.results), node_id
                self.results.append(result)
                continue
            place, before = self._places[result.id]
            if node_id == before or (self.results[place].verdict.ok and not result.verdict.ok):
                self.results[place] = result
                self._places[result.id] = place, node_id

    def expect(self, node_ids: Iterable[str], scenarios: Mapping[str, "Scenario"]) -> None:
        """Note which of these node ids are scenarios."""
        for node_id in node_ids:
            address = node_id.split("@", 1)[0]  # xdist's loadgroup appends @group
            if address in scenarios:
                self.expected[node_id] = scenarios[address]

    @property
    def graded(self) -> set[str]:
        """Addresses that have a result."""
        return {result.id for result in self.results}

    def not_reached(self) -> list[LeftOut]:
        """Expected scenarios without a result."""
        graded = self.graded
        return [LeftOut(s.id, NOT_REACHED) for s in self.expected.values() if s.id not in graded]

    def end(self) -> None:
        """Stop the clock: what is done with the results takes time too."""
        self.ended = time.monotonic()

    @property
    def wall_s(self) -> float:
        """Seconds since the start, at the end those of the run."""
        return (time.monotonic() if self.ended is None else self.ended) - self.clock
