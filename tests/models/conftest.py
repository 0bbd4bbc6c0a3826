"""Fixtures of whole models."""

from collections.abc import Iterator

import pytest
import torch
from models.parity import Tiny, make_tiny


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small are slower on several threads, and much slower where tests run in parallel."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="class")
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The model of one of the test class's configs."""
    return make_tiny(request.cls.configs[request.param], tmp_path_factory.mktemp("tiny"))
