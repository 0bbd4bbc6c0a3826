"""JUnit's XML: class names and properties of scenarios.

The only file that touches names which pytest does not promise: `node_reporter` and `add_attribute` of the plugin behind
--junitxml, which its fixture `record_xml_attribute` uses too. Tested with pytest 8.4 and 9.1.
"""

from typing import Any

import pytest

from fastkernels.results import ScenarioResult


def properties(result: ScenarioResult) -> list[tuple[str, object]]:
    """What the XML file says of a scenario besides its outcome."""
    found: list[tuple[str, object]] = [
        ("op", result.op), ("model", result.model), ("tp", result.tp), ("tokens", result.tokens),
        ("verdict", str(result.verdict))]
    if result.timing:
        found.append(("speedup", f"{result.timing.speedup:.4g}"))
    elif result.noise:
        found.append(("noisy", result.noise.reason))
    return found


def name_class(config: pytest.Config, report: pytest.TestReport, classname: str) -> None:
    """Give a scenario, whose address holds no path, a class name: by it CI servers group tests."""
    for plugin in config.pluginmanager.get_plugins():
        reporter: Any = getattr(plugin, "node_reporter", None)
        if reporter is not None and hasattr(plugin, "node_reporters_ordered"):
            reporter(report).add_attribute("classname", classname)
