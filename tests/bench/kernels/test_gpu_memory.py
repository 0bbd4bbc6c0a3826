"""Who has taken a GPU's memory is found by ending the candidate's process; here the GPU is made up."""

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.isolate.memory import tells_out_of_memory
from fastkernels.bench.kernels import GraderSettings, KernelGrader, gpu_memory
from fastkernels.bench.kernels.gpu_memory import Device, GpuMemory
from fastkernels.errors import WorkerError
from fastkernels.registry.operators import baseline_root
from fastkernels.results import Verdict

GIB = 2**30
TOTAL = 140 * GIB


@pytest.fixture
def grader(tmp_path, monkeypatch):
    """A grader on a CPU with a GPU whose memory a test makes up, and that releases at once."""
    monkeypatch.setattr(gpu_memory, "RELEASE_S", 0.0)
    (tmp_path / "L1").mkdir()
    (tmp_path / "L1" / "rms_norm.py").write_text((baseline_root() / "L1" / "rms_norm.py").read_text())
    settings = GraderSettings(device="cpu", timing=False, candidates_dir=tmp_path, allow_passthrough=True)
    with KernelGrader(settings) as opened:
        yield opened


class Gpu:
    """A GPU on which a candidate's process that has been asked something holds `candidate`, others the rest."""

    def __init__(self, grader, candidate, others=1 * GIB):
        self.workers, self.candidate, self.others, self.reads = grader._workers, candidate, others, 0
        self.workers.memory = GpuMemory(self.read)

    def read(self):
        process = self.workers.candidate_side.process
        taken = self.candidate if process is not None and process._request_id else 0
        self.reads += 1
        return [Device(2 * GIB, TOTAL), Device(self.others + taken, TOTAL)]


def test_a_candidate_that_holds_nearly_all_is_out_of_memory(grader):
    gpu = Gpu(grader, candidate=138 * GIB)
    result = grader.grade(rms_norm())
    assert result.verdict is Verdict.OUT_OF_MEMORY
    assert result.message == ("the candidate's process held 138.0 GiB of GPU memory (at most 70.0 of 140.0 once it is "
                              "nearly full) (import)")
    gpu.candidate = 3 * GIB
    assert grader.grade(rms_norm(tokens=5)).verdict is Verdict.OUT_OF_MEMORY  # the import is tried once
    grader._broken.clear()
    assert grader.grade(rms_norm(tokens=6)).verdict is Verdict.PASSED


@pytest.mark.parametrize(("candidate", "others"), [(100 * GIB, 1 * GIB), (20 * GIB, 119 * GIB)],
                         ids=["there is room", "others hold it"])
def test_what_harms_nobody_and_what_others_hold_is_no_fault(grader, candidate, others):
    Gpu(grader, candidate, others)
    assert grader.grade(rms_norm()).verdict is Verdict.PASSED


def test_a_suspicion_that_is_not_borne_out_is_the_harness_s_and_raised_once(grader, monkeypatch):
    gpu = Gpu(grader, candidate=0)
    monkeypatch.setattr(gpu, "candidate", 0)
    readings = iter([1 * GIB])  # then others fill it while the candidate is imported
    grader._workers.memory = GpuMemory(lambda: [Device(next(readings, 139 * GIB), TOTAL)])
    assert grader.grade(rms_norm()).verdict is Verdict.PASSED
    assert not grader._workers.memory.accuses


@pytest.mark.parametrize(("candidate", "verdict"),
                         [(90 * GIB, Verdict.OUT_OF_MEMORY), (30 * GIB, Verdict.TASK_INVALID)])
def test_a_judge_without_memory_blames_whoever_held_it(grader, monkeypatch, candidate, verdict):
    Gpu(grader, candidate)
    asked = type(grader._workers)._ask_trusted

    def ask(self, side, request):
        if request["do"] == "draw":
            side.close()
            raise WorkerError("the trusted worker: draw\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate")
        return asked(self, side, request)

    monkeypatch.setattr(type(grader._workers), "_ask_trusted", ask)
    result = grader.grade(rms_norm())
    assert result.verdict is verdict
    assert ("held 90.0 GiB" in result.message) == (verdict is Verdict.OUT_OF_MEMORY)
    assert "Tried to allocate" in result.evidence


def test_what_comes_free_late_is_waited_for(monkeypatch):
    readings = iter([138, 138, 120, 2])
    memory = GpuMemory(lambda: [Device(next(readings) * GIB, TOTAL)])
    ended = []
    assert memory.held(lambda: ended.append(True)).startswith("the candidate's process held 136.0 GiB")
    assert ended == [True]


def test_without_nvml_nobody_is_accused(monkeypatch):
    monkeypatch.setattr(gpu_memory, "RELEASE_S", 1000.0)
    monkeypatch.setattr(gpu_memory, "_nvml_reader", lambda: None)
    memory = GpuMemory(gpu_memory.read_devices)
    memory.note()
    assert not memory.is_suspect()
    assert memory.held(lambda: None) == ""


@pytest.mark.parametrize("text", [
    "allocating 8 bytes: CUDA driver error 2 (out of memory)", "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA_ERROR_OUT_OF_MEMORY: ...", "cudaErrorMemoryAllocation"])
def test_what_libraries_say_of_a_full_gpu_is_understood(text):
    assert tells_out_of_memory(text)


@pytest.mark.gpu
def test_a_candidate_that_takes_a_gpu_s_memory_is_to_blame(tmp_path):
    (tmp_path / "L1").mkdir()
    source = (baseline_root() / "L1" / "rms_norm.py").read_text()
    hog = ("\nimport torch\nHELD = []\nwhile len(HELD) < 1000:\n    try:\n"
           "        HELD.append(torch.empty(2**29, dtype=torch.uint8, device='cuda'))\n"
           "    except torch.OutOfMemoryError:\n        break\n")
    (tmp_path / "L1" / "rms_norm.py").write_text(source + hog)
    with KernelGrader(GraderSettings(device="cuda", timing=False, candidates_dir=tmp_path)) as grader:
        result = grader.grade(rms_norm(hidden=4096, tokens=512))
        assert result.verdict is Verdict.OUT_OF_MEMORY, (result.message, result.evidence)
        assert "GiB of GPU memory" in result.message
