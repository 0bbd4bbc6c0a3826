"""What worker processes see of the user's environment, and where a candidate's libraries write."""

import json
import os
import site
from pathlib import Path

import psutil
import pytest
from results_by_hand import rms_norm

from fastkernels.bench.isolate.environment import allowed, looks_secret, scratch_environment
from fastkernels.bench.isolate.launch import worker_environment
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.results import Verdict

SECRETS = ("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD",
           "VLLM_API_KEY", "FASTKERNELS_TOKEN", "TORCH_CREDENTIALS", "CUDA_AUTH", "PYTHON_APIKEY", "NCCL_MY_SECRETS")
NEEDED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
          "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "TORCH_CUDA_ARCH_LIST", "PYTORCH_ALLOC_CONF", "TRITON_PTXAS_PATH",
          "OMP_NUM_THREADS",
          "MKL_NUM_THREADS", "MALLOC_ARENA_MAX", "NCCL_DEBUG", "CC", "CXX", "MAX_JOBS", "CUDA_MPS_PIPE_DIRECTORY",
          "FASTKERNELS_CACHE_DIR", "TOKENIZERS_PARALLELISM", "PWD", "XDG_CACHE_HOME", "VIRTUAL_ENV", "C_INCLUDE_PATH")
OTHERS = ("https_proxy", "HTTP_PROXY", "SSH_AUTH_SOCK", "PIP_INDEX_URL", "DATABASE_URL", "MLFLOW_TRACKING_URI",
          "AWS_PROFILE", "KUBECONFIG", "PYTEST_ADDOPTS")
WRITES = '''
import os
from pathlib import Path

import torch
from torch import nn

home = Path.home()
os.mkdir(home / ".x")
os.makedirs(home / ".deep" / "er")
os.mkdir(os.path.expanduser("~/.cache/y"))
for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
    (Path(os.environ[name]) / "written").write_text("x")
for name in ("CUPY_CACHE_DIR", "NUMBA_CACHE_DIR", "FLAGGEMS_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR", "HF_HOME"):
    os.makedirs(Path(os.environ[name]) / "made")


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=torch.bfloat16), requires_grad=False)
        self.eps = eps

    def forward(self, x, residual=None):
        wide = x.float()
        norm = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(torch.bfloat16)
        return norm * self.weight
'''


def test_what_workers_need_passes_and_nothing_else_does():
    environment = dict.fromkeys((*NEEDED, *SECRETS, *OTHERS), "x")
    assert allowed(environment) == dict.fromkeys(NEEDED, "x")


def test_a_secret_passes_by_name_alone():
    environment = dict.fromkeys(("HF_TOKEN", "WANDB_API_KEY"), "x")
    assert allowed(environment, ["HF_TOKEN"]) == {"HF_TOKEN": "x"}


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "PWD", "PATH", "OMP_NUM_THREADS", "TORCH_PATH"])
def test_an_ordinary_name_is_no_secret(name):
    assert not looks_secret(name)


def test_the_users_own_home_is_left_alone_and_its_packages_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "getuserbase", lambda: str(tmp_path / "base"))
    (tmp_path / "base").mkdir()
    own = scratch_environment(str(tmp_path / "scratch"))
    outside = {name for name, value in own.items() if not value.startswith(str(tmp_path / "scratch"))}
    assert outside == {"PYTHONUSERBASE"}
    assert own["PYTHONUSERBASE"] == str(tmp_path / "base")
    assert (tmp_path / "scratch" / "home" / ".cache").is_dir()
    assert Path(own["HOME"]).stat().st_mode & 0o077 == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    (folder / "L1").mkdir()
    (folder / "L1" / "rms_norm.py").write_text(WRITES)
    return folder


@pytest.mark.parametrize("start", ["fork", "exec"])
def test_a_candidate_that_keeps_things_below_home_is_graded_and_sees_no_secret(folder, monkeypatch, start):
    monkeypatch.setenv("FASTKERNELS_WORKER_START", start)
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    monkeypatch.setenv("MY_MODE", "given")
    before = sorted(os.listdir(Path.home()))
    settings = GraderSettings(device="cpu", timing=False, candidates_dir=folder, env=("MY_MODE", "NOT_SET"))
    with KernelGrader(settings) as grader:
        result = grader.grade(rms_norm())
        assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
        below = [psutil.Process(pid) for pid in grader.worker_pids()]
        seen = [process.environ() for worker in below for process in (worker, *worker.children(recursive=True))]
    assert len(seen) >= 3
    assert "s3cret" not in json.dumps(seen)
    assert all(environment.get("MY_MODE") == "given" for environment in seen)
    assert sorted(os.listdir(Path.home())) == before


def test_a_starter_is_not_begun_anew_for_what_no_worker_sees(monkeypatch):
    before = worker_environment()
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    assert worker_environment() == before
