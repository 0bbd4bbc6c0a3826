"""The run's log: one JSON line per finished scenario, appended as it is made."""

from pathlib import Path


def start_log(path: Path, resume: bool = False) -> None:
    """Begin a run's log, once per run and before any grader opens it: empties it unless the run resumes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not resume:
        path.write_bytes(b"")
