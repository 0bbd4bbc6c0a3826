"""Both workers start with the same allocator and thread settings, which the user may override."""

from fastkernels.bench.isolate import process


def test_workers_get_them(monkeypatch):
    for name in process.EQUAL_TERMS:
        monkeypatch.delenv(name, raising=False)
    environment = process.worker_environment()
    assert {name: environment[name] for name in process.EQUAL_TERMS} == process.EQUAL_TERMS


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert process.worker_environment()["GOMP_SPINCOUNT"] == "7"
