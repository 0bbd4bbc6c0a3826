"""The run's log: one JSON line per finished scenario, appended as it is made; what a resumed run keeps."""

import json
import os
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from fastkernels.results import ScenarioResult, to_json
from fastkernels.results.files import result_adapter


def start_log(path: Path, resume: bool = False) -> None:
    """Begin a run's log, once per run and before any grader opens it: empties it unless the run resumes.

    OSError where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab" if resume else "wb"):
        pass


def keep_log(path: Path) -> Path | None:
    """Give a log that holds anything another name, that of the time when it was last written; return that name."""
    if not path.exists() or not path.stat().st_size:
        return None
    written = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y%m%d-%H%M%S")
    names = (path.with_stem(f"{path.stem}-{written}{more}") for more in chain([""], (f"-{n}" for n in count(2))))
    kept = next(name for name in names if not os.path.lexists(name))
    path.rename(kept)
    return kept


@dataclass(frozen=True)
class Entry:
    """One line of the log."""

    conditions: str
    """Hash of settings and candidate files: a result is kept only under equal ones."""
    result: ScenarioResult
    """The result."""


@dataclass
class ResultLog:
    """The log of one run, shared by its processes; without a path it is kept in memory."""

    path: Path | None
    _read_bytes: int = 0
    _by_id: dict[str, Entry] = field(default_factory=dict)
    _by_shape: dict[tuple[str, str], ScenarioResult] = field(default_factory=dict)

    def append(self, conditions: str, result: ScenarioResult) -> None:
        """Write one line at once, so that a killed run loses nothing that was finished.

        OSError where the file cannot take it; this process knows the result all the same.
        """
        self._remember(Entry(conditions, result))
        if self.path is None:
            return
        line = json.dumps({"conditions": conditions, "result": to_json(result)}, separators=(",", ":")).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if _is_torn(fd):
                line = b"\n" + line  # a killed run's half line stays a line of its own
            written = os.write(fd, line)
            if written != len(line):
                raise OSError(f"{self.path}: {written} of {len(line)} bytes were written")
        finally:
            os.close(fd)

    def find(self, address: str, shape_key: str, *conditions: str) -> ScenarioResult | None:
        """The finished result of this address, if it was the same computation under one of these conditions."""
        self._refresh()
        entry = self._by_id.get(address)
        fits = entry is not None and entry.conditions in conditions and entry.result.shape_key == shape_key
        return entry.result if entry is not None and fits else None

    def find_equal(self, shape_key: str, *conditions: str) -> ScenarioResult | None:
        """A finished result of the same computation under any address and one of these conditions."""
        self._refresh()
        found = (self._by_shape.get((shape_key, each)) for each in conditions)
        return next((result for result in found if result is not None), None)

    def _refresh(self) -> None:
        """Read the lines that this or another process has added."""
        if self.path is None or not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            added = file.read()
        whole = added[:added.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            entry = _parse(line)
            if entry is not None:
                self._remember(entry)

    def _remember(self, entry: Entry) -> None:
        self._by_id[entry.result.id] = entry
        if entry.result.shared_with is None:
            self._by_shape[entry.result.shape_key, entry.conditions] = entry.result


def _is_torn(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return size > 0 and os.pread(fd, 1, size - 1) != b"\n"


def _parse(line: bytes) -> Entry | None:
    """The entry of a line; None for what a killed process or an older version left, which is graded again."""
    try:
        data: dict[str, Any] = json.loads(line)
        return Entry(str(data["conditions"]), result_adapter().validate_python(data["result"]))
    except (ValueError, TypeError, KeyError):
        return None
