"""Runs spread over workers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.env import STARTERS
from pytest_fastkernels import report, xdist_bridge
from pytest_fastkernels.session import FkSession

OF_SHAPES = ("rms_norm[tiny-b-tp1-s1]     self-test ", "rms_norm[tiny-b-tp1-s8]     self-test ",
             "silu_and_mul[tiny-a-tp1-s1] self-test ")
"""Of the shapes that no other scenario has, whichever worker grades it."""
OF_GROUPS = tuple(f"{op:<20} {model:<16} {found}" for op, model, found in [
    ("rms_norm", "tiny-a", "3 passed, 1 wrong_values"), ("rms_norm", "tiny-b", "2 passed  self-test"),
    ("silu_and_mul", "tiny-a", "1 passed  self-test")])


@pytest.mark.parametrize(("mode", "rows_live", "lines"), [
    (("-n8",), 60, OF_SHAPES), (("-n2", "--dist=loadgroup"), 60, OF_SHAPES),
    (("-n2", "--dist=worksteal"), 0, OF_GROUPS)], ids=["n8", "loadgroup", "worksteal"])
def test_the_controller_gathers_every_result(project, mode, rows_live, lines, monkeypatch):
    monkeypatch.setattr(report, "ROWS_LIVE", rows_live)
    project.fake(tp2_s8="wrong_values")
    result = project.run("--fk-level=1", *mode)
    result.assert_outcomes(passed=6, failed=1)
    assert [sum(shown.startswith(line) for shown in result.outlines) for line in lines] == [1] * len(lines)
    result.stdout.fnmatch_lines(["graded 7 scenarios *6 passed, 1 wrong_values", "left out: 2 scenarios, *"])
    data = project.results()
    assert [r["id"] for r in data["results"]] == sorted(r["id"] for r in data["results"])
    assert len({r["seed"] for r in data["results"]}) == 1
    assert data["environment"] == {"machine": "fake"}
    assert len(data["left_out"]) == 2


def test_a_worker_that_dies_costs_its_scenario_only(project):
    project.fake(tiny_b_tp1_s1="kill")
    result = project.run("--fk-level=1", "-n2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    verdicts = {r["id"]: r["verdict"] for r in project.results()["results"]}
    assert len(verdicts) == 7
    assert [v for v in verdicts.values() if v != "passed"] == ["no_result"]
    assert verdicts["rms_norm[tiny-b-tp1-s1]"] == "no_result"


def test_a_wrong_selection_ends_before_workers_start(project):
    result = project.run("--fk-target=rms", "-n2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "workers" not in result.stdout.str()


@pytest.mark.parametrize(("listed", "count", "expected"), [
    (None, 2, ["0", "1", "0"]), ("3,5", 2, ["3", "5", "3"]), ("GPU-aa", 1, ["GPU-aa"] * 3), (None, 0, [None] * 3)])
def test_gpus_are_dealt_out_round_robin(monkeypatch, listed, count, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    monkeypatch.setattr("fastkernels.bench.kernels.settings.cuda_device_count", lambda: count)
    specs = [SimpleNamespace(env={}) for _ in range(3)]
    xdist_bridge.XdistBridge(ungraded("cuda")).pytest_xdist_setupnodes(specs)
    assert [spec.env.get("CUDA_VISIBLE_DEVICES") for spec in specs] == expected


@pytest.mark.parametrize(("device", "controller", "expected"), [
    ("cuda", True, ["2 ranks at once: 1 GPU for each worker of -n"]), ("cuda", False, []), ("cpu", True, [])])
def test_workers_with_a_gpu_each_leave_several_ranks_out(project, device, controller, expected):
    session = FkSession(project.pytester.parseconfig())
    session.is_controller, session.opened = controller, SimpleNamespace(device=device, left_out=lambda scenario: None)
    rule = session._left_out_rule()
    found = [rule(SimpleNamespace(id="allreduce[a]", ranks=ranks)) for ranks in (1, 2)]
    assert [left.reason for left in found if left] == expected


def test_a_cpu_run_leaves_the_environment_of_workers_alone():
    spec = SimpleNamespace(env={})
    xdist_bridge.XdistBridge(ungraded("cpu")).pytest_xdist_setupnodes([spec])
    assert spec.env == {}


def test_workers_share_what_the_controller_has_started(project):
    graders = KernelGrader(GraderSettings(device="cpu")), SimpleNamespace(device="cpu")
    for grader, names in zip(graders, ([STARTERS], []), strict=True):
        session = FkSession(project.pytester.parseconfig())
        session.opened, session.run = grader, replace(session.run, paths=())
        specs = [SimpleNamespace(env={}) for _ in range(2)]
        xdist_bridge.XdistBridge(session).pytest_xdist_setupnodes(specs)
        assert [list(spec.env) for spec in specs] == [names, names]


def ungraded(device):
    """A session that grades nothing."""
    return SimpleNamespace(device=device, run=SimpleNamespace(collects=False))


@pytest.mark.parametrize("mode", [(), ("-n2",)])
def test_a_run_without_options_of_this_plugin_is_left_alone(project, mode):
    project.pytester.makepyfile("def test_nothing():\n    pass")
    result = project.run(*mode, manifest=False)
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*graded*")
    assert not (project.path / "bench").exists()
