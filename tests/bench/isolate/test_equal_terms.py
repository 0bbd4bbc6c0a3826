"""Both workers start with the same allocator and thread settings, which the user may override."""

from fastkernels.bench.isolate import launch


def test_workers_get_them(monkeypatch):
    for name in launch.EQUAL_TERMS:
        monkeypatch.delenv(name, raising=False)
    environment = launch.worker_environment()
    assert {name: environment[name] for name in launch.EQUAL_TERMS} == launch.EQUAL_TERMS


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert launch.worker_environment()["GOMP_SPINCOUNT"] == "7"
