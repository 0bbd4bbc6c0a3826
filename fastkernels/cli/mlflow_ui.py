"""`fastkernels mlflow-ui`: MLflow's web page for the local store that runs are tracked in."""

import argparse
import ipaddress
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastkernels.bench.tracking import EXPERIMENT, shown_uri, tracking_uri
from fastkernels.bench.tracking.mlflow_store import MlflowStore
from fastkernels.bench.tracking.uri import local_file
from fastkernels.cli.ui_server import require_free, started
from fastkernels.errors import TrackingError, install_command, shown

HOST, PORT = "127.0.0.1", 5000
_NEEDS = ("mlflow", "flask", "uvicorn")
"""mlflow-skinny, which is enough to track runs, lacks the last two."""
_REMOTE = ("http", "https", "databricks", "uc")
"""Schemes of servers, which show a page of their own."""


def add_parser(subparsers: Any) -> None:
    """Add the command to an argparse subparsers object."""
    parser = subparsers.add_parser(
        "mlflow-ui",
        help="browse tracked runs in MLflow's web page",
        description="Serve MLflow's web page for the store of the working directory (or a local one that "
        "MLFLOW_TRACKING_URI names) until Ctrl+C.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default=HOST, metavar="ADDRESS", help=f"address to listen on (default: {HOST})")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"port to listen on (default: {PORT})")


def run(args: argparse.Namespace) -> int:
    """Serve until the user stops it and return 0; TrackingError where it cannot start or ends by itself."""
    if not 1 <= args.port <= 65535:
        raise TrackingError(f"--port: {args.port} is not a port, 1 to 65535")
    store = tracking_uri()
    _refuse_remote(store)
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        raise TrackingError(f"the page needs {', '.join(missing)}, which is not installed: "
                            f"{install_command('mlflow')}")
    require_free(args.host, args.port)
    if not _is_loopback(args.host):
        _say(f"warning: --host {args.host} can be reached from other machines, and MLflow asks for no password: "
             "whoever reaches it can read, change and delete every run")
    _prepare_absent_store(store)
    try:
        with _signals_as_interrupts(), started(store, _artifacts(store), args.host, args.port) as server:
            print(f"MLflow shows {shown_uri(store)} at {server.page_of(EXPERIMENT)}\nCtrl+C stops it", flush=True)
            server.wait()
    except KeyboardInterrupt:
        _say("stopped")
    return 0


def _refuse_remote(store: str) -> None:
    if store.partition(":")[0] in _REMOTE:
        raise TrackingError(f"MLFLOW_TRACKING_URI is {shown_uri(store)}, a server with a page of its own: open that "
                            "address in a browser. This command serves local stores; unset the variable to see "
                            "that of the working directory")


def _prepare_absent_store(store: str) -> None:
    """Make what a first run would make, since MLflow's server would make it while a first run does; and say so."""
    file = local_file(store)
    if file is not None and not file.exists():
        MlflowStore(store).make()
        _say(f"no run is tracked in {shown(file)} yet; the page shows runs as they are made")


def _artifacts(store: str) -> str:
    """Where experiments that are made in the page keep their files: where the tracker keeps its own."""
    file = local_file(store)
    return (file.parent if file else Path.cwd() / "mlruns").joinpath("artifacts").as_uri()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Let a closed terminal and a plain `kill` stop the page as Ctrl+C does."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(f"fastkernels mlflow-ui: {text}", file=sys.stderr)
