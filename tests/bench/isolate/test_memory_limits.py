"""Who gets which limit of host memory: the tree's on every device, mappings on a CPU alone."""

import os
from types import SimpleNamespace

import pytest
import torch

from fastkernels.bench.isolate import candidate_worker, process, process_tree, watch
from fastkernels.bench.isolate.candidate_worker import CandidateService
from fastkernels.bench.isolate.files import ARENAS
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
    limited = []
    monkeypatch.setattr(candidate_worker, "limit_data", limited.append)
    monkeypatch.setattr(candidate_worker, "Overlay", lambda directory: SimpleNamespace(install=lambda: None))
    service = CandidateService(torch.device(device), [None] * ARENAS)
    service.on_hello({"candidates": None, "memory_limit_bytes": 5 * GIB})
    service.on_hello({"candidates": None, "memory_limit_bytes": None})
    assert limited == ([5 * GIB] if device == "cpu" else [])


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_a_limit_of_the_tree_can_be_given_later(monkeypatch, device):
    monkeypatch.setattr(process, "launch", lambda *_: SimpleNamespace(pid=os.getpid(), poll=lambda: 0,
                                                                      wait=lambda *_: 0))
    monkeypatch.setattr(process, "_end_process", lambda *_: None)
    worker = WorkerProcess("candidate", device, [], Sandbox("auto", True, 7), disk_limit_bytes=3 * GIB)
    worker.limit_memory(5 * GIB)
    worker.close()
    assert worker._watch.limits == watch.Limits(5 * GIB, 3 * GIB)
    assert worker._watch._start_bytes == watch.START_BYTES[device.partition(":")[0]]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("asked", "limit"), [(None, 7 * GIB), (3 * GIB, 3 * GIB)])
def test_a_candidate_has_half_of_the_memory_or_what_was_asked_for(monkeypatch, device, asked, limit):
    limits = {}

    class Process:
        def __init__(self, role, *others, **more):
            self.role = role

        def limit_memory(self, limit_bytes):
            limits[self.role, "tree"] = limit_bytes

        def post(self, message):
            limits[self.role, "mappings"] = message.get("memory_limit_bytes")

        def close(self):
            """Nobody is there."""

    monkeypatch.setattr(workers, "WorkerProcess", Process)
    monkeypatch.setattr(workers, "default_limit_bytes", lambda: 7 * GIB)
    opened = Workers(GraderSettings(device="cpu", memory_limit_bytes=asked), device)
    opened.ready(None, "")
    assert limits == {("baseline", "mappings"): None, ("candidate", "tree"): limit, ("candidate", "mappings"): limit}
