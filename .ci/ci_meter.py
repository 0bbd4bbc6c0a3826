"""CPU seconds of a command and all that it starts.

`getrusage` does not know processes that somebody else reaped or nobody waited for, such as the workers that are killed
with their PID namespace. A control group counts those too; where none can be made, the process tree is sampled.
"""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

JOIN = 'echo $$ > "$0" && exec "$@"'
"""A shell that enters a control group, given as $0, before it becomes the command."""
TICKS = os.sysconf("SC_CLK_TCK")


class Meter(Protocol):
    """Counts one command's CPU seconds."""

    how: str
    """How it counts, for the table."""
    prefix: list[str]
    """What goes in front of the command."""

    def follow(self, pid: int) -> None:
        """The command has been started as this process."""

    def stop(self) -> tuple[float, list[str]]:
        """CPU seconds so far, and what of the command is still running."""


class GroupMeter:
    """A control group (version 2, or version 1's cpuacct) of the command's own."""

    how = "exact, of a control group for each part, killed processes included"

    def __init__(self, parent: Path) -> None:
        self._group = parent / f"fastkernels-ci-{uuid.uuid4().hex[:12]}"
        self._group.mkdir()
        try:
            self._read()
        except OSError:
            self._group.rmdir()
            raise
        self.prefix = ["sh", "-c", JOIN, str(self._group / "cgroup.procs")]

    def follow(self, pid: int) -> None:
        """Nothing to do: the command entered the group itself."""

    def stop(self) -> tuple[float, list[str]]:
        """Read the group and remove it; processes that are left keep it."""
        taken_s = self._read()
        left = [f"{pid} {_name(int(pid))}" for pid in (self._group / "cgroup.procs").read_text().split()]
        if not left:
            self.remove()
        return taken_s, left

    def remove(self) -> None:
        """Remove the group, which is busy for a moment after its last process has ended."""
        for _ in range(20):
            with contextlib.suppress(OSError):
                self._group.rmdir()
            if not self._group.exists():
                break
            time.sleep(0.05)

    def _read(self) -> float:
        old = self._group / "cpuacct.usage"
        if old.exists():
            return int(old.read_text()) / 1e9
        words = (self._group / "cpu.stat").read_text().split()
        return int(words[words.index("usage_usec") + 1]) / 1e6 if "usage_usec" in words else _missing(self._group)


class TreeMeter:
    """Looks at the process tree five times a second; what starts and is killed in between is missed."""

    how = "at least these, of a process tree looked at five times a second (no control group can be made here)"
    PAUSE_S = 0.2

    def __init__(self) -> None:
        self.prefix: list[str] = []
        self._own_s: dict[tuple[int, str], float] = {}
        self._reaped_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._pid = 0

    def follow(self, pid: int) -> None:
        """Begin to look."""
        self._pid = pid
        self._thread.start()

    def stop(self) -> tuple[float, list[str]]:
        """The larger of what was seen of all processes and of what the command has reaped."""
        self._ended.set()
        self._thread.join()
        return max(sum(self._own_s.values()), self._reaped_s), []

    def _look(self) -> None:
        while not self._ended.wait(self.PAUSE_S):
            self.sample(dict(_processes()))

    def sample(self, processes: dict[int, list[str]]) -> None:
        """Note the CPU seconds of the command's processes, from the fields of their /proc/PID/stat after the name."""
        inside = {self._pid, *(pid for pid, start in self._own_s if pid in processes and processes[pid][19] == start)}
        grown = True
        while grown:
            new = {pid for pid, fields in processes.items() if int(fields[1]) in inside} - inside
            inside |= new
            grown = bool(new)
        for pid in inside & processes.keys():
            user, system, reaped_user, reaped_system = (int(field) / TICKS for field in processes[pid][11:15])
            self._own_s[pid, processes[pid][19]] = user + system
            if pid == self._pid:
                self._reaped_s = user + system + reaped_user + reaped_system


def open_meter() -> Meter:
    """The exact meter where it can be had, else the other one."""
    for parent in _own_groups(Path("/proc/self/mountinfo"), Path("/proc/self/cgroup")):
        with contextlib.suppress(OSError):
            return GroupMeter(parent)
    return TreeMeter()


def _own_groups(mounts: Path, groups: Path) -> Iterator[Path]:
    """Folders of the control groups that this process is in: those that count CPU time."""
    try:
        paths = {kinds: path for _, kinds, path in (line.split(":", 2) for line in groups.read_text().splitlines())}
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return
    for row in rows:
        kind, options = row[row.index("-") + 1], row[-1].split(",")
        for kinds, path in paths.items():
            if (kind == "cgroup2" and not kinds) or (kind == "cgroup" and "cpuacct" in kinds.split(",")
                                                     and "cpuacct" in options):
                yield Path(row[4]) / os.path.relpath(path, row[3])


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100].strip()
    except OSError:
        return "(gone)"


def _missing(group: Path) -> float:
    raise OSError(f"{group}: no CPU time is counted")
