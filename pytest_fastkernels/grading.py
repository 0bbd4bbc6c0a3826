"""What grades scenarios in this process: the library's KernelGrader, or another that a plugin puts in its place."""

from typing import TYPE_CHECKING, Any, Protocol

from fastkernels.manifest import Scenario
from fastkernels.results import LeftOut, ScenarioResult

if TYPE_CHECKING:
    from pytest_fastkernels.session import FkSession


class Grader(Protocol):
    """Grades scenarios; made before collection, starts its processes at the first `grade`."""

    device: str
    """`cpu` or `cuda`, once `auto` is resolved."""

    def left_out(self, scenario: Scenario) -> LeftOut | None:
        """Why this machine does not grade the scenario unless it is asked for by token count; None if it does."""

    def grade(self, scenario: Scenario) -> ScenarioResult:
        """Grade one scenario; never raises for what a candidate does."""

    def environment(self) -> dict[str, Any]:
        """Machine, device and versions."""

    def close(self) -> None:
        """End every process."""


def make_grader(fk: "FkSession") -> Grader:
    """Ask other plugins for a grader, then take the library's own."""
    grader: Grader | None = fk.config.hook.pytest_fastkernels_grader(session=fk)
    return grader or _library_grader(fk)


def _library_grader(fk: "FkSession") -> Grader:
    raise NotImplementedError
