"""Where runs are kept: the server or database that MLFLOW_TRACKING_URI names, else a file in the working directory."""

from pathlib import Path
from urllib.parse import unquote

from fastkernels.env import mlflow_tracking_uri
from fastkernels.errors import shown

FOLDER = "mlruns"
"""Folder of the local store, below the working directory."""
_SQLITE = "sqlite:///"


def local_store(directory: Path | None = None) -> Path:
    """The database file of the local store of `directory` (default: the working directory); it need not exist."""
    return (directory or Path.cwd()).absolute() / FOLDER / "mlflow.db"


def _quoted(path: str) -> str:
    """Quote what has a meaning in a database URI; not spaces, since MLflow makes a folder of the quoted name."""
    return path.replace("%", "%25").replace("?", "%3F")


def tracking_uri(directory: Path | None = None) -> str:
    """The URI of the store: MLFLOW_TRACKING_URI if set, else `sqlite:////.../mlruns/mlflow.db` below `directory`.

    A path in it is absolute, so that the answer holds where the process changes its directory later.
    """
    chosen = mlflow_tracking_uri()
    if not chosen:
        return _SQLITE + _quoted(str(local_store(directory)))
    if chosen.startswith(_SQLITE) and not chosen.startswith(_SQLITE + "/") and chosen != _SQLITE + ":memory:":
        return _SQLITE + str((directory or Path.cwd()).absolute() / chosen.removeprefix(_SQLITE))
    return chosen


def local_file(uri: str) -> Path | None:
    """The database file of a `sqlite:///` URI, None for any other."""
    path = uri.removeprefix(_SQLITE)
    return Path(unquote(path)) if uri.startswith(_SQLITE) and path != ":memory:" else None


def shown_uri(uri: str) -> str:
    """A URI as messages show it: a local store as its folder, a server without user and password."""
    file = local_file(uri)
    if file is not None:
        return shown(file)
    scheme, separator, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
