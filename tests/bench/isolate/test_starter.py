"""Starters: what a forked worker has and has not, who ends when, and when a starter is of no use any more."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from results_by_hand import rms_norm

from fastkernels.bench.isolate import launch
from fastkernels.bench.isolate.files import ARENAS, create_file
from fastkernels.bench.isolate.passthrough import HARNESS
from fastkernels.bench.isolate.process import WorkerProcess
from fastkernels.bench.isolate.sandbox import OPEN, find_sandbox
from fastkernels.bench.isolate.starter import sources, wire
from fastkernels.bench.isolate.starter.client import Connection, RefusedError
from fastkernels.bench.isolate.starter.server import Server
from fastkernels.bench.isolate.starter.shared import Starters, starters
from fastkernels.bench.isolate.starter.sources import environment_digest
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.env import STARTERS
from fastkernels.errors import FastKernelsError, WorkerError
from fastkernels.results import Verdict

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")

ROOT = Path(__file__).parents[3]
HERE = GraderSettings(device="cpu", seed=3, timing=False, self_test=True)
TELLS = '''
import ctypes, json, os, random, signal, sys, tempfile, threading

import torch

print(json.dumps({
    "modules": sorted(sys.modules), "tasks": len(os.listdir("/proc/self/task")), "hash": hash("fastkernels"),
    "descriptors": {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                    if os.path.exists(f"/proc/self/fd/{name}")},
    "handlers": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
    "random": random.random(), "numpy": __import__("numpy").random.random(), "torch": torch.initial_seed(),
    "temporary": tempfile.gettempdir(), "argv": sys.argv, "environment": dict(os.environ), "here": os.getcwd(),
    "cores": sorted(os.sched_getaffinity(0)), "session": os.getsid(0) == os.getpid(),
    "cuda": torch.cuda.is_initialized(),
}), flush=True)


class RMSNorm(torch.nn.Module):
    """Only imported."""
'''


@pytest.fixture(scope="module")
def own():
    """Starters of these tests' own: each takes a second to import torch."""
    made = Starters(starters().spawner)
    yield made
    made.close()


@pytest.fixture
def fresh():
    """Starters that a test may end."""
    made = Starters(starters().spawner)
    yield made
    made.close()


@pytest.fixture
def waiting():
    """Makes the arguments of `spawn` for a worker that waits for requests."""
    ours, theirs = socket.socketpair()
    log = os.open(os.devnull, os.O_WRONLY)
    fds = [log, *(create_file() for _ in range(ARENAS))]
    with ours, theirs:
        yield lambda environment: (["--role", "baseline"], environment, environment, [log, theirs.fileno(), *fds[1:]])
    for fd in fds:
        os.close(fd)


@pytest.fixture
def told(tmp_path):
    """Starts a candidate's worker and returns what it tells of itself."""
    (tmp_path / "L1").mkdir()
    (tmp_path / "L1" / "rms_norm.py").write_text(TELLS)
    arenas = [create_file() for _ in range(ARENAS)]

    def tell(sandbox=OPEN):
        worker = WorkerProcess("candidate", "cpu", arenas, sandbox)
        worker.request({"do": "hello", "candidates": str(tmp_path), "memory_limit_bytes": None}, 60)
        assert worker.request({"do": "import", "module": "L1.rms_norm", "class_name": "RMSNorm"}, 60) == {}
        log = os.pread(worker._log.fileno(), 1 << 22, 0).decode()
        worker.close()
        return json.loads(log.splitlines()[-1])

    yield tell
    for fd in arenas:
        os.close(fd)


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_a_fresh_worker_holds_nothing_of_its_starter_nor_of_the_judge(told, mode):
    found = told(find_sandbox(mode, "cpu"))
    assert [name for name in found["modules"] if f"{name}.".startswith(tuple(f"{word}." for word in HARNESS))] == []
    assert found["tasks"] == 1
    assert not found["cuda"]
    assert found["session"]
    sockets = [name for name, target in found["descriptors"].items() if target.startswith("socket:")]
    assert sockets == [found["argv"][found["argv"].index("--fd") + 1]]
    assert len(found["descriptors"]) == 3 + len(sockets) + ARENAS
    assert STARTERS not in found["environment"]


def test_workers_of_one_starter_have_random_states_and_scratch_of_their_own(told):
    first, second = told(), told()
    for name in ("random", "numpy", "torch", "temporary"):
        assert first[name] != second[name], name
    for name in ("handlers", "here", "cores"):
        assert first[name] == second[name], name
    assert first["here"] == str(Path.cwd())


def test_a_worker_is_like_one_that_was_executed(told, monkeypatch):
    forked = told()
    monkeypatch.setenv("FASTKERNELS_WORKER_START", "exec")
    executed = told()
    for name in ("handlers", "here", "cores", "session"):
        assert forked[name] == executed[name], name
    own = {"FASTKERNELS_WORKER_START", "LC_CTYPE"}
    environments = [{name: value.replace(found["temporary"], "SCRATCH") for name, value in found["environment"].items()}
                    for found in (forked, executed)]
    assert without(environments[0], own) == without(environments[1], own)


def without(mapping, names):
    return {name: value for name, value in mapping.items() if name not in names}


def test_variables_of_the_supervisor_reach_the_next_worker_and_ps(told, monkeypatch):
    assert "FASTKERNELS_MARK" not in told()["environment"]
    monkeypatch.setenv("FASTKERNELS_MARK", "seen")
    assert told()["environment"]["FASTKERNELS_MARK"] == "seen"
    arenas = [create_file() for _ in range(ARENAS)]
    worker = WorkerProcess("candidate", "cpu", arenas, OPEN)
    try:
        process = psutil.Process(worker.pid)
        wait_until(lambda: "--role" in process.cmdline())
        assert process.environ()["FASTKERNELS_MARK"] == "seen"
        assert process.cmdline()[process.cmdline().index("--role") + 1] == "candidate"
    finally:
        worker.close()
        for fd in arenas:
            os.close(fd)


@pytest.mark.skipif(os.getuid() != 0, reason="a starter's memory map is shown to root alone")
def test_trusted_and_candidates_workers_know_neither_layout_nor_hashes_of_each_other(own):
    environment = launch.worker_environment()
    own.prepare(environment)
    trusted, candidate = (own.start(kind, environment).pid for kind in ("trusted", "candidate"))
    places = [wait_until(lambda pid=pid: first_place_of(pid, "libc.so")) for pid in (trusted, candidate)]
    assert places[0] != places[1]
    assert "PYTHONHASHSEED" not in psutil.Process(trusted).environ()  # each then draws its own


def first_place_of(pid, name):
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return next((line.split("-")[0] for line in lines if name in line), None)


def test_a_starter_is_not_used_under_another_environment(own):
    environment = launch.worker_environment()
    starter = own.start("candidate", environment)
    with pytest.raises(RefusedError, match="environment is another"):
        starter.connection.spawn([], environment, environment_digest({**environment, "OMP_NUM_THREADS": "1"}), [])
    assert own.start("candidate", {**environment, "FASTKERNELS_X": "1", "TMPDIR": "/elsewhere"}) is starter
    assert own.start("candidate", {**environment, "OMP_NUM_THREADS": "1"}) is not starter


def test_a_starter_whose_sources_have_changed_is_replaced(own, waiting, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("")
    environment = {**launch.worker_environment()}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
    first = own.spawn("candidate", *waiting(environment))
    old = own.start("candidate", environment)
    (tmp_path / "sitecustomize.py").write_text("CHANGED = True\n")
    assert spawn(own, environment).wait(20) == 2
    assert own.start("candidate", environment) is not old
    assert first.poll() is None  # what runs may end in peace
    os.kill(first.pid, signal.SIGUSR1)
    assert first.wait(20) == -signal.SIGUSR1


def spawn(own, environment, words=("--role", "nobody")):
    """A worker that ends at once with argparse's exit status 2, or the one that `words` describe."""
    with open(os.devnull, "wb") as log:
        return own.spawn("candidate", words, environment, environment, [log.fileno(), log.fileno()])


def test_what_lies_on_disk_is_compared_with_what_was_loaded(tmp_path, monkeypatch):
    (tmp_path / "fk_first_of_a_package.py").write_text("ONE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("fk_first_of_a_package")
    __import__("torch")
    stamps = sources.stamps_of_loaded()
    for word in ("fk_first_of_a_package.py", "torch/__init__.py", "torch/version.py", "isolate/process.py"):
        assert any(path.endswith(word) for path in stamps), word
    assert sources.first_changed(stamps) == ""
    os.utime(tmp_path / "fk_first_of_a_package.py", (1, 1))
    assert sources.first_changed(stamps).endswith("fk_first_of_a_package.py")
    server = Server("candidate", None, {}, stamps, "digest")
    assert "fk_first_of_a_package.py has changed" in server._refusal({"digest": "digest"})
    (tmp_path / "fk_first_of_a_package.py").unlink()
    assert sources.first_changed(stamps).endswith("fk_first_of_a_package.py")


def test_a_starter_that_cannot_import_says_why(own, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch of this kind')\n")
    environment = {**launch.worker_environment(), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    with pytest.raises(WorkerError, match=r"(?s)starts candidate workers has ended.*no torch of this kind"):
        spawn(own, environment)


def test_exit_status_signal_and_time_limit_are_those_of_the_process(own, waiting):
    environment = launch.worker_environment()
    assert spawn(own, environment).wait(20) == 2
    worker = own.spawn("trusted", *waiting(environment))
    assert worker.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.05)
    os.kill(worker.pid, signal.SIGUSR1)
    assert worker.wait(20) == -signal.SIGUSR1
    assert not worker.is_lost


def test_an_answer_that_an_interrupt_has_left_unread_is_not_taken_for_the_next(own, waiting, monkeypatch):
    environment = launch.worker_environment()
    worker = own.spawn("trusted", *waiting(environment))
    with monkeypatch.context() as interrupted:
        interrupted.setattr(wire, "receive", lambda connection: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            own.spawn("trusted", *waiting(environment))
    os.kill(worker.pid, signal.SIGUSR1)
    assert worker.wait(20) == -signal.SIGUSR1


def test_a_system_without_a_process_left_is_an_error_and_harms_no_other_worker(monkeypatch):
    replies = []
    monkeypatch.setattr(os, "fork", lambda: (_ for _ in ()).throw(BlockingIOError(11, "no process left")))
    monkeypatch.setattr(wire, "send", lambda connection, message: replies.append(message))
    server = Server("candidate", None, {"connection": {7}}, {}, "digest")
    server._answer("connection", {"do": "spawn", "digest": "digest", "id": 3}, [])
    assert replies == [{"failed": "[Errno 11] no process left", "id": 3}]
    assert server.children == {"connection": {7}}
    monkeypatch.setattr(Connection, "ask", lambda self, message, fds: replies[0])
    ours, theirs = wire.open_pair()
    with theirs, pytest.raises(WorkerError, match=r"no worker can be forked.*no process left"):
        Connection(ours).spawn([], {}, "digest", [])


def test_a_process_keeps_no_starter_for_each_environment_that_there_was(fresh):
    environment = launch.worker_environment()
    made = [fresh.start("candidate", {**environment, "OMP_NUM_THREADS": str(count)}) for count in range(1, 5)]
    assert list(fresh.own.values()) == made[-2:]
    pids = [starter.pid for starter in made]
    del made
    wait_until(lambda: [is_running(pid) for pid in pids] == [False, False, True, True])


def test_another_environment_for_once_does_not_end_the_use_of_given_starters(own, monkeypatch):
    environment = launch.worker_environment()
    given = {kind: own.start(kind, environment).connection for kind in ("trusted", "candidate")}
    below = Starters(own.start, given=given)
    monkeypatch.setattr(below, "start", own.start)
    assert spawn(below, {**environment, "OMP_NUM_THREADS": "1"}).wait(20) == 2
    assert below.given == given
    assert spawn(below, environment).wait(20) == 2


def test_a_starter_that_is_killed_costs_no_verdict(fresh, monkeypatch):
    monkeypatch.setattr(launch, "starters", lambda: fresh)
    with KernelGrader(HERE) as grader:
        assert grader.grade(rms_norm(tokens=5)).verdict is Verdict.PASSED
        assert len(fresh.own) == 2
        for starter in fresh.own.values():
            os.kill(starter.pid, signal.SIGKILL)
        assert grader.grade(rms_norm(tokens=6)).verdict is Verdict.PASSED


def test_starters_end_with_their_process(tmp_path):
    code = f"""
import os, sys
from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.bench.isolate.starter.shared import starters
sys.path.insert(0, {str(ROOT / "tests")!r})
from results_by_hand import rms_norm
grader = KernelGrader(GraderSettings(device="cpu", seed=3, timing=False, self_test=True))
grader.grade(rms_norm(tokens=5))
print(*(starter.pid for starter in starters().own.values()), *grader.worker_pids(), flush=True)
os.kill(os.getpid(), 9)
"""
    environment = without({**os.environ, "PYTHONPATH": str(ROOT)}, {STARTERS})
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    pids = [int(word) for word in ran.stdout.split()]
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert len(pids) == 5  # two starters, two workers and the spare one
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_processes_below_use_the_starters_and_lose_only_what_is_theirs(own):
    environment = launch.worker_environment()
    token = own.share(environment)
    code = """
import os, time
from fastkernels.bench.isolate.process import WorkerProcess
from fastkernels.bench.isolate.starter.shared import starters
worker = WorkerProcess("baseline", "cpu")
print(worker.pid, len(starters().own), flush=True)
time.sleep(60)
"""
    user = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                            env={**os.environ, **token, "PYTHONPATH": environment["PYTHONPATH"]})
    try:
        worker, count = map(int, user.stdout.readline().split())
        trusted = own.start("trusted", environment)
        assert psutil.Process(worker).ppid() == trusted.pid
        assert count == 0
    finally:
        user.kill()
        user.communicate()
    wait_until(lambda: not psutil.pid_exists(worker))
    assert trusted.alive
    assert spawn(own, environment).wait(20) == 2


@pytest.mark.parametrize("token", ["", "x", "1:2", "1:2:3:4", "{pid}:1:3:4", "999999999:1:3:4"])
def test_a_token_that_names_nobody_is_of_no_use_and_harms_nothing(token):
    code = """
from fastkernels.bench.isolate.starter.shared import starters
print(len(starters().given))
"""
    environment = {**os.environ, STARTERS: token.format(pid=os.getpid()), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert (ran.stdout, ran.stderr) == ("0\n", "")


def test_workers_can_be_executed_instead(monkeypatch):
    monkeypatch.setenv("FASTKERNELS_WORKER_START", "exec")
    worker = WorkerProcess("baseline", "cpu")
    assert isinstance(worker._process, subprocess.Popen)
    worker.close()
    monkeypatch.setenv("FASTKERNELS_WORKER_START", "forkk")
    with pytest.raises(FastKernelsError, match=r"FASTKERNELS_WORKER_START.*fork.*exec"):
        WorkerProcess("baseline", "cpu")


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, timeout_s=30):
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found
