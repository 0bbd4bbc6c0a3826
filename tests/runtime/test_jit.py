"""Where Triton is missing, task files import, run natively, and fail with a clear error at a kernel's launch."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from fastkernels.errors import DeviceError

ROOT = Path(__file__).resolve().parents[2]
OPERATORS = sorted(path for path in (ROOT / "tasks/baseline/L1").glob("*.py") if path.stem != "__init__")


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def no_triton(monkeypatch):
    for name in {"triton", *(name for name in sys.modules if name.startswith("triton."))}:
        monkeypatch.setitem(sys.modules, name, None)  # `import triton` now raises ModuleNotFoundError
    jit = load("jit_without_triton", ROOT / "fastkernels/runtime/jit.py")
    monkeypatch.setitem(sys.modules, "fastkernels.runtime.jit", jit)
    return jit


@pytest.mark.parametrize("path", OPERATORS, ids=lambda path: path.stem)
def test_operators_import_without_triton(no_triton, path):
    load(f"{path.stem}_without_triton", path)


def test_native_runs_and_a_launch_says_what_is_missing(no_triton):
    norm = load("rms_norm_without_triton", ROOT / "tasks/baseline/L1/rms_norm.py")
    assert norm.RMSNorm(8)(torch.ones(2, 8)).shape == (2, 8)
    with pytest.raises(DeviceError, match="rms_norm_kernel: Triton is not installed"):
        norm.rms_norm_kernel[(1,)]


def test_with_triton_the_names_are_tritons_own():
    triton = pytest.importorskip("triton")
    from fastkernels.runtime import jit

    assert jit.triton is triton
