"""The hooks that the plugin itself calls."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_fastkernels.grading import Grader
    from pytest_fastkernels.session import FkSession


@pytest.hookspec(firstresult=True)
def pytest_fastkernels_grader(session: "FkSession") -> "Grader | None":
    """Return what grades scenarios in this process, or None for the library's own grader."""
