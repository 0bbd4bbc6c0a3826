"""Exceptions of a candidate as verdict, line and evidence."""

import torch

from fastkernels.bench.isolate.failure import MAX_LINE, failure
from fastkernels.results import Verdict


class UnreadableError(Exception):
    def __str__(self):
        raise RuntimeError("no")


def raised(make):
    try:
        make()
    except Exception as error:
        return failure(error, Verdict.FORWARD_ERROR, "forward")
    raise AssertionError("nothing was raised")


def test_the_evidence_begins_at_the_candidate_and_leaves_out_torch():
    class Broken(torch.nn.Module):
        def forward(self):
            return 1 / 0

    found = raised(Broken())
    assert found["verdict"] == "forward_error"
    assert found["message"] == "forward raised ZeroDivisionError: division by zero"
    assert "return 1 / 0" in found["evidence"]
    assert "_call_impl" not in found["evidence"]


def test_running_out_of_memory_is_told_apart():
    def fail():
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    def fail_by_type():
        raise MemoryError

    assert raised(fail)["verdict"] == raised(fail_by_type)["verdict"] == "out_of_memory"


def test_an_exception_that_cannot_be_read_and_one_without_end_are_told():
    def unreadable():
        raise UnreadableError

    def endless():
        raise ValueError("x" * 10**6)

    assert "UnreadableError" in raised(unreadable)["message"]
    assert len(raised(endless)["message"]) < MAX_LINE + 50
    assert len(raised(endless)["evidence"]) < 10_000
