"""Every way in which a candidate can be wrong has its verdict, and the next scenario is graded unharmed."""

import time
from pathlib import Path

import psutil
import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.results import Verdict

SOURCE = (Path(__file__).parent / "bad_rms_norm.py").read_text()
HERE = GraderSettings(device="cpu", seed=3, timing=False, timeout_s=20.0, memory_limit_bytes=2**28)


def candidates(folder, source):
    (folder / "L1").mkdir()
    (folder / "L1" / "rms_norm.py").write_text(source)
    return folder


@pytest.fixture(scope="module")
def grader(tmp_path_factory):
    folder = candidates(tmp_path_factory.mktemp("bad"), SOURCE)
    with KernelGrader(GraderSettings(**{**HERE.__dict__, "candidates_dir": folder, "timeout_s": 3.0})) as grader:
        yield grader


def grade_then_right(grader, hidden):
    """The result of a size, after showing that a right scenario passes afterwards."""
    result = grader.grade(rms_norm(hidden=hidden))
    after = grader.grade(rms_norm(hidden=32, tokens=hidden))
    assert after.verdict is Verdict.PASSED, after.evidence
    assert result.replaced == ("L1.rms_norm",)
    assert not result.self_test
    assert result.timing is None
    assert result.reproduce.startswith("pytest --fk-target=rms_norm --fk-model=tiny --fk-tp=1 --fk-seqlen=4 --fk-seed=")
    return result


@pytest.mark.parametrize(("hidden", "verdict", "says"), [
    (33, Verdict.FORWARD_ERROR, "forward raised ZeroDivisionError: division by zero"),
    (34, Verdict.WRONG_NONFINITE, ""),
    (35, Verdict.WRONG_DTYPE, "float32"),
    (36, Verdict.WRONG_SHAPE, "35"),
    (37, Verdict.WRONG_STRUCTURE, "list"),
    (38, Verdict.WRONG_VALUES, ""),
    (39, Verdict.MUTATED_INPUT, "x"),
    (40, Verdict.MUTATED_WEIGHT, "weight"),
    (41, Verdict.OUT_OF_BOUNDS_WRITE, "x"),
    (42, Verdict.OUT_OF_MEMORY, "forward raised"),
    (43, Verdict.WRONG_SHAPE, ""),
    (44, Verdict.WRONG_STRUCTURE, "str"),
    (45, Verdict.WRONG_STRUCTURE, ""),
    (60, Verdict.INIT_ERROR, "__init__ raised ValueError: not this size"),
    (62, Verdict.WRONG_WEIGHTS, "the state dict has surplus besides"),
    (63, Verdict.WRONG_WEIGHTS, "weight: bfloat16 [64] where the baseline has bfloat16 [63]"),
])
def test_a_candidate_that_answers_wrongly(grader, hidden, verdict, says):
    result = grade_then_right(grader, hidden)
    assert result.verdict is verdict, (result.message, result.evidence)
    assert says in result.message


@pytest.mark.parametrize(("hidden", "verdict", "says"), [
    (50, Verdict.HUNG, "no answer within 3 s"),
    (51, Verdict.OUT_OF_MEMORY, "memory"),
    (52, Verdict.CRASHED, "the process was ended by SIGSEGV"),
    (53, Verdict.EXITED, "exit status 0"),
    (54, Verdict.EXITED, "exit status 1"),
    (55, Verdict.EXITED, "exit status 0"),
    (56, Verdict.NO_RESULT, "the process answered"),
    (57, Verdict.CRASHED, "the process was ended by SIGKILL"),
    (58, Verdict.EXITED, "exit status 3"),
    (61, Verdict.EXITED, "exit status 0"),
])
def test_a_candidate_that_takes_its_process_along(grader, hidden, verdict, says):
    before = grader.worker_pids()
    result = grade_then_right(grader, hidden)
    assert result.verdict is verdict, (result.message, result.evidence)
    assert says in result.message
    assert grader.worker_pids() != before
    gone(before - grader.worker_pids())


def test_a_crash_shows_where(grader):
    result = grader.grade(rms_norm(hidden=52, tokens=2))
    assert "Segmentation fault" in result.evidence
    assert "rms_norm.py" in result.evidence


BROKEN = {
    "syntax": ("def (:\n", Verdict.SYNTAX_ERROR, ""),
    "no class": ("class Norm:\n    pass\n", Verdict.MISSING_CLASS, "RMSNorm"),
    "signature": (SOURCE.replace("def forward(self, x, residual=None)", "def forward(self, x)"),
                  Verdict.WRONG_SIGNATURE, "forward"),
    "passthrough": ("import fastkernels.tasks.baseline.L1.rms_norm as b\n" + SOURCE, Verdict.PASSTHROUGH, "baseline"),
    "raises": ("raise RuntimeError('not today')\n" + SOURCE, Verdict.IMPORT_ERROR, "raised RuntimeError: not today"),
    "missing": ("import no_such_package\n" + SOURCE, Verdict.IMPORT_ERROR, "No module named 'no_such_package'"),
    "sys.exit": ("import sys\nsys.exit(0)\n" + SOURCE, Verdict.EXITED, "exit status 0 (import)"),
    "os._exit": ("import os\nos._exit(0)\n" + SOURCE, Verdict.EXITED, "exit status 0 (import)"),
    "segfault": ("import ctypes\nctypes.string_at(0)\n" + SOURCE, Verdict.CRASHED, "SIGSEGV (import)"),
    "gone class": (SOURCE + "\ndel RMSNorm\n", Verdict.MISSING_CLASS, "no class RMSNorm after import"),
    "loop": ("while True: pass\n" + SOURCE, Verdict.HUNG, "no answer within 1 s (import)"),
}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A grader whose candidate file is written anew for each test."""
    folder = candidates(tmp_path_factory.mktemp("other"), SOURCE)
    with KernelGrader(GraderSettings(**{**HERE.__dict__, "candidates_dir": folder, "timeout_s": 1.0})) as grader:
        yield grader, folder / "L1" / "rms_norm.py"


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_used(other, name):
    grader, path = other
    source, verdict, says = BROKEN[name]
    path.write_text(source)
    started = time.monotonic()
    results = [grader.grade(rms_norm(tokens=tokens)) for tokens in (1, 2, 3)]
    assert {result.verdict for result in results} == {verdict}, results[0].evidence
    assert all(says in result.message for result in results)
    assert time.monotonic() - started < 10  # a hanging import is waited for once, not at every scenario


def test_a_mended_file_is_graded_anew(other):
    grader, path = other
    path.write_text("raise RuntimeError\n" + SOURCE)
    assert grader.grade(rms_norm(tokens=5)).verdict is Verdict.IMPORT_ERROR
    path.write_text(SOURCE)
    assert grader.grade(rms_norm(tokens=5)).verdict is Verdict.PASSED


@pytest.mark.parametrize("hidden", [46, 47])
def test_work_that_changes_once_it_is_timed_is_caught(other, hidden):
    grader, path = other
    path.write_text(SOURCE)
    with KernelGrader(GraderSettings(**{**grader.settings.__dict__, "timing": True, "max_time_s": 0.1})) as timing:
        result = timing.grade(rms_norm(hidden=hidden))
    assert result.verdict in (Verdict.WRONG_VALUES, Verdict.ALIASED_OUTPUT, Verdict.WRONG_SCALE), result
    assert "in a batch of calls on new inputs" in result.message
    assert result.timing is None


def gone(pids):
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=5)
    assert not alive
