"""pytest-timeout: its limit on a test ends a candidate that is waited for then, with a verdict, and not the run."""

from typing import TYPE_CHECKING, Any

import pytest

from pytest_fastkernels.items import is_graded

if TYPE_CHECKING:
    from pytest_fastkernels.session import FkSession

GRACE_S = 10.0
"""Seconds that grading has to come to its end after the limit, before pytest-timeout fails the test or ends the run."""


class TimeoutBridge:
    """Hooks that pytest-timeout offers; without it they are never called."""

    def __init__(self, fk: "FkSession") -> None:
        self.fk = fk
        self.passes_on = False

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        """Give the grader the limit; pytest-timeout's own timer follows later, for a grader that does not end."""
        from fastkernels.bench.kernels import KernelGrader

        if self.passes_on or not is_graded(item) or not isinstance(self.fk.grader, KernelGrader):
            return None
        self.fk.grader.deadline.set(settings.timeout, f"the test's limit of {settings.timeout:g} s (pytest-timeout)")
        self.passes_on = True
        try:
            later = settings._replace(timeout=settings.timeout + GRACE_S)
            return bool(item.config.hook.pytest_timeout_set_timer(item=item, settings=later))
        finally:
            self.passes_on = False

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_cancel_timer(self) -> None:
        """Lift the limit."""
        if self.fk.opened is None:
            return
        from fastkernels.bench.kernels import KernelGrader

        if isinstance(self.fk.opened, KernelGrader):
            self.fk.opened.deadline.clear()
