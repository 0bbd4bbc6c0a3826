"""What keeps others from timing: on CUDA requests that reach the GPU alone, on a CPU all that graded code does."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, locks
from fastkernels.bench.kernels.pipeline import Attempt, run

DRAWN = {"inputs": [], "arenas": {}, "bytes": 8, "strided": False}
REPLIES = {
    "prepare": {"draws": 3, "provider": "native", "weights": [], "arenas": {}, "weight_bytes": 64}, "draw": DRAWN,
    "reload": {"index": 1, "weights": [], "columns": {}, "arenas": {}}, "call": {"slots": []}, "gate": {"slots": []},
    "draw_sweep": {"why_not": "too dear"},
    "judge": {"finding": {"verdict": "passed", "message": "", "correctness": None}},
    "judge_alone": {"finding": {"verdict": "passed", "message": "", "correctness": None}},
}


class Recorded:
    """Two workers that answer at once, and note for each request whether the device's share was held."""

    def __init__(self, device):
        self.device = device
        self.held = 0
        self.asked = []
        self.trusted_side = self.candidate_side = SimpleNamespace(process=self)

    def trusted(self, request):
        self.asked.append((request["do"], self.held))
        return REPLIES.get(request["do"], {})

    candidate = trusted


def graded(monkeypatch, device, **settings):
    workers = Recorded(device)

    @contextmanager
    def section(device):
        assert workers.held == 0, "a section within a section waits for ever behind whoever waits to time"
        workers.held = 1
        yield 0.25
        workers.held = 0

    monkeypatch.setattr(locks, "work_section", section)
    attempt = Attempt(workers, GraderSettings(device="cpu", timing=False, **settings), rms_norm())
    assert run(attempt).passed
    return attempt, workers.asked


def test_on_a_cpu_everything_is_done_while_nobody_times(monkeypatch):
    attempt, asked = graded(monkeypatch, "cpu", gates=("compile",))
    assert {held for _, held in asked} == {1}
    assert attempt.found.waited_s == 3 * 0.25  # the draws, other weights and the gate


def test_on_cuda_others_may_time_beside_imports_and_compilation(monkeypatch):
    attempt, asked = graded(monkeypatch, "cuda", gates=("compile",))
    assert [do for do, held in asked if not held] == ["import", "build", "call", "gate"]
    assert asked.count(("call", 1)) == 5  # two more draws, the first one again, one between guard bands, other weights
    # prepare, six around draws, the sweep's, reload and its call, two around the gate
    assert attempt.found.waited_s == 12 * 0.25


@pytest.mark.parametrize("gate", ["strided", "cuda_graph"])
def test_on_cuda_calls_of_other_gates_hold_the_device(monkeypatch, gate):
    _, asked = graded(monkeypatch, "cuda", gates=(gate,))
    assert ("gate", 0) not in asked
