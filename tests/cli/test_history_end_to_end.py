"""A kernel graded for real on a CPU, between two versions that are slower, and what `fastkernels history` says."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow_server import client_of, copy_tables
from tracked_results import faster

from fastkernels.bench.tracking import Tracker
from fastkernels.bench.tracking.kernel_files import made
from fastkernels.cli.kernels import plugin_is_installed
from fastkernels.cli.main import main
from fastkernels.results import read_result

TESTS = str(Path(__file__).parents[1])
MANIFEST = """\
schema_version: 1
category: llm
models:
  tiny: {id: tiny/Tiny, tp: [1]}
operators:
  rms_norm:
    level: 1
    class: RMSNorm
    scenarios:
    - uses: [tiny-tp1]
      tokens: [1, 8]
      init: {hidden_size: 64, eps: 1.0e-05, dtype: bfloat16}
      inputs:
        x: {shape: [tokens, 64], dtype: bfloat16, values: normal}
"""
KERNEL = """\
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


def slowed(result, factor, comment):
    """What a version whose kernel takes `factor` times as long would have given; its source differs by a comment."""
    results = [faster(one, one.timing.speedup / factor) for one in result.results]
    source = made("rms_norm", 1, f"# {comment}\n{KERNEL}")
    return replace(result, results=tuple(results), kernels=(source,))


@pytest.mark.slow
def test_the_best_of_three_versions_is_the_graded_one(tmp_path, tables, monkeypatch, capsys, no_tracking):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTKERNELS_TRACKING")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "tiny.yaml").write_text(MANIFEST)
    (tmp_path / "kernels/L1").mkdir(parents=True)
    (tmp_path / "kernels/L1/rms_norm.py").write_text(KERNEL)
    copy_tables(tables, tmp_path)
    plugin = () if plugin_is_installed() else ("-p", "pytest_fastkernels.plugin")
    graded = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "-p", "quiet_machine", "--fk-target=rms_norm",
         "--fk-manifest=tiny.yaml", "--fk-candidates=kernels", "--fk-device=cpu", "--fk-num-runs=10"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")])},
        capture_output=True, text=True, check=False)
    assert graded.returncode == 0, graded.stdout + graded.stderr
    result = read_result(tmp_path / "bench/results/kernels.json")
    measured = [one.timing.speedup for one in result.results]
    tracker = Tracker(notify=pytest.fail)
    for name, factor, started in (("before it", 4, "2026-01-01T00:00:00+00:00"), ("after it", 2, "")):
        with tracker.start_run(name, started=started):
            tracker.log_kernel_bench(slowed(result, factor, name))

    assert main(["history", "--best", "--json"]) == 0
    (best,) = json.loads(capsys.readouterr().out)["best"]
    code = KERNEL.encode()
    assert (best["op"], best["passed"], best["failed"], best["chosen_from"]) == ("rms_norm", 2, 0, 3)
    assert best["kernel_sha256"] == hashlib.sha256(code).hexdigest()
    assert min(measured) <= best["speedup"] <= max(measured)
    kept = client_of(f"sqlite:///{tmp_path}/mlruns/mlflow.db").download_artifacts(
        best["run_id"], "kernels/rms_norm.py", str(tmp_path))
    with open(kept, "rb") as file:
        assert file.read() == code

    assert main(["history", "--best"]) == 0
    table = capsys.readouterr().out
    assert best["run_id"][:8] in table
    assert best["kernel_sha256"][:12] in table
    assert main(["history"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["history", "--op", "rms_norm"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
