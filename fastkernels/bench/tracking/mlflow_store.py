"""The store that keeps runs with MLflow: a server, a database, or the file of the working directory."""

import getpass
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from fastkernels.bench.tracking.bounded import call_within
from fastkernels.bench.tracking.record import cut
from fastkernels.bench.tracking.run import EXPERIMENT, TrackedRun
from fastkernels.bench.tracking.store import StoreError, StoreUnreachableError
from fastkernels.bench.tracking.uri import local_file
from fastkernels.env import mlflow_request_limits

T = TypeVar("T")
V = TypeVar("V")
REQUEST_TIMEOUT_S = 10
"""Seconds that a server may take for one request, where MLFLOW_HTTP_REQUEST_TIMEOUT does not say."""
RETRIES = 1
"""Further tries of one request, where MLFLOW_HTTP_REQUEST_MAX_RETRIES does not say."""
CALL_LIMIT_S = 60.0
"""Seconds that one call of this store may take in all, whatever it waits for."""
METRICS_A_CALL = 1000
NAMES_A_CALL = 100
"""Metrics, and parameters or tags, that MLflow takes in one call."""
MAX_DATASET = 500
"""Characters of a dataset's name that MLflow takes."""
RUNS_A_PAGE = 50
"""Runs that are read in one call: MLflow takes a fifth of a second for one with 6000 metrics."""
NEWEST_FIRST = ["attributes.start_time DESC"]


class MlflowStore:
    """Keeps runs at `uri`; imports mlflow at the first call."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._client: Any = None

    def open_run(self, name: str, tags: Mapping[str, str], parent: str, started: str) -> str:
        """Open a run in the experiment `fastkernels` and return its id."""
        own = {"mlflow.user": _user(), "mlflow.source.name": Path(sys.argv[0]).name or "python",
               "mlflow.source.type": "LOCAL", **({"mlflow.parentRunId": parent} if parent else {})}

        def open_run() -> str:
            client = self._connect()
            run = client.create_run(self._experiment(client), start_time=_milliseconds(started),
                                    tags={**own, **tags}, run_name=name)
            return str(run.info.run_id or "")

        run_id = self._do(open_run)
        if not run_id:  # MLflow takes any JSON object for an answer
            raise StoreError("the answer names no run: this is no MLflow server, or one of another version")
        return run_id

    def write_values(self, run_id: str, params: Mapping[str, str], metrics: Mapping[str, tuple[float, int]],
                     tags: Mapping[str, str]) -> None:
        """Add values in as few calls as MLflow allows."""
        def write() -> None:
            from mlflow.entities import Metric, Param, RunTag

            client, now = self._connect(), _milliseconds("")
            for part in _parts(params, NAMES_A_CALL):
                client.log_batch(run_id, params=[Param(*pair) for pair in part])
            for part in _parts(tags, NAMES_A_CALL):
                client.log_batch(run_id, tags=[RunTag(*pair) for pair in part])
            for numbers in _parts(metrics, METRICS_A_CALL):
                client.log_batch(run_id, [Metric(name, value, now, step) for name, (value, step) in numbers])

        self._do(write)

    def write_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Add files in one call."""
        def write() -> None:
            client = self._connect()
            with tempfile.TemporaryDirectory(prefix="fastkernels-") as folder:
                for name, content in files.items():
                    path = Path(folder) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                client.log_artifacts(run_id, folder)

        self._do(write)

    def write_dataset(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Add a dataset, which MLflow's table of runs has a column for."""
        def write() -> None:
            from mlflow.entities import Dataset, DatasetInput

            data = Dataset(cut(name, MAX_DATASET), digest, "local", json.dumps({"uri": source}))
            self._connect().log_inputs(run_id, datasets=[DatasetInput(data)])

        self._do(write)

    def end_run(self, run_id: str, status: str, ended: str) -> None:
        """End a run."""
        self._do(lambda: self._connect().set_terminated(run_id, status, _milliseconds(ended)))

    def search(self, experiment: str, filter_string: str, max_results: int) -> list[TrackedRun]:
        """Runs that match an MLflow filter, newest first; none where the local store is not there yet."""
        file = local_file(self.uri)
        if file is not None and not file.exists():
            return []

        found = self._do(lambda: self._connect().get_experiment_by_name(experiment))
        runs: list[TrackedRun] = []
        token = None
        while found is not None and len(runs) < max_results:
            wanted = min(RUNS_A_PAGE, max_results - len(runs))
            page = self._do(partial(self._connect().search_runs, [found.experiment_id], filter_string,
                                    max_results=wanted, order_by=NEWEST_FIRST, page_token=token))
            runs += [_tracked(run) for run in page]
            token = page.token
            if not token:
                break
        return runs

    def make(self) -> None:
        """Make tables and experiment where they are absent, alone among processes, as the first run does."""
        self._do(lambda: self._experiment(self._connect()))

    def _connect(self) -> Any:
        if self._client is None:
            from mlflow.tracking import MlflowClient

            file = local_file(self.uri)
            if file is None:
                self._client = MlflowClient(self.uri, self.uri)
            else:
                with _made(file):
                    self._client = MlflowClient(self.uri, self.uri)
        return self._client

    def _experiment(self, client: Any) -> str:
        """The id of the experiment `fastkernels`, which the first run makes."""
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        file = local_file(self.uri)
        where = (file.parent / "artifacts").as_uri() if file and file.parent.name == "mlruns" else None
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=where))
        except Exception:
            found = client.get_experiment_by_name(EXPERIMENT)  # another process was faster
            if found is None:
                raise
            return str(found.experiment_id)

    def _do(self, call: Callable[[], T]) -> T:
        """Make a call within the limits; whatever it raises becomes a StoreError."""
        try:
            with mlflow_request_limits(REQUEST_TIMEOUT_S, RETRIES), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of mlflow's own; as errors they would end its import
                return call_within(CALL_LIMIT_S, lambda: _quietly(call))
        except Exception as error:
            chain = list(_causes(error))
            if any(isinstance(cause, _unreachable()) for cause in chain):
                raise StoreUnreachableError(f"no answer: {_in_short(chain[-1])}") from error
            raise StoreError(_in_short(error)) from error


def _milliseconds(time: str) -> int:
    """MLflow's form of a time in ISO 8601, of now for an empty one."""
    return int((datetime.fromisoformat(time) if time else datetime.now(UTC)).timestamp() * 1000)


def _parts(values: Mapping[str, V], size: int) -> Iterator[list[tuple[str, V]]]:
    items = iter(values.items())
    while part := list(islice(items, size)):
        yield part


@contextmanager
def _made(file: Path) -> Iterator[None]:
    """Make the folder of a database file, kept out of git where it is ours, and hold off other processes.

    MLflow spoils the file where two processes make its tables at once, and tries for an hour where it cannot.
    """
    from filelock import FileLock

    folder = file.parent
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder / ".gitignore").write_text("*\n")
    with FileLock(folder / f".{file.name}.lock", timeout=CALL_LIMIT_S):
        with open(file, "ab"):
            pass  # raises at once where it cannot be written
        yield


def _quietly(call: Callable[[], T]) -> T:
    """Keep what is logged about making tables and trying again from the terminal."""
    import mlflow  # noqa: F401  sets its own level of logging when it is imported

    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        return call()
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _unreachable() -> tuple[type[Exception], ...]:
    """What is raised for a timeout or a broken connection; requests counts where mlflow has loaded it."""
    requests = sys.modules.get("requests.exceptions")
    own = (requests.ConnectionError, requests.RetryError, requests.Timeout) if requests else ()
    return (*own, TimeoutError, ConnectionError)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _in_short(error: BaseException) -> str:
    return cut(" ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":"), 300)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _tracked(run: Any) -> TrackedRun:
    info, data = run.info, run.data
    tags = {name: value for name, value in data.tags.items() if not name.startswith("mlflow.")}
    return TrackedRun(
        run_id=info.run_id, name=info.run_name or "", status=str(info.status), tier=tags.get("tier", ""),
        started=datetime.fromtimestamp(info.start_time / 1000, UTC).isoformat(timespec="seconds"),
        duration_s=(info.end_time - info.start_time) / 1000 if info.end_time else None, params=dict(data.params),
        metrics=dict(data.metrics), tags=tags, artifact_uri=info.artifact_uri or "")
