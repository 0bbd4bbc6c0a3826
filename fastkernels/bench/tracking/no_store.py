"""The store that keeps nothing."""

from collections.abc import Mapping

from fastkernels.bench.tracking.run import TrackedRun


class NoStore:
    """Takes everything and keeps none of it."""

    uri = ""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        """Why nothing is kept, for the user; empty where that was the user's wish."""

    def open_run(self, name: str, tags: Mapping[str, str], parent: str, started: str) -> str:
        """Return no id."""
        del name, tags, parent, started
        return ""

    def write_values(self, run_id: str, params: Mapping[str, str], metrics: Mapping[str, tuple[float, int]],
                     tags: Mapping[str, str]) -> None:
        """Keep nothing."""

    def write_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Keep nothing."""

    def write_dataset(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Keep nothing."""

    def end_run(self, run_id: str, status: str, ended: str) -> None:
        """Keep nothing."""

    def search(self, experiment: str, filter_string: str, max_results: int) -> list[TrackedRun]:
        """Find nothing."""
        del experiment, filter_string, max_results
        return []
