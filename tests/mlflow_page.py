"""`fastkernels mlflow-ui` in a process of its own, with MLflow's server or a stand-in for it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heeded import heed_signals

from fastkernels.cli import ui_server

COMMAND = "import sys; from fastkernels.cli.main import main; sys.exit(main(['mlflow-ui', *sys.argv[1:]]))"
STAND_IN = '''
"""Answers as `mlflow server` does while it starts; its one child ends by force alone."""
import http.server, subprocess, sys

HOST, PORT = (sys.argv[sys.argv.index(name) + 1] for name in ("--host", "--port"))
CHILD = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"experiment": {"experiment_id": "1"}}')


child = subprocess.Popen([sys.executable, "-S", "-c", CHILD], stdout=subprocess.PIPE)
child.stdout.readline()
http.server.HTTPServer((HOST, int(PORT)), Answers).serve_forever()
'''


class Page(subprocess.Popen[str]):
    """The command's process."""

    address: str
    """The page's, as the command says it."""


@contextmanager
def page(directory: Path, *words: str, **variables: str) -> Iterator[Page]:
    """The command once it has said an address, ended by force where the block does not."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("FASTKERNELS_TRACKING", "MLFLOW_TRACKING_URI", *ui_server.ENVIRONMENT)}
    process = Page(
        [sys.executable, "-c", COMMAND, *words], cwd=directory, env={**environment, **variables}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_signals)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://" in line, process.communicate()
        process.address = line.split(" at ")[1].strip()
        yield process
    finally:
        asked = process.poll() is None
        if asked:
            process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0 or not asked


def stand_in(directory: Path) -> dict[str, str]:
    """Make a package that stands in for MLflow, and a store, so that none is made; the variables that have it found."""
    package = directory / "stand_in" / "mlflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(STAND_IN)
    (directory / "mlruns").mkdir()
    (directory / "mlruns" / "mlflow.db").touch()
    path = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {"PYTHONPATH": path}
