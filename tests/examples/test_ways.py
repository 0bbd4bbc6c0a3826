"""Honest kernels in the five usual ways of writing one pass through the public command."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastkernels.bench.timing.capture import LEGACY
from fastkernels.tasks.baseline.L1.silu_and_mul import SiluAndMul

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("triton", "compile", "load_inline", "cu_file", "cupy")
BUILD_S = 300
"""Longest that nvcc may take."""


def graded(way, tmp_path, *words):
    """The results of the public command on one way, run from an empty folder."""
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--fk-target=silu_and_mul", "--fk-model=llama31-8b",
         "--fk-tp=1", f"--fk-candidates={ROOT / 'examples' / 'ways' / way}", f"--fk-output-json={out}", *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=3 * BUILD_S, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return json.loads(out.read_text())["results"]


def load(way):
    path = ROOT / "examples" / "ways" / way / "L1" / "silu_and_mul.py"
    spec = importlib.util.spec_from_file_location(f"way_{way}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_way_is_there_and_has_its_line():
    text = (ROOT / "examples" / "ways" / "README.md").read_text()
    assert {path.parents[1].name for path in ROOT.glob("examples/ways/*/L1/silu_and_mul.py")} == set(WAYS)
    assert all(f"| `{way}` |" in text for way in WAYS)


@pytest.mark.parametrize("shape", [(1, 66), (3, 5, 128)])
def test_the_triton_way_on_a_cpu(shape):
    x = torch.randn(shape).to(torch.bfloat16) * 3
    got = load("triton").SiluAndMul()(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), SiluAndMul()(x.float()), atol=1e-2, rtol=1.6e-2)


def test_the_triton_way_compiles_for_hopper(tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    source = ASTSource(load("triton").silu_and_mul_kernel, {"x": "*bf16", "out": "*bf16", "width": "i32"}, {(3,): 1024})
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


@pytest.mark.parametrize("source", ["cu_file", "cupy"])
def test_cuda_without_torch_compiles_for_hopper(source, tmp_path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not on PATH: the CUDA of examples/ways is compiled on a GPU machine only")
    path = ROOT / "examples" / "ways" / "cu_file" / "L1" / "silu.cu"
    if source == "cupy":
        text = (ROOT / "examples" / "ways" / "cupy" / "L1" / "silu_and_mul.py").read_text()
        path = tmp_path / "kernel.cu"
        path.write_text(text.split('r"""')[1].split('"""')[0])
    subprocess.run([nvcc, "-arch=sm_90", "-std=c++17", "-Werror", "all-warnings", "-cubin", str(path), "-o",
                    str(tmp_path / "kernel.cubin")], check=True, timeout=BUILD_S)


@pytest.mark.exhaustive
def test_the_compile_way_on_a_cpu(tmp_path):
    results = graded("compile", tmp_path, "--fk-device=cpu", "--fk-seqlen=8", "--fk-no-timing", "--fk-timeout=180")
    assert [result["verdict"] for result in results] == ["passed"]


@pytest.mark.gpu
@pytest.mark.parametrize("way", WAYS)
def test_each_way_passes_on_cuda(way, tmp_path):
    if way == "cupy":
        pytest.importorskip("cupy", reason="cupy is not installed: pip install cupy-cuda13x grades examples/ways/cupy")
    results = graded(way, tmp_path, "--fk-device=cuda", "--fk-seqlen=1,32,512", f"--fk-timeout={BUILD_S}",
                     "--fk-gates=cuda_graph")
    assert [result["verdict"] for result in results] == ["passed"] * 3
    assert all(result["timing"] is not None for result in results), [result["evidence"] for result in results]
    gates = {(gate["outcome"], gate["reason"]) for result in results for gate in result["gates"].values()}
    assert gates == ({("failed", LEGACY)} if way == "load_inline" else {("passed", "")})
    not_captured = {result["timing"]["candidate_not_captured"] for result in results}
    assert not_captured == {LEGACY if way == "load_inline" else None}
