"""pytest's view of scenarios: one collector per operator, one item per scenario, no test file."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from fastkernels.results import ScenarioResult

if TYPE_CHECKING:
    from fastkernels.manifest import Scenario
    from pytest_fastkernels.session import FkSession

RESULTS: pytest.StashKey[list[ScenarioResult]] = pytest.StashKey()
"""Results that an item has produced, on the item's stash."""


class OperatorNode(pytest.Collector):
    """The selected scenarios of one operator."""

    fk: "FkSession"
    scenarios: "list[Scenario]"

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per scenario; its node id is the scenario's address."""
        for scenario in self.scenarios:
            item = ScenarioItem.from_parent(self, name=scenario.id, nodeid=scenario.id)
            item.fk, item.scenario = self.fk, scenario
            item.add_marker(pytest.mark.fastkernels(op=scenario.op, level=scenario.level, model=scenario.model,
                                                    tp=scenario.tp, tokens=scenario.tokens, phase=scenario.phase))
            yield item


class ScenarioItem(pytest.Item):
    """Grades one scenario."""

    fk: "FkSession"
    scenario: "Scenario"

    def runtest(self) -> None:
        """Grade the scenario; fails with the finding unless it passed, with its gates where they are required."""
        check(self.fk.grade(self, self.scenario), self.fk.settings.require_gates)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Where grading itself breaks, the way there in a line each, unless --tb asks for another style."""
        return super().repr_failure(excinfo, "short" if self.config.getoption("tbstyle", "auto") == "auto" else style)

    def reportinfo(self) -> tuple[str, None, str]:
        """The manifest stands for a test file."""
        return str(self.fk.plan.manifest), None, self.name


def check(result: ScenarioResult, require_gates: bool = False) -> None:
    """Fail the running test unless the scenario passed; the message holds the finding and how to reproduce it.

    require_gates: a deployment gate that was tried must have been passed too.
    """
    __tracebackhide__ = True
    if not result.verdict.ok or (require_gates and any(gate.failed for gate in result.gates.values())):
        from pytest_fastkernels.failure import failure_text

        pytest.fail(failure_text(result), pytrace=False)


def uses_grading(item: pytest.Item) -> bool:
    """Whether a test of the user's own asks for scenarios or grades them."""
    return not {"fk_scenario", "fk_grade"}.isdisjoint(getattr(item, "fixturenames", ()))


def is_graded(item: pytest.Item) -> bool:
    """Whether the item grades: a scenario, or a test of the user's own."""
    return isinstance(item, ScenarioItem) or uses_grading(item)


def collect_scenarios(session: pytest.Session, fk: "FkSession", scenarios: "Iterable[Scenario]") -> list[pytest.Item]:
    """Build the items under `session`, firing the hooks that pytest fires for collectors of its own."""
    from fastkernels.manifest import collector_paused

    with collector_paused():
        return _collect(session, fk, scenarios)


def _collect(session: pytest.Session, fk: "FkSession", scenarios: "Iterable[Scenario]") -> list[pytest.Item]:
    by_op: dict[str, list[Scenario]] = {}
    for scenario in scenarios:
        by_op.setdefault(scenario.op, []).append(scenario)
    items: list[pytest.Item] = []
    for op, group in by_op.items():
        node = OperatorNode.from_parent(session, name=op, nodeid=op)
        node.fk, node.scenarios = fk, group
        node.ihook.pytest_collectstart(collector=node)
        report: pytest.CollectReport = node.ihook.pytest_make_collect_report(collector=node)
        node.ihook.pytest_collectreport(report=report)
        for item in report.result:
            assert isinstance(item, pytest.Item)
            node.ihook.pytest_itemcollected(item=item)
            items.append(item)
    return items
