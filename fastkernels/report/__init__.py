"""Reports made from results: one HTML page, its plots, and the comparison of two runs. Importing it is cheap."""

from fastkernels.report.compare import Comparison, compare
from fastkernels.report.document import page
from fastkernels.report.figures import plots
from fastkernels.report.runs import NamedRun, read_run

__all__ = ["Comparison", "NamedRun", "compare", "page", "plots", "read_run"]
