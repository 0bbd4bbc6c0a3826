"""The plots of a run as SVG files that stand alone and follow the reader's light or dark theme."""

from collections.abc import Callable
from importlib.util import find_spec

from fastkernels.errors import ReportError, install_command
from fastkernels.report import errors_plot, roofline, samples_plot
from fastkernels.report.summary import device_of
from fastkernels.results import KernelBenchResult

EXTRA = ("jinja2", "matplotlib")
"""Packages of the extra `report`."""


def plots(result: KernelBenchResult) -> dict[str, str]:
    """Each plot that the run has data for, as SVG text by file name: roofline, error ratios, samples.

    ReportError where the extra `report` is not installed. Equal results give equal text.
    """
    require_extra()
    results, device = result.results, device_of(result)
    drawn = {"roofline.svg": roofline.draw(results, device), "error-ratios.svg": errors_plot.draw(results),
             "samples.svg": samples_plot.draw(results)}
    return {name: text for name, text in drawn.items() if text is not None}


def require_extra(find: Callable[[str], object] = find_spec) -> None:
    """Raise ReportError that says how to install what is missing."""
    missing = [name for name in EXTRA if find(name) is None]
    if missing:
        raise ReportError(f"reports need {' and '.join(missing)}, which is not installed: "
                          f"{install_command('report')}")
