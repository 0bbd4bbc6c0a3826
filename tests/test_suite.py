"""The sizes of the suite: what each leaves out, that it says so, and that what is named runs all the same."""

from pathlib import Path

import pytest
import suite

TESTS = """
import pytest
from suite import exhaustive

@pytest.mark.parametrize(("n", "square"), [(1, 1), *exhaustive((2, 4), (3, 9))])
def test_square(n, square):
    assert n * n == square

@pytest.mark.slow
def test_slow(): pass
"""
CONFTEST = """
import suite

suite.NOT_QUICK, suite.__file__ = ("test_costly.py",), __file__

def pytest_configure(config):
    config.pluginmanager.register(suite, "suite")
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with two files of tests, one in a costly place; `run(size, *words)` runs it."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    pytester.makeini("[pytest]\nmarkers =\n    slow\n    exhaustive\n    browser\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_cheap=TESTS, test_costly="def test_costly(): pass\n")
    monkeypatch.setattr(suite, "NOT_QUICK", ())  # put back after a run in this process
    monkeypatch.setattr(suite, "__file__", "")

    def run(size, *words):
        monkeypatch.setenv("FASTKERNELS_TESTS", size)
        return pytester.runpytest_inprocess("-p", "xdist", *words)

    return run


EXHAUSTIVE = "deselected: 2 exhaustive (FASTKERNELS_TESTS=all runs them)"


@pytest.mark.parametrize(("size", "mode", "passed", "said"), [
    ("", [], 3, [EXHAUSTIVE]), ("usual", [], 3, [EXHAUSTIVE]), ("all", [], 5, []),
    ("quick", [], 1, [f"{EXHAUSTIVE}, 1 slow, 1 in costly places"]),
    ("quick", ["-n2"], 1, [f"{EXHAUSTIVE}, 1 slow, 1 in costly places"]),
])
def test_each_size_says_what_it_leaves_out(project, size, mode, passed, said):
    result = project(size, *mode)
    assert result.ret == pytest.ExitCode.OK
    deselected = {} if mode else {"deselected": 5 - passed}  # xdist does not count them, hence the line
    result.assert_outcomes(passed=passed, **deselected)
    assert [line for line in result.outlines if line.startswith("deselected")] == said


@pytest.mark.parametrize("size", ["quik", "ALL", "0"])
def test_an_unknown_size_is_refused(project, size):
    result = project(size)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*FASTKERNELS_TESTS: '{size}' is not one of quick, usual, all"])


@pytest.mark.parametrize(("words", "passed"), [
    (["test_cheap.py::test_square"], 3), (["test_cheap.py::test_square[2-4]"], 1), (["test_cheap.py::test_slow"], 1),
    (["test_costly.py::test_costly", "test_cheap.py"], 2), (["-m", "exhaustive"], 2), (["-m", "slow"], 1),
])
def test_what_is_named_runs(project, words, passed):
    project("quick", *words).assert_outcomes(passed=passed, deselected=None)


@pytest.mark.parametrize("words", [["test_costly.py"], ["-k", "slow or costly"], ["test_costly.py", "-n2"]])
def test_a_run_of_nothing_fails(project, words):
    assert project("quick", *words).ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_every_costly_place_is_there():
    tests = Path(__file__).parent
    assert [place for place in suite.NOT_QUICK if not (tests / place).exists()] == []


def test_this_very_run_chooses(pytestconfig):
    assert pytestconfig.pluginmanager.get_plugin("suite") is suite
