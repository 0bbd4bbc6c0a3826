"""Fixtures for operators, blocks and layers."""

import sys
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def compiled_afresh() -> Iterator[None]:
    """What one test compiled with torch.compile does not make the sizes of another's symbolic."""
    yield
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
