"""compute-sanitizer as a gate, with a stand-in for the program: how it is asked, and what its log means."""

import stat
import sys

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.isolate import sanitizer
from fastkernels.bench.kernels import GraderSettings, KernelGrader, sanitize
from fastkernels.errors import DeviceError
from fastkernels.results import GateOutcome, Verdict

FOUND = """========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 2 bytes
=========     at norm_kernel(float *)+0x80 in norm.cu:7
=========     by thread (31,0,0) in block (0,0,0)
=========     Access at 0x7f is out of bounds
=========
========= Invalid __global__ write of size 4 bytes
========= ERROR SUMMARY: 2 errors
"""
RACE = """========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at norm+0x40 and Read access at norm+0x60 [16 hazards]
=========
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""
CLEAN = "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n"
PROGRAM = '''#!{python}
import subprocess, sys

words = sys.argv[1:]
options, program = words[:words.index({python!r})], words[words.index({python!r}):]
status = subprocess.call(program, close_fds=False)
with open(options[options.index("--log-file") + 1], "w") as log:
    log.write({logs!r}[options[options.index("--tool") + 1]] if status == 0 else "")
'''


@pytest.mark.parametrize(("log", "says"), [
    (FOUND, "Invalid __global__ write of size 2 bytes at norm_kernel(float *)+0x80 in norm.cu:7"),
    (RACE, "Error: Race reported between Write access at norm+0x40 and Read access at norm+0x60 [16 hazards]"),
    (CLEAN, ""),
    ("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n", ""),
    ("========= COMPUTE-SANITIZER\n", None),
    ("", None),
])
def test_what_a_log_says(log, says):
    assert sanitizer.first_finding(log) == says


def test_a_program_that_is_not_there_and_a_tool_that_is_none_are_errors(monkeypatch):
    monkeypatch.setattr(sanitizer, "find", lambda: None)
    with pytest.raises(DeviceError, match="sanitize memcheck: compute-sanitizer is neither on the path nor below"):
        GraderSettings(sanitize=("memcheck",))
    with pytest.raises(ValueError, match=r"'memchek' is not one of .*Did you mean 'memcheck'"):
        GraderSettings(sanitize=("memchek",))


@pytest.fixture
def program(tmp_path, monkeypatch):
    path = tmp_path / "compute-sanitizer"
    path.write_text(PROGRAM.format(python=sys.executable, logs={"memcheck": FOUND, "racecheck": CLEAN}))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sanitizer, "find", lambda: str(path))


def test_on_a_cpu_it_does_not_apply(program):
    with KernelGrader(GraderSettings(device="cpu", timing=False, self_test=True, sanitize=("memcheck",))) as grader:
        gate = grader.grade(rms_norm()).gates["memcheck"]
    assert (gate.outcome, gate.reason) == (GateOutcome.NOT_APPLICABLE, "needs CUDA")


def test_a_finding_fails_its_gate_and_changes_no_verdict(program, monkeypatch):
    monkeypatch.setattr(sanitize, "DEVICES", ("cpu",))
    tools = ("memcheck", "racecheck")
    with KernelGrader(GraderSettings(device="cpu", timing=False, self_test=True, sanitize=tools)) as grader:
        result = grader.grade(rms_norm())
    assert result.verdict is Verdict.PASSED
    assert result.gates["memcheck"].reason.startswith("Invalid __global__ write of size 2 bytes at norm_kernel")
    assert result.gates["racecheck"].outcome is GateOutcome.PASSED, result.gates
    assert "--fk-sanitize=memcheck,racecheck" in result.reproduce
