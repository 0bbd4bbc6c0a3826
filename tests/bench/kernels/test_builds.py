"""What candidates compile is kept for the same files, for nobody else, and for one run."""

import os
import threading
from pathlib import Path

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader, start_log
from fastkernels.bench.kernels.builds import MOST_KEPT, Builds, is_empty, is_locked
from fastkernels.bench.kernels.workers import Workers
from fastkernels.results import Verdict

SOURCE = '''
import os
from pathlib import Path

import torch
from torch import nn

KIND = {kind!r}
folder = Path(os.environ["TORCH_EXTENSIONS_DIR"])
found = (folder / "built").exists()
folder.mkdir(parents=True, exist_ok=True)
with open(folder / "built", "a") as file:
    file.write("x")
if KIND == "crash":
    os.abort()
if KIND == "raise":
    raise RuntimeError("no compiler")
for other in (folder.parent.parent.glob("dir-*") if KIND == "spoil" else ()):
    if other != folder.parent:
        (other / "spoilt").write_text("x")


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=torch.bfloat16), requires_grad=False)
        self.eps = eps

    def forward(self, x, residual=None):
        if x.shape[-1] == 48:
            raise RuntimeError(f"found: {{found}} {{folder}}")
        if x.shape[-1] == 64:
            (folder / "extension").mkdir()
            (folder / "extension" / "lock").touch()
            os.abort()
        wide = x.float()
        norm = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(torch.bfloat16)
        return norm * self.weight
'''


@pytest.fixture
def candidate(tmp_path):
    """Writes the candidate; returns settings for it."""
    (tmp_path / "mine" / "L1").mkdir(parents=True)

    def write(kind="plain"):
        (tmp_path / "mine" / "L1" / "rms_norm.py").write_text(SOURCE.format(kind=kind))
        return GraderSettings(device="cpu", timing=False, candidates_dir=tmp_path / "mine")

    return write


def told(grader):
    """Whether the process found what an earlier one has built, and where it looked."""
    _, _, words = grader.grade(rms_norm(hidden=48)).message.partition("found: ")
    found, _, folder = words.partition(" ")
    return found == "True", Path(folder)


def again(grader):
    """End the candidate's process; a scenario of its own is graded next."""
    grader._workers.candidate_side.close()
    grader._log._by_id.clear()
    grader._log._by_shape.clear()


def test_the_next_process_of_the_same_files_finds_what_was_built(candidate):
    with KernelGrader(candidate()) as grader:
        first, folder = told(grader)
        again(grader)
        second, same = told(grader)
        assert (first, second) == (False, True)
        assert folder == same
        candidate("edited")
        third, other = told(grader)
        assert not third
        assert other != folder
        root = folder.parent.parent
        assert root.is_dir()
    assert not root.exists()


def test_another_grader_of_the_run_finds_it_too_and_another_run_does_not(candidate, tmp_path):
    logs = [tmp_path / name for name in ("one.jsonl", "two.jsonl")]
    for log in logs:
        start_log(log)
    settings = candidate()
    with KernelGrader(settings, logs[0]) as one, KernelGrader(settings, logs[0]) as two, \
            KernelGrader(settings, logs[1]) as other:
        found, folder = told(one)
        two._log.path = None  # else it takes over the first one's result
        assert not found
        assert told(two) == (True, folder)
        assert told(other)[0] is False
        one.close()
        assert folder.is_dir()
    assert not folder.parent.parent.exists()


@pytest.mark.parametrize(("kind", "verdict"), [("crash", Verdict.CRASHED), ("raise", Verdict.IMPORT_ERROR)])
def test_what_failed_in_the_making_is_used_by_nobody(candidate, kind, verdict):
    with KernelGrader(candidate(kind)) as grader:
        assert grader.grade(rms_norm()).verdict is verdict
        loaded = grader._workers.candidate_side.loaded
        assert grader._builds.of(loaded) is None
        assert grader.under_way() == []


def test_a_build_lock_that_a_killed_process_has_left_holds_up_nobody(candidate):
    with KernelGrader(candidate()) as grader:
        assert grader.grade(rms_norm(hidden=64)).verdict is Verdict.CRASHED
        assert told(grader)[0] is False


def test_a_candidate_cannot_write_where_another_one_compiles(candidate):
    with KernelGrader(candidate()) as grader:
        assert grader.grade(rms_norm()).verdict is Verdict.PASSED
        candidate("spoil")
        result = grader.grade(rms_norm())
        assert "PermissionError" in result.message, result
        assert result.verdict is Verdict.IMPORT_ERROR


def test_an_import_has_a_time_limit_of_its_own():
    short, default = GraderSettings(timeout_s=5.0), GraderSettings()
    assert (default.longest_build_s, short.longest_build_s) == (300.0, 5.0)
    assert GraderSettings(timeout_s=5.0, build_timeout_s=7.0).longest_build_s == 7.0
    workers = Workers(GraderSettings(timeout_s=61.0), "cpu")
    limits = {what: workers._timeout_s({"do": what}) for what in ("import", "build", "reload", "call", "measure")}
    assert limits == {"import": 300.0, "build": 300.0, "reload": 300.0, "call": 61.0, "measure": 61.0}


def test_who_comes_second_waits_for_the_first(tmp_path):
    one, two = Builds(tmp_path), Builds(tmp_path)
    folder = one.fresh()
    waited = []

    def second():
        with two.first("files", 60.0) as waited_s:
            waited.append((waited_s, two.of("files")))

    with one.first("files", 60.0) as waited_s:
        assert waited_s < 60
        thread = threading.Thread(target=second)
        thread.start()
        one.give("files", folder)
        assert waited == []
    thread.join()
    assert waited[0][1] == folder
    with one.first("files", 60.0), two.first("files", 0.05) as waited_s:
        assert waited_s >= 0.05  # one that was stopped must not stop the others
    for builds in (one, two):
        builds.close()
    assert not folder.exists()


def test_what_is_under_way_is_seen_by_all(tmp_path):
    one, two, elsewhere = Builds(tmp_path), Builds(tmp_path), Builds()
    with one.building("L1.rms_norm"):
        assert [building.module for building in two.under_way()] == ["L1.rms_norm"]
        assert elsewhere.under_way() == []
    assert two.under_way() == []
    one.close()


def test_a_folder_that_took_much_goes_once_others_are_graded(monkeypatch):
    monkeypatch.setattr("fastkernels.bench.kernels.builds.MOST_BYTES", 10_000)
    builds = Builds()
    small, large, last = (builds.fresh() for _ in range(3))
    builds.give("small", small)
    (large / "x").mkdir()
    builds.give("large", large)
    (large / "x" / "bomb").write_bytes(bytes(100_000))
    builds.give("last", last)
    assert (small.exists(), large.exists(), builds.of("large")) == (True, False, None)
    builds.close()


def test_folders_of_old_files_go():
    builds = Builds()
    folders = [builds.fresh() for _ in range(MOST_KEPT + 1)]
    for number, folder in enumerate(folders):
        builds.give(f"files {number}", folder)
    assert (builds.of("files 0"), builds.of("files 1")) == (None, folders[1])
    assert not folders[0].exists()
    builds.close()


def test_what_a_killed_run_has_left_goes(tmp_path):
    killed, living = Builds(tmp_path / "one"), Builds(tmp_path / "two")
    left, used = killed.fresh(), living.fresh()
    killed._finalizer.detach()
    killed._use.close()  # as the kernel does
    fresh = Builds(tmp_path / "three")
    fresh.fresh()
    assert not left.exists()
    assert used.exists()
    again = Builds(tmp_path / "one")
    assert again.fresh().parent == left.parent
    for builds in (living, fresh, again):
        builds.close()


def test_a_folder_tells_what_is_in_it(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert is_empty(tmp_path)
    (tmp_path / "a" / "b" / "x.so").touch()
    assert (is_empty(tmp_path), is_locked(tmp_path)) == (False, False)
    (tmp_path / "a" / "b" / "lock").touch()
    assert is_locked(tmp_path)
    assert os.listdir(tmp_path) == ["a"]
