"""Who gets which limit of host memory: the tree's on every device, mappings on a CPU alone."""

from types import SimpleNamespace

import pytest

from fastkernels.bench.isolate import process, process_tree, watch
from fastkernels.bench.isolate.process import WorkerProcess
from fastkernels.bench.isolate.sandbox import Sandbox
from fastkernels.bench.kernels import GraderSettings, workers
from fastkernels.bench.kernels.workers import Workers
from fastkernels.results import Verdict

GIB = 1024**3


@pytest.mark.parametrize(("device", "taken", "is_over"), [
    ("cpu", 2.5, False), ("cpu", 3.5, True), ("cuda", 5.5, False), ("cuda", 6.5, True)])
def test_a_tree_may_take_its_limit_and_what_its_device_takes_at_the_start(monkeypatch, device, taken, is_over):
    for name in ("resident_bytes", "shared_out_bytes"):
        monkeypatch.setattr(process_tree, name, lambda pid: int(taken * GIB))
    monkeypatch.setattr(process_tree, "members", lambda pid: [pid])
    monkeypatch.setattr(process_tree, "threads", lambda pid: 1)
    monkeypatch.setattr(process_tree, "memory_files", lambda pid, known: 0)
    found = watch.Watch(1, "/nowhere", [], watch.Limits(2 * GIB), device).look()
    assert (found is not None and found[0] is Verdict.OUT_OF_MEMORY) == is_over


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_mappings_are_limited_on_a_cpu_alone(monkeypatch, device):
    started = []
    monkeypatch.setattr(process, "_spawner", lambda owner: SimpleNamespace(submit=lambda call, command, **_: (
        started.append(command), call(["true"]))[1]))
    monkeypatch.setattr(process.subprocess, "Popen", lambda command, **_: SimpleNamespace(
        result=lambda: SimpleNamespace(pid=1, poll=lambda: 0, wait=lambda *_: 0)))
    monkeypatch.setattr(process, "_end_process", lambda *_: None)
    with monkeypatch.context() as no_descriptor:
        no_descriptor.delattr("os.pidfd_open", raising=False)
        worker = WorkerProcess("candidate", device, [], 5 * GIB, Sandbox("auto", True, 7))
    worker.close()
    assert ("--memory-limit" in started[0]) == (device == "cpu")
    assert worker._watch._limits.memory_bytes == 5 * GIB
    assert worker._watch._start_bytes == watch.START_BYTES[device.partition(":")[0]]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("asked", "limit"), [(None, 7 * GIB), (3 * GIB, 3 * GIB)])
def test_a_candidate_has_half_of_the_memory_or_what_was_asked_for(monkeypatch, device, asked, limit):
    limits = {}

    class Process:
        def __init__(self, role, device, arenas, memory_limit_bytes, *others):
            limits[role] = memory_limit_bytes

        def post(self, message):
            """Nobody is there."""

        close = post

    monkeypatch.setattr(workers, "WorkerProcess", Process)
    monkeypatch.setattr(workers, "default_limit_bytes", lambda: 7 * GIB)
    opened = Workers(GraderSettings(device="cpu", memory_limit_bytes=asked), device)
    opened.ready(None, "")
    assert limits == {"baseline": None, "candidate": limit}
