"""Loads pytester for this project's tests and, in a checkout that is not installed, the plugin itself."""

from importlib.metadata import entry_points

pytest_plugins = ["pytester"]

if not entry_points(group="pytest11", name="fastkernels"):
    pytest_plugins.append("pytest_fastkernels.plugin")
