"""Loads pytester for this project's tests and the plugin itself, which a checkout that is not installed needs."""

pytest_plugins = ["pytester", "pytest_fastkernels.plugin"]
