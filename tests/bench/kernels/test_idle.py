"""What the candidate's processes do while only the baseline is at work: found in every draw of what is watched."""

from types import SimpleNamespace

import pytest

from fastkernels.bench.kernels import idle
from fastkernels.bench.kernels.idle import IdleWatch

REQUESTS = {"a few short ones": [0.004, 0.015, 0.015, 0.02, 0.015, 0.02], "many": [0.005] * 40, "one long": [0.2]}


def finding_of(monkeypatch, seconds, share):
    """What is found of processes that use `share` of a core during requests of so many seconds."""
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(idle.time, "perf_counter", lambda: now.s)

    def ask(request):
        now.s += request["s"]
        return {}

    watch = IdleWatch(lambda: share * now.s, ask)
    for length in seconds:
        watch.sometimes({"s": length})
    return watch.finding()


@pytest.mark.parametrize("requests", REQUESTS)
def test_a_hog_is_found_whichever_requests_are_watched(monkeypatch, requests):
    assert all(finding_of(monkeypatch, REQUESTS[requests], 0.6) is not None for _ in range(300))


@pytest.mark.parametrize("requests", REQUESTS)
def test_processes_at_rest_are_not_accused(monkeypatch, requests):
    assert all(finding_of(monkeypatch, REQUESTS[requests], 0.04) is None for _ in range(50))
