"""CPU seconds of a command: those of processes that nobody waited for too."""

import subprocess
import sys

import ci_meter
import pytest
from ci_meter import TICKS, GroupMeter, TreeMeter, open_meter

BURN = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.4: pass\n"
ORPHANS = f"""
import os, signal, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # its child's CPU time is added to nobody's
child = subprocess.Popen([sys.executable, "-c", {BURN!r} + "print(1, flush=True); time.sleep(60)"],
                         stdout=subprocess.PIPE)
child.stdout.readline()
child.kill()
"""


def measured(meter, code):
    process = subprocess.Popen([*meter.prefix, sys.executable, "-c", code])
    meter.follow(process.pid)
    assert process.wait(60) == 0
    return meter.stop()


def group_meter():
    meter = open_meter()
    if not isinstance(meter, GroupMeter):
        pytest.skip("no control group can be made here; the tree's meter is tested")
    return meter


def test_a_control_group_counts_what_getrusage_does_not():
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    meter = group_meter()
    cpu_s, left = measured(meter, ORPHANS)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert cpu_s >= 0.4
    assert left == []
    assert not meter._group.exists()
    assert cpu_s >= 0.3 + sum(after[:2]) - sum(before[:2])  # the killed child's time is not in there


def test_a_process_that_is_left_is_named():
    meter = group_meter()
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)"
    process = subprocess.Popen([*meter.prefix, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = process.communicate(timeout=60)[0].strip()
    try:
        assert meter.stop()[1] == [f"{pid} sleep 60"]
    finally:
        subprocess.run(["kill", pid], check=True)
        meter.remove()
    assert not meter._group.exists()


def fields(parent, start, own=0.0, reaped=0.0):
    """The fields of /proc/PID/stat from the state on: the second is the parent, 12 to 15 are times, 20 is the start."""
    row = ["S", str(parent), *["0"] * 18]
    row[11], row[13], row[19] = str(int(own * TICKS)), str(int(reaped * TICKS)), start
    return row


def seen(*samples):
    meter = TreeMeter()
    meter._pid = 10
    for sample in samples:
        meter.sample(sample)
    meter._thread.start()
    return meter.stop()[0]


def test_the_tree_counts_what_was_killed_and_what_has_a_new_parent():
    assert seen({10: fields(1, "a", 1), 11: fields(10, "b", 2), 12: fields(11, "c", 3), 99: fields(1, "d", 50)},
                {10: fields(1, "a", 1), 12: fields(1, "c", 4)}) == 1 + 2 + 4


def test_the_tree_counts_what_was_reaped_between_two_looks():
    assert seen({10: fields(1, "a", 1, reaped=8), 11: fields(10, "b", 2)}) == 9


def test_another_process_of_the_same_number_is_none_of_the_commands():
    assert seen({10: fields(1, "a", 1), 11: fields(10, "b", 2)},
                {10: fields(1, "a", 1), 11: fields(1, "z", 70)}) == 3


def test_without_a_control_group_the_tree_is_looked_at(monkeypatch, tmp_path):
    monkeypatch.setattr(ci_meter, "_own_groups", lambda *paths: iter([tmp_path / "none", tmp_path]))
    meter = open_meter()  # the second folder can be written, but is no control group
    assert isinstance(meter, TreeMeter)
    cpu_s, _ = measured(meter, f"{BURN}time.sleep({3 * TreeMeter.PAUSE_S})")
    assert cpu_s > 0.3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mounts", "groups", "folder"), [
    ("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "0::/user/me", "/sys/fs/cgroup/user/me"),
    ("33 31 0:30 / /cg/cpuacct rw - cgroup cgroup rw,cpuacct,cpu", "3:cpu,cpuacct:/a\n2:memory:/b", "/cg/cpuacct/a"),
    ("41 31 0:38 /box /cg rw - cgroup2 cgroup2 rw", "0::/box/me", "/cg/me"),
    ("35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory", "4:memory:/b", None),
])
def test_the_groups_of_this_process(tmp_path, mounts, groups, folder):
    (tmp_path / "mounts").write_text(mounts + "\n")
    (tmp_path / "groups").write_text(groups + "\n")
    found = [str(path) for path in ci_meter._own_groups(tmp_path / "mounts", tmp_path / "groups")]
    assert found == ([folder] if folder else [])
    assert list(ci_meter._own_groups(tmp_path / "no", tmp_path / "no")) == []
