"""Fixtures and the one place that skips tests for want of a GPU."""

import pytest

from fastkernels.env import require_gpu


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where no CUDA device is found; with FASTKERNELS_REQUIRE_GPU=1 they run and fail."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or require_gpu():
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
