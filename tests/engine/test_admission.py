"""A model is not loaded with candidates that the kernel tier has found unfit."""

import hashlib
from dataclasses import replace

import pytest
from models.parity import make_tiny
from results_by_hand import passed

from fastkernels.engine import load_model
from fastkernels.errors import DeploymentError
from fastkernels.registry import Candidates, ImportGraph, Overlay
from fastkernels.registry.operators import baseline_root
from fastkernels.results import GateOutcome, GateResult, KernelBenchResult, KernelSource, Verdict, write_result

SOURCE = (baseline_root() / "L1" / "rms_norm.py").read_text()
GOOD = {"strided": GateResult(GateOutcome.PASSED), "stream": GateResult(GateOutcome.NOT_APPLICABLE, "needs CUDA")}
BAD = {**GOOD, "compile": GateResult(GateOutcome.FAILED, "forward raised Unsupported: a graph break")}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return make_tiny({"model_type": "llama"}, tmp_path_factory.mktemp("llama")).directory


@pytest.fixture
def overlay(tmp_path):
    (tmp_path / "candidates" / "L1").mkdir(parents=True)
    for name in ("rms_norm", "gelu_and_mul"):  # no Llama uses the latter
        source = (baseline_root() / "L1" / f"{name}.py").read_text()
        (tmp_path / "candidates" / "L1" / f"{name}.py").write_text(source)
    with Overlay(tmp_path / "candidates", package="admitted_overlay") as overlay:
        yield overlay


def results(folder, *items, code=SOURCE):
    """A results file of a run with the candidates of `overlay`."""
    source = KernelSource("rms_norm", 1, "L1/rms_norm.py", hashlib.sha256(code.encode()).hexdigest(), code)
    path = folder / "kernels.json"
    write_result(path, KernelBenchResult(results=items, kernels=(source,)))
    return path


def graded(**changes):
    return replace(passed(replaced=("L1.rms_norm",)), **changes)


def test_fit_candidates_are_loaded(overlay, llama, tmp_path):
    found = results(tmp_path, graded(gates=GOOD), graded(verdict=Verdict.TOO_SLOW))
    assert type(load_model(llama, tasks=overlay.package, kernel_results=found)).__name__ == "LlamaForCausalLM"


def test_a_failed_gate_is_a_refusal_that_names_it(overlay, llama, tmp_path):
    found = results(tmp_path, graded(gates=GOOD), graded(gates=BAD), graded(gates=BAD))
    with pytest.raises(DeploymentError) as error:
        load_model(llama, tasks=overlay.package, kernel_results=found)
    assert str(error.value).splitlines() == [
        f"1 reason not to load L4.llama with the candidates in {overlay.tasks.candidates}:",
        "  L1.rms_norm: gate compile failed in rms_norm[tiny-tp1-s4]: forward raised Unsupported: a graph break"]


def test_so_is_another_verdict(overlay, llama, tmp_path):
    wrong = graded(verdict=Verdict.WRONG_VALUES, timing=None, message="1 of 4096")
    with pytest.raises(DeploymentError, match=r"L1\.rms_norm: wrong_values in rms_norm\[tiny-tp1-s4\]: 1 of 4096"):
        load_model(llama, tasks=overlay.package, kernel_results=results(tmp_path, wrong))


def test_so_is_a_file_that_was_changed_since(overlay, llama, tmp_path):
    found = results(tmp_path, graded(gates=GOOD), code=SOURCE + "\n")
    with pytest.raises(DeploymentError, match=r"L1\.rms_norm: .*rms_norm\.py was not graded as it is now"):
        load_model(llama, tasks=overlay.package, kernel_results=found)


@pytest.mark.parametrize("path", ["L1/_csrc/norm.cu", "L1/_tables.json"])
def test_so_is_a_file_beside_it_that_was_changed_since(overlay, llama, tmp_path, path):
    beside = overlay.tasks.candidates / path
    beside.parent.mkdir(exist_ok=True)
    beside.write_text("as graded")
    graph = ImportGraph.of(baseline_root(), Candidates.load(overlay.tasks.candidates))
    above = graded(op="llama_decoder_layer", level=3, gates=GOOD,
                   candidate_sha256=graph.sha256("L3.llama_decoder_layer"))
    for item in (graded(gates=GOOD, candidate_sha256=graph.sha256("L1.rms_norm")), above):
        found = results(tmp_path, item)
        beside.write_text("as graded")
        load_model(llama, tasks=overlay.package, kernel_results=found)
        beside.write_text("edited")
        with pytest.raises(DeploymentError, match=r"L1\.rms_norm: .*rms_norm\.py was not graded as it is now"):
            load_model(llama, tasks=overlay.package, kernel_results=found)


def test_what_others_are_found_does_not_count(overlay, llama, tmp_path):
    block = graded(op="llama_mlp", level=2, replaced=("L1.rms_norm", "L2.llama_mlp"), gates=BAD)
    other = graded(op="gelu_and_mul", replaced=("L1.gelu_and_mul",), gates=BAD)
    load_model(llama, tasks=overlay.package, kernel_results=results(tmp_path, graded(gates=GOOD), block, other))


def test_the_baseline_and_a_run_without_results_are_not_asked(overlay, llama, tmp_path):
    load_model(llama, kernel_results=results(tmp_path, graded(gates=BAD)))
    load_model(llama, tasks=overlay.package)
