"""What a candidate's process cannot do on Linux: each attempt fails in the sandbox, and what is honest works."""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from results_by_hand import rms_norm

from fastkernels.bench.isolate import sandbox_probe, watch
from fastkernels.bench.isolate.sandbox import Sandbox, find_sandbox
from fastkernels.bench.kernels import GraderSettings, KernelGrader, start_log
from fastkernels.bench.kernels.settings import cuda_device_count
from fastkernels.errors import DeviceError
from fastkernels.results import Verdict

pytestmark = pytest.mark.skipif(sys.platform != "linux" or bool(find_sandbox("auto", "cpu").missing()),
                                reason="this kernel lacks namespaces or Landlock")

MODULE = """import ctypes, os, signal, socket, subprocess, sys, time
from pathlib import Path
import torch
from torch import nn
{code}
class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=torch.bfloat16), requires_grad=False)
        self.eps = eps
    def forward(self, x, residual=None):
        attempt()
        x = x.float()
        return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)).to(torch.bfloat16) * self.weight
"""


def graded(folder, code, log=None, **settings):
    """The result of a right candidate that calls `attempt()` before each answer; and a grader's pids before it ends."""
    (folder / "L1").mkdir(exist_ok=True)
    (folder / "L1" / "rms_norm.py").write_text(MODULE.format(code=code))
    given = {"device": "cpu", "timing": False, "timeout_s": 60.0, "candidates_dir": folder, **settings}
    with KernelGrader(GraderSettings(**given), log) as grader:
        return grader.grade(rms_norm())


def refused(tmp_path, code, error, **settings):
    """Show that an attempt raises in the sandbox and goes through without it."""
    result = graded(tmp_path, code, **settings)
    assert result.verdict is Verdict.FORWARD_ERROR, (result.verdict, result.message, result.evidence)
    assert error in result.message
    assert graded(tmp_path, code, sandbox="off", **settings).verdict is Verdict.PASSED


def test_a_right_candidate_passes(tmp_path):
    assert graded(tmp_path, "def attempt(): pass").verdict is Verdict.PASSED


def test_files_outside_the_scratch_directory_cannot_be_written(tmp_path):
    refused(tmp_path, f"def attempt(): Path({str(tmp_path / 'dropped')!r}).write_text('x')", "PermissionError")


def test_the_scratch_directory_can_be_written_and_goes_with_the_worker(tmp_path):
    code = "import tempfile\ndef attempt():\n    print(tempfile.mkstemp(), flush=True)\n    os._exit(7)"
    result = graded(tmp_path, code)
    assert result.verdict is Verdict.EXITED
    path = Path(result.evidence.split("'")[1])
    assert "fastkernels-scratch-" in str(path)
    assert not path.parent.exists()


def test_the_run_s_log_is_hidden(tmp_path):
    log = tmp_path / "kernels.jsonl"
    start_log(log)
    log.write_text("secret\n")
    code = f"def attempt():\n    if 'secret' not in Path({str(log)!r}).read_text(): raise LookupError('hidden')"
    assert graded(tmp_path, code, log).message == "forward raised LookupError: hidden"
    assert graded(tmp_path, code, log, sandbox="off").verdict is Verdict.PASSED
    assert "secret" in log.read_text()


def test_there_is_no_network(tmp_path):
    with __import__("socket").create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused(tmp_path, f"def attempt(): socket.create_connection(('127.0.0.1', {port}), 2)", "Error")
        refused(tmp_path, "def attempt():\n    s = socket.socket(); s.bind(('127.0.0.1', 0))", "PermissionError")


def test_processes_outside_cannot_be_signalled_or_read(tmp_path):
    me = os.getpid()
    refused(tmp_path, f"def attempt(): os.kill({me}, 0)", "Error")
    refused(tmp_path, f"def attempt(): open('/proc/{me}/environ', 'rb').read()", "Error")
    refused(tmp_path, f"def attempt(): open('/proc/{me}/mem', 'rb')", "Error")


ATTEMPTS = """
def works(call):
    try: call()
    except OSError: return False
    return True
def udp(family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.sendto(b"", ("::1" if family == socket.AF_INET6 else "127.0.0.1", 9))
def environ():
    if not open("/proc/{outside}/environ", "rb").read(1): raise OSError
def attempt():
    bound = ["CapBnd"] if os.getuid() == 0 else []  # others need a right to lower it, and cannot use what it allows
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    found = [name for name in ("CapInh", "CapPrm", "CapEff", *bound, "CapAmb") if int(status[name], 16) & ~2]
    found += [] if status["NoNewPrivs"] == "1" else ["NoNewPrivs"]
    calls = dict(udp=udp, udp6=lambda: udp(socket.AF_INET6), tcp=lambda: socket.create_server(("127.0.0.1", 0)),
                 raw=lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW), environ=environ,
                 shm=lambda: open("{mark}", "r+b").close(), trace=lambda: open("/proc/{outside}/mem", "rb"),
                 oom=lambda: open("/proc/{outside}/oom_score_adj", "r+").close(),
                 kernel=lambda: open("/proc/sys/kernel/core_pattern", "r+").close())
    found += [name for name, call in calls.items() if works(call)]
    raise RuntimeError("worked: " + ",".join(found or ["nothing"]))
"""
ON_CUDA = sandbox_probe.cuda_levels("auto")[:-1]


@pytest.fixture
def mark():
    """A file in the /dev/shm of everyone."""
    path = Path(f"/dev/shm/fastkernels-test-{os.getpid()}")
    path.touch()
    yield path
    path.unlink()


@pytest.mark.parametrize("level", [None, *ON_CUDA],
                         ids=lambda level: "cpu" if level is None else "+".join(level.own) or "bare")
def test_what_a_candidate_can_do_with_each_sandbox_that_cuda_may_take(tmp_path, monkeypatch, level, mark):
    """On a CPU, where CUDA's own needs cannot be shown; the driver is given its devices and nothing more."""
    if level is not None:
        monkeypatch.setattr("fastkernels.bench.kernels.workers.find_sandbox", lambda mode, device: level)
    code = ATTEMPTS.format(outside=os.getpid(), mark=mark)
    result = graded(tmp_path, code)
    assert result.verdict is Verdict.FORWARD_ERROR, (result.verdict, result.message, result.evidence)
    assert result.message.endswith("worked: nothing")


def test_without_a_sandbox_all_of_it_works(tmp_path, mark):
    """Shows that the attempts above are attempts."""
    result = graded(tmp_path, ATTEMPTS.format(outside=os.getpid(), mark=mark), sandbox="off")
    worked = result.message.split("worked: ")[1].split(",")
    assert {"udp", "tcp", "environ", "shm", "trace", "NoNewPrivs"} <= set(worked)
    assert os.getuid() != 0 or {"CapEff", "CapBnd", "kernel", "oom"} <= set(worked)


@pytest.mark.gpu
def test_what_a_candidate_can_do_on_cuda(tmp_path, mark):
    """Whichever sandbox was found to leave CUDA working: a candidate passes under it and none of the attempts does."""
    sandbox = find_sandbox("auto", "cuda")
    assert not sandbox.whole_dev, sandbox.problem
    assert sandbox.missing() == ""
    result = graded(tmp_path, "def attempt(): pass", device="cuda", timing=True)
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)
    result = graded(tmp_path, ATTEMPTS.format(outside=os.getpid(), mark=mark), device="cuda")
    assert result.message.endswith("worked: nothing"), result.message


def test_a_level_is_tried_before_it_is_taken():
    observed = {"no_udp": True}
    strict, *others, bare, _ = levels = sandbox_probe.cuda_levels("auto")
    assert sandbox_probe.first_that_works(levels, lambda level: observed) == replace(strict, observed=observed)
    refuses = [strict, *others]
    found = sandbox_probe.first_that_works(levels, lambda level: "driver error 201" if level in refuses else observed)
    assert replace(found, problem="") == replace(bare, observed=observed)
    assert found.problem.startswith("pid+ipc+network+mount: driver error 201; ")
    assert found.missing() == ""
    refuses.append(bare)
    found = sandbox_probe.first_that_works(levels, lambda level: "no" if level in refuses else observed)
    assert "CUDA works with all of /dev and /proc alone (" in found.missing()
    assert replace(sandbox_probe.first_that_works(levels, lambda level: "no"), problem="") == bare


def test_the_probe_says_what_holds_for_a_process_that_tried():
    holds = {"capabilities_dropped", "no_new_privileges", "no_udp", "environments_closed", "own_shared_memory"}
    assert find_sandbox("auto", "cpu").observed == dict.fromkeys(holds, True)
    open_to_udp = replace(ON_CUDA[-1], seccomp=False)
    found = sandbox_probe.try_out(open_to_udp)
    assert (found["no_udp"], found["capabilities_dropped"], found["own_shared_memory"]) == (False, True, False)
    assert "can send datagrams" in replace(open_to_udp, observed=found).missing()
    assert "libcuda" in sandbox_probe.try_out(open_to_udp, "--cuda") or cuda_device_count()


def test_what_holds_on_cuda_is_remembered(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setenv("FASTKERNELS_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(sandbox_probe, "try_out", lambda level, *words: tried.append(words) or {"no_udp": True})
    first, second = sandbox_probe.find_on_cuda("auto"), sandbox_probe.find_on_cuda("require")
    assert tried == [("--cuda",)]
    assert second == replace(first, mode="require")
    assert first.own == ("pid", "ipc", "network", "mount")


def test_privileges_are_gone(tmp_path):
    # Only asks: an attempt at one would harm the machine where the defence is off and the tests run as root.
    code = ("SYS_ADMIN, READ, libc = 21, 23, ctypes.CDLL(None)\ndef attempt():\n"
            "    if libc.prctl(READ, SYS_ADMIN, 0, 0, 0) == 0: raise PermissionError('no SYS_ADMIN')")
    refused(tmp_path, code, "no SYS_ADMIN")


DAEMON = """def attempt():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv('/bin/sleep', ['sleep', '{seconds}'])
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("namespaces", [True, False])
def test_a_daemon_ends_with_the_worker(tmp_path, namespaces, monkeypatch):
    if not namespaces:
        monkeypatch.setattr("fastkernels.bench.kernels.workers.find_sandbox",
                            lambda mode, device: Sandbox(mode, False, 7, "switched off"))
    seconds = f"300.{os.getpid()}{int(namespaces)}"
    assert graded(tmp_path, DAEMON.format(seconds=seconds)).verdict is Verdict.PASSED
    end = time.monotonic() + 5
    while left := sleeping(seconds):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def sleeping(seconds):
    return [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", seconds]]


FORKS = """def attempt():
    for _ in range(12):
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
    time.sleep(10)
"""


def test_too_many_processes_end_the_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "MAX_PROCESSES", 10)
    result = graded(tmp_path, FORKS)
    assert result.verdict is Verdict.LIMIT_EXCEEDED, result
    assert "processes (at most 10)" in result.message


def test_too_much_on_disk_ends_the_worker(tmp_path):
    code = "def attempt():\n    Path(os.environ['TMPDIR'], 'x').write_bytes(bytes(2**25))\n    time.sleep(5)"
    result = graded(tmp_path, code, disk_limit_bytes=2**24)
    assert result.verdict is Verdict.LIMIT_EXCEEDED, result
    assert "in files" in result.message


MEMORY = {
    "in children": """def attempt():
    for _ in range(4):
        if os.fork() == 0:
            kept = b'x' * 2**27
            time.sleep(20)
            os._exit(0)
    time.sleep(10)
""",
    "in a memory file": """def attempt():
    fd = os.memfd_create('fastkernels-arena')
    for _ in range(4): os.write(fd, b'x' * 2**27)
    time.sleep(10)
""",
}


@pytest.mark.parametrize("where", MEMORY)
def test_too_much_memory_in_the_whole_tree_ends_the_worker(tmp_path, monkeypatch, where):
    monkeypatch.setitem(watch.START_BYTES, "cpu", 2**28)
    result = graded(tmp_path, MEMORY[where], memory_limit_bytes=2**27 + 2**26)
    assert result.verdict is Verdict.OUT_OF_MEMORY, result
    assert "of memory in all processes" in result.message


def test_torch_compile_works(tmp_path):
    """Traced and lowered, which imports and caches what Inductor's way does; the red team's twin `inductor` builds C++
    in the sandbox."""
    code = """@torch.compile(backend="aot_eager")
def double(x): return x * 2 + 1
def attempt(): assert double(torch.ones(8)).tolist() == [3.0] * 8
"""
    result = graded(tmp_path, code, timeout_s=150.0)
    assert result.verdict is Verdict.PASSED, (result.message, result.evidence)


def test_what_is_missing_is_said_and_refused_where_it_is_required(monkeypatch):
    assert find_sandbox("auto", "cpu").missing() == ""
    assert "no Landlock" in Sandbox("auto", True, 0).missing()
    assert "no namespaces (EPERM)" in Sandbox("auto", False, 7, "EPERM").missing()
    assert "can signal" in Sandbox("auto", True, 4).missing()
    assert "sandbox off" in Sandbox("off", False, 0).missing()
    monkeypatch.setattr("fastkernels.bench.kernels.grader.find_sandbox", lambda mode, device: Sandbox(mode, True, 0))
    with pytest.raises(DeviceError, match="sandbox require: sandbox incomplete: no Landlock"):
        KernelGrader(GraderSettings(device="cpu", sandbox="require"))
    KernelGrader(GraderSettings(device="cpu"))


def test_the_cuda_probe_has_both_processes_write_to_each_other(monkeypatch):
    """With a driver that is made up: memory is files, and a handle is a file's name."""
    from fastkernels.bench.isolate import cuda_probe

    written, me = [], os.getpid()

    def export():
        return 0, (b"outside" if os.getpid() == me else b"inside").ljust(64, b"\0")

    def copy(function, host, *_):
        host.raw = b"\x5a" * cuda_probe._BYTES

    monkeypatch.setattr(cuda_probe, "_export", export)
    monkeypatch.setattr(cuda_probe, "_write_to", written.append)
    monkeypatch.setattr(cuda_probe, "_call", copy)
    assert cuda_probe.share_with(lambda: {"no_udp": True}) == {"no_udp": True}
    assert written == [b"inside".ljust(64, b"\0")]

    def refused():
        raise OSError("unshare: no")

    with pytest.raises(OSError, match="unshare: no"):
        cuda_probe.share_with(refused)
    monkeypatch.setattr(cuda_probe, "_call", lambda *_: None)
    with pytest.raises(OSError, match="does not arrive"):
        cuda_probe.share_with(lambda: {"no_udp": True})
