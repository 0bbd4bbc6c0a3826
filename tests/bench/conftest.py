"""Fixtures for tests that grade."""

import pytest
from quiet_machine import CLOCKS, PATCHES


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other load is seen, for tests of what is found where there is none; tests of load simulate it."""
    for owner, name, value in PATCHES:
        monkeypatch.setattr(owner, name, value)


@pytest.fixture
def clocks_agree(monkeypatch: pytest.MonkeyPatch, quiet_machine: None) -> None:
    """Both clocks are taken at their word, for tests of what comes with times or after them.

    Whether they agree depends on what else the machine does; tests of that simulate the clocks.
    """
    for owner, name, value in CLOCKS:
        monkeypatch.setattr(owner, name, value)
