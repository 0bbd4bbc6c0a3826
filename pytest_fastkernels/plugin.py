"""The plugin's hooks; each hands over to the session object on `config.stash`."""

from collections.abc import Generator
from typing import Any

import pytest

from pytest_fastkernels import hookspecs, options
from pytest_fastkernels.fixtures import fk_grade, fk_scenario, parametrize
from pytest_fastkernels.session import SESSION, FkSession

__all__ = ["fk_grade", "fk_scenario"]

MARKER = ("fastkernels(op, level, model, tp, tokens, phase): on every graded scenario, for selections such as "
          "-m \"fastkernels(model='llama31-8b')\"")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the --fk-* options."""
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the plugin's own hook."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_load_initial_conftests(args: list[str]) -> None:
    """Name the nearest option for a mistyped --fk-... word."""
    options.check_names(args)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Answer --fk-list and --fk-map in place of a test run."""
    settings = options.read_settings(config)
    if not (settings.list or settings.map) or hasattr(config, "workerinput"):
        return None
    from pytest_fastkernels.listing import listing

    print("\n".join(listing(settings)))  # noqa: T201  the answer itself, before any terminal reporter exists
    return 0


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set up the session; before pytest-benchmark, whose options under xdist it takes over."""
    config.addinivalue_line("markers", MARKER)
    options.check_dependencies(config)
    config.stash[SESSION] = FkSession(config)
    config.stash[SESSION].configure()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the worker processes."""
    if SESSION in config.stash:
        config.stash[SESSION].close()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what will be graded."""
    return config.stash[SESSION].header()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Prepare terminal and output directory."""
    session.config.stash[SESSION].start()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Spread tests that ask for fk_scenario."""
    parametrize(metafunc)


def pytest_collection(session: pytest.Session) -> bool | None:
    """Keep pytest from collecting the repository's tests where only scenarios were asked for."""
    return session.config.stash[SESSION].collect(session)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Add the scenarios, before other plugins filter and order."""
    session.config.stash[SESSION].add_items(session, items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note what will run."""
    session.config.stash[SESSION].expect([item.nodeid for item in session.items])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the test's results on its report, which xdist carries to the controller."""
    report = yield
    item.config.stash[SESSION].attach(item, report)
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, Any, Any]:
    """Write the results file and settle the exit status, also where another plugin's end of the session fails."""
    try:
        return (yield)
    finally:
        session.config.stash[SESSION].finish(session)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Print table and footer below other plugins' tables, also where one of those raises."""
    try:
        yield
    finally:
        config.stash[SESSION].summarize(terminalreporter)
