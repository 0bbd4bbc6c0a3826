"""A tiny manifest, a project without test files, and pytest runs in it."""

import json
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401
import psutil  # noqa: F401
import pytest
import torch  # noqa: F401
from ended_runs import HOME, own_locks

# imported here once, with what they load: pytester takes modules that a run imported out of sys.modules again, and
# torch imported a second time crashes the process
import pytest_fastkernels.grading
import pytest_fastkernels.listing
import pytest_fastkernels.plan
import pytest_fastkernels.report  # noqa: F401
from fastkernels.cli.kernels import plugin_is_installed

MANIFEST = """\
schema_version: 1
category: llm
models:
  tiny-a: {id: tiny/Tiny-A, tp: [1, 2]}
  tiny-b: {id: tiny/Tiny-B, tp: [1]}
operators:
  rms_norm:
    level: 1
    class: RMSNorm
    scenarios:
    - uses: [tiny-a-tp1, tiny-a-tp2]
      tokens: [1, 8, 2048]
      init: {hidden_size: 64, eps: 1.0e-05, dtype: bfloat16}
      inputs:
        x: {shape: [tokens, 64], dtype: bfloat16, values: normal}
    - uses: [tiny-b-tp1]
      tokens: [1, 8]
      init: {hidden_size: 32, eps: 1.0e-05, dtype: bfloat16}
      inputs:
        x: {shape: [tokens, 32], dtype: bfloat16, values: normal}
  silu_and_mul:
    level: 1
    class: SiluAndMul
    scenarios:
    - uses: [tiny-a-tp1]
      tokens: [1]
      init: {}
      inputs:
        x: {shape: [tokens, 64], dtype: bfloat16, values: normal}
"""
RMS_NORM = """\
import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype or torch.get_default_dtype()))
        self.eps = eps

    def forward(self, x, residual=None):
        wide = x.float() if residual is None else x.float() + residual.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()
        return normed.to(x.dtype) if residual is None else (normed.to(x.dtype), wide.to(x.dtype))
"""

ONLY = ("-p", "pytest_fastkernels.plugin", "-p", "benchmark", "-p", "xdist")
PLUGIN_ARGS = () if plugin_is_installed() else ("-p", "pytest_fastkernels.plugin")


class Project:
    """A directory with a manifest and nothing else; `run` starts pytest there."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        (self.path / "tiny.yaml").write_text(MANIFEST)

    def fake(self, **verdicts: str) -> None:
        """Let the fake grader stand in; keys are parts of addresses, with `_` for any character that is no letter."""
        (self.path / "conftest.py").write_text((Path(__file__).parent / "fake_grader.py").read_text())
        (self.path / "fake.json").write_text(json.dumps({k.replace("_", "-"): v for k, v in verdicts.items()}))

    def candidate(self, name: str = "rms_norm", text: str = RMS_NORM, directory: str = "kernels") -> None:
        """Write a candidate of level 1."""
        path = self.path / directory / "L1" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *args: str, subprocess: bool = False, manifest: bool = True) -> pytest.RunResult:
        """Run pytest in this process with just the plugins at issue; in a subprocess with all that are installed."""
        words = [*(["--fk-manifest=tiny.yaml"] if manifest else []), *args]
        if subprocess:
            return self.pytester.runpytest_subprocess(*PLUGIN_ARGS, *words)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
            return self.pytester.runpytest_inprocess(*ONLY, *words, no_reraise_ctrlc=True)

    def graded(self) -> list[str]:
        """Addresses that the fake grader was given, in order."""
        path = self.path / "graded.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split(" ", 1)[1] for line in lines if line != "closed"]

    def results(self, path: str = "bench/results/kernels.json") -> dict[str, Any]:
        """The results file."""
        data: dict[str, Any] = json.loads((self.path / path).read_text())
        return data


@pytest.fixture
def bare(pytester: pytest.Pytester) -> Project:
    """A project with the library's own grader."""
    return Project(pytester)


@pytest.fixture
def project(bare: Project) -> Project:
    """A project with the fake grader: every scenario passes."""
    bare.fake()
    return bare


@pytest.fixture
def warm(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real graders share the starters of this process, which have torch imported, and wait for no other process's.

    pytester sets another HOME, by which starters differ.
    """
    monkeypatch.setenv("HOME", HOME)
    monkeypatch.setattr(tempfile, "tempdir", own_locks(pytester.path))


@pytest.fixture
def plugin_args() -> tuple[str, ...]:
    """What loads the plugin where it is not installed."""
    return PLUGIN_ARGS


@pytest.fixture
def rms_norm() -> str:
    """Source of a right candidate."""
    return RMS_NORM
