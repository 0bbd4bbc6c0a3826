"""Versions that the project allows: those it was tested with, and none that is known to fail."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = [Requirement(text) for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
            for text in group]
PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints-cpu.txt").read_text(), re.MULTILINE))


def allowed(name, version):
    found = [requirement for requirement in REQUIRED if requirement.name.lower() == name.lower()]
    assert found, f"{name} is no dependency"
    return all(requirement.specifier.contains(version) for requirement in found)


@pytest.mark.parametrize(("name", "version", "is_allowed"), [
    ("triton", "3.6.0", True),     # torch 2.11's
    ("triton", "3.7.1", True),     # torch 2.13's
    ("triton", "3.9.0", False),    # a Gluon function is gone, the interpreter takes fewer masks, and it warns of 3.10
    ("triton", "3.10.0", False),   # by that warning multiply and add are no longer fused by default
    ("pytest", "9.2.0", False),    # breaks xdist's loadgroup
    ("pytest", "9.1.1", True),
])
def test_versions(name, version, is_allowed):
    assert allowed(name, version) is is_allowed


def test_what_the_constraints_pin_is_allowed():
    assert PINS["torch"]
    assert [f"{name}=={version}" for name, version in PINS.items() if not allowed(name, version)] == []
