"""Finds the packages; everything else is in pyproject.toml.

`tasks`, `agent` and `manifests` are mounted under `fastkernels`, which pyproject's `packages.find` cannot express, and
a fixed list would silently leave a new sub-package out of the wheel.
"""

from setuptools import find_packages, setup

MOUNTED = ("tasks", "agent", "manifests")

packages = find_packages(include=["fastkernels", "fastkernels.*", "pytest_fastkernels", "pytest_fastkernels.*"])
for name in MOUNTED:
    packages += [f"fastkernels.{name}", *(f"fastkernels.{name}.{inner}" for inner in find_packages(name))]

setup(packages=packages, package_dir={f"fastkernels.{name}": name for name in MOUNTED})
