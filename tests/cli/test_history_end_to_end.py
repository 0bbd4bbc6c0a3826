"""Three versions of one kernel, graded for real on a CPU, and what `fastkernels history` says of them."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from mlflow_server import client_of

from fastkernels.cli.kernels import plugin_is_installed
from fastkernels.cli.main import main
from fastkernels.results import read_result

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
import time

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype or torch.get_default_dtype()))
        self.eps = eps

    def forward(self, x, residual=None):
        time.sleep(DELAY_S)
        wide = x.float() if residual is None else x.float() + residual.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()
        return normed.to(x.dtype) if residual is None else (normed.to(x.dtype), wide.to(x.dtype))
"""
DELAYS_S = {"slow": "2e-3", "fast": "0", "slower": "8e-3"}
"""The versions in the order in which they are graded; the best is neither the first nor the last."""


@pytest.mark.slow
def test_the_best_of_three_graded_versions_is_named(tmp_path, monkeypatch, capsys, no_tracking):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTKERNELS_TRACKING")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "tiny.yaml").write_text(MANIFEST)
    (tmp_path / "kernels/L1").mkdir(parents=True)
    plugin = () if plugin_is_installed() else ("-p", "pytest_fastkernels.plugin")
    measured = {}
    for name, delay in DELAYS_S.items():
        (tmp_path / "kernels/L1/rms_norm.py").write_text(KERNEL.replace("DELAY_S", delay))
        graded = subprocess.run(
            [sys.executable, "-m", "pytest", *plugin, "--fk-target=rms_norm", "--fk-manifest=tiny.yaml",
             "--fk-candidates=kernels", "--fk-device=cpu", "--fk-num-runs=10"],
            env=dict(os.environ), capture_output=True, text=True, check=False)
        assert graded.returncode == 0, graded.stdout + graded.stderr
        measured[name] = [r.timing.speedup for r in read_result(tmp_path / "bench/results/kernels.json").results]
    assert min(measured["fast"]) > max(measured["slow"] + measured["slower"])

    assert main(["history", "--best", "--json"]) == 0
    (best,) = json.loads(capsys.readouterr().out)["best"]
    code = KERNEL.replace("DELAY_S", DELAYS_S["fast"]).encode()
    assert (best["op"], best["passed"], best["failed"], best["chosen_from"]) == ("rms_norm", 2, 0, 3)
    assert best["kernel_sha256"] == hashlib.sha256(code).hexdigest()
    assert min(measured["fast"]) <= best["speedup"] <= max(measured["fast"])
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
