"""Fixtures for tests that users write themselves."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pytest_fastkernels.items import check
from pytest_fastkernels.session import SESSION

if TYPE_CHECKING:
    from fastkernels.manifest import Scenario
    from fastkernels.results import ScenarioResult

HOW_TO_SELECT = ("fk_scenario: nothing to grade: {error}. Select scenarios with --fk-target, --fk-level or --fk-model, "
                 "or give candidates with --fk-candidates=DIR or the ini key fk_candidates")


@pytest.fixture
def fk_scenario(request: pytest.FixtureRequest) -> "Scenario":
    """One scenario; a test that asks for it runs once for each that the --fk-* options select."""
    scenario: Scenario = request.param
    return scenario


@pytest.fixture
def fk_grade(request: pytest.FixtureRequest) -> "Callable[..., ScenarioResult]":
    """Grade a scenario: `fk_grade(fk_scenario)` returns its ScenarioResult and fails the test unless it passed.

    `fk_grade(fk_scenario, check=False)` leaves the judgement of a bad verdict to the test.
    """
    item: pytest.Item = request.node
    fk = request.config.stash[SESSION]
    judge = check

    def grade(scenario: "Scenario", check: bool = True) -> "ScenarioResult":
        result = fk.grade(item, scenario)
        if check:
            judge(result, fk.settings.require_gates)
        return result

    return grade


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Spread a test that asks for fk_scenario over the scenarios to grade."""
    if "fk_scenario" not in metafunc.fixturenames:
        return
    fk = metafunc.config.stash[SESSION]
    try:
        plan = fk.plan
    except pytest.UsageError as error:
        pytest.fail(HOW_TO_SELECT.format(error=str(error).rstrip(".")), pytrace=False)
    if plan.self_test and not fk.settings.selects:  # in a suite of other tests, run without a word of kernels
        reason = HOW_TO_SELECT.format(error="there is no candidate")
        metafunc.parametrize("fk_scenario", [pytest.param(None, marks=pytest.mark.skip(reason=reason))],
                             ids=["none"], indirect=True)
        return
    scenarios = plan.graded
    metafunc.parametrize("fk_scenario", scenarios, ids=[f"{s.op}-{s.use}" for s in scenarios], indirect=True)
