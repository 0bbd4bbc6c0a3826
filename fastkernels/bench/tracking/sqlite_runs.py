"""Reads the runs of a local store without MLflow, whose import alone takes longer than the answer."""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastkernels.bench.tracking.run import TrackedRun

BUSY_S = 10.0
"""Longest wait for a run that is being written."""
AT_A_TIME = 500
"""Runs that one query asks for."""
_RUNS = """
SELECT run_uuid, name, status, start_time, end_time, artifact_uri FROM runs
WHERE lifecycle_stage = 'active' AND experiment_id IN (SELECT experiment_id FROM experiments WHERE name = ?)
  AND (? = '' OR run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'tier' AND value = ?))
ORDER BY start_time DESC, run_uuid LIMIT ?"""


def read_runs(file: Path, experiment: str, tier: str, limit: int) -> list[TrackedRun]:
    """The newest runs of a tier, of all for an empty one, newest first, as `tracker.query_runs` gives them.

    sqlite3.Error where the file is no store, or one that MLflow lays out in another way.
    """
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=BUSY_S)) as store:
        rows = store.execute(_RUNS, (experiment, tier, tier, limit)).fetchall()
        ids = [row[0] for row in rows]
        params, tags = (_pairs(store, "value", table, ids) for table in ("params", "tags"))
        metrics = _pairs(store, "iif(is_nan, NULL, value)", "latest_metrics", ids)
    return [_run(row, params[row[0]], metrics[row[0]], tags[row[0]]) for row in rows]


def _pairs(store: sqlite3.Connection, value: str, table: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Names and values of each run."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for part in (ids[first:first + AT_A_TIME] for first in range(0, len(ids), AT_A_TIME)):
        marks = ", ".join("?" * len(part))
        rows: Iterable[tuple[str, str, Any]] = store.execute(
            f"SELECT run_uuid, key, {value} FROM {table} WHERE run_uuid IN ({marks})", part)
        for run, key, one in rows:
            found[run][key] = math.nan if one is None else one
    return found


def _run(row: Sequence[Any], params: dict[str, str], metrics: dict[str, float], tags: dict[str, str]) -> TrackedRun:
    run_id, name, status, start_ms, end_ms, artifacts = row
    own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
    return TrackedRun(
        run_id=run_id, name=tags.get("mlflow.runName", name or ""), status=str(status), tier=own.get("tier", ""),
        started=datetime.fromtimestamp(start_ms / 1000, UTC).isoformat(timespec="seconds"),
        duration_s=(end_ms - start_ms) / 1000 if end_ms else None, params=params, metrics=metrics, tags=own,
        artifact_uri=artifacts or "")
