"""CI's sample of the red team: nothing is left out for long, and what a change touches is in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from redteam import sample
from redteam.case import CLASSES, HERE, TWINS, CaseError, all_cases
from redteam.sample import (
    QUARTERS,
    ROOT,
    TOUCHES,
    base_of,
    changed,
    quarter,
    quarter_of,
    touched_classes,
    touched_files,
)

CASES = all_cases()


def names(cases):
    return {case.name for case in cases}


@pytest.mark.parametrize("first", range(100, 104))
def test_four_consecutive_commits_run_every_file(first):
    runs = [quarter(CASES, count, f"hash{count}") for count in range(first, first + QUARTERS)]
    assert set().union(*map(names, runs)) == names(CASES)
    assert names(quarter(CASES, 1, "a")) != names(quarter(CASES, 2, "a"))


def test_every_commit_runs_every_class_and_about_a_quarter():
    for count in range(QUARTERS):
        chosen = quarter(CASES, count, "hash")
        assert {case.kind for case in chosen} == {*CLASSES, TWINS}
        assert len(chosen) < len(CASES) / 2


def test_of_a_class_without_a_file_in_the_quarter_the_commit_chooses_one():
    few = [case for case in CASES if case.kind == "clock"][:6]
    absent = [case for case in few if quarter_of(case.name) != 0]
    picked = [names(quarter(absent, 0, f"hash{commit}")) for commit in range(40)]
    assert all(len(one) == 1 for one in picked)
    assert set().union(*picked) == names(absent)


def test_a_new_file_moves_no_other():
    before = {case.name: quarter_of(case.name) for case in CASES[1:]}
    assert before.items() <= {case.name: quarter_of(case.name) for case in CASES}.items()
    assert names(quarter(CASES[1:], 0, "a")) <= names(quarter(CASES, 0, "a"))


def test_the_table_of_paths_names_what_there_is():
    for prefix, kinds in TOUCHES.items():
        assert prefix.endswith("test_") or (ROOT / prefix).exists(), f"{prefix} is no path any more"
        assert set(kinds) <= set(CLASSES), prefix


def test_all_that_grades_is_in_the_table():
    for folder in ("grade", "isolate", "kernels", "timing"):
        for path in (ROOT / "fastkernels/bench" / folder).rglob("*.py"):
            assert any(path.relative_to(ROOT).as_posix().startswith(prefix) for prefix in TOUCHES), path


@pytest.mark.parametrize(("path", "kinds"), [
    ("fastkernels/bench/timing/witness.py", ["clock", "hidden_work", "replay", "time"]),
    ("fastkernels/bench/isolate/landlock.py", ["effects", "process", "reference"]),
    ("fastkernels/bench/isolate/rank_peers.py", ["distributed"]),  # the longer entry counts, not the folder's
    ("fastkernels/bench/grade/judge.py", ["effects", "judge", "numerics"]),
    ("fastkernels/bench/kernels/grader.py", sorted(CLASSES)),
    ("tests/redteam/project.py", sorted(CLASSES)),
    ("tests/redteam/test_sample.py", []),
    ("docs/trust.md", []),
])
def test_classes_that_a_path_touches(path, kinds):
    assert list(touched_classes([path])) == kinds


def test_a_changed_file_runs_with_its_twin_and_no_other():
    case = next(case for case in CASES if case.name == "output_by_id")
    chosen = touched_files(CASES, [case.path.relative_to(ROOT).as_posix(), "README.md"])
    assert names(chosen) == {case.name, case.twin}
    assert touched_files(CASES, ["README.md"]) == ()


def test_a_touched_class_runs_whole_with_its_twins():
    chosen = touched_files(CASES, ["fastkernels/bench/isolate/rank_peers.py"])
    whole = [case for case in CASES if case.kind == "distributed"]
    assert names(chosen) == names(whole) | {case.twin for case in whole}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty repository that stands for this one."""
    monkeypatch.setattr(sample, "ROOT", tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    return tmp_path


def git(folder: Path, *arguments: str, day: int = 1) -> str:
    date = f"2026-01-{day:02}T12:00:00+0000"
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(folder)}
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "a", f"GIT_{role}_EMAIL": "a@example.org", f"GIT_{role}_DATE": date}
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True,
                          env=environment).stdout.strip()


def commit(folder: Path, path: str, day: int = 1) -> str:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(str(day))
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", path, day=day)
    return git(folder, "rev-parse", "HEAD")


def test_the_turn_goes_by_the_number_of_the_commit(repository):
    for number in (1, 2):
        head = commit(repository, f"file{number}", number)
    choice = sample.sample(CASES, "HEAD")
    assert names(choice.cases) == names(quarter(CASES, 2, head))
    assert f"quarter 3 of 4, the turn of commit {head[:12]}, number 2 " in choice.why
    with pytest.raises(CaseError, match="--sample: nothing is no commit"):
        sample.sample(CASES, "nothing")


def test_without_history_all_are_chosen_and_it_is_said(repository):
    for choice in (sample.sample(CASES, "HEAD"), changed(CASES, "auto")):
        assert names(choice.cases) == names(CASES)
        assert "no git history" in choice.why


def test_in_a_shallow_clone_all_are_chosen_and_it_is_said(repository, tmp_path_factory, monkeypatch):
    commit(repository, "one", 1)
    commit(repository, "two", 2)
    clone = tmp_path_factory.mktemp("clone")
    git(clone, "clone", "--quiet", "--depth=1", f"file://{repository}", ".")
    monkeypatch.setattr(sample, "ROOT", clone)
    choice = sample.sample(CASES, "HEAD")
    assert names(choice.cases) == names(CASES)
    assert "git fetch --unshallow" in choice.why


def test_what_changed_is_what_is_committed_edited_and_new(repository):
    base = commit(repository, "fastkernels/bench/isolate/rank_peers.py", 1)
    assert changed(CASES, base).cases == ()
    commit(repository, "fastkernels/bench/timing/wall.py", 2)
    assert {"clock", "time", "hidden_work", "replay", TWINS} == {case.kind for case in changed(CASES, base).cases}
    (repository / "fastkernels/bench/isolate/rank_peers.py").write_text("edited")
    (repository / "fastkernels/registry").mkdir()
    (repository / "fastkernels/registry/new.py").touch()
    choice = changed(CASES, base)
    assert {"distributed", "reference", "clock"} < {case.kind for case in choice.cases}
    assert f"since {base[:12]}" in choice.why
    assert "distributed by fastkernels/bench/isolate/rank_peers.py" in choice.why
    with pytest.raises(CaseError, match="--changed: nothing is no commit"):
        changed(CASES, "nothing")


def test_the_base_is_where_head_left_main_else_a_day_before(repository):
    first = commit(repository, "one", 1)
    assert base_of("auto") == (first, "the oldest commit here; all are of one day")
    second = commit(repository, "two", 5)
    third = commit(repository, "three", 5)
    assert base_of("auto")[0] == first
    git(repository, "update-ref", "refs/remotes/origin/main", third)
    assert base_of("auto") == (first, "the last commit a day before HEAD's")  # HEAD is main
    git(repository, "update-ref", "refs/remotes/origin/main", second)
    assert base_of("auto") == (second, "where HEAD left origin/main")


def test_the_command_says_what_it_chose():
    """By the real history of this checkout, whatever it is; without one all files are named."""
    done = subprocess.run([sys.executable, str(HERE / "run.py"), "--sample", "HEAD", "--list"], capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("sample: ")
    assert lines[1] == f"chosen: {len(lines) - 2} of {len(CASES)} files"
