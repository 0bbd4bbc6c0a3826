"""`fastkernels mlflow-ui`: what is refused, and that it ends whole; its pages are in test_mlflow_pages.py."""

import os
import re
import signal
import socket
from importlib.util import find_spec

import psutil
import pytest
from mlflow_page import page, stand_in
from mlflow_server import free_port

from fastkernels.cli import mlflow_ui, ui_server
from fastkernels.cli.main import main
from fastkernels.errors import install_command


@pytest.fixture
def quiet(no_tracking, monkeypatch, tmp_path):
    """An empty working directory and its store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTKERNELS_TRACKING")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def refused(quiet, capsys):
    """A function that returns what the command says as it exits with 4, with nothing made."""
    def run(*words):
        assert main(["mlflow-ui", *words]) == 4
        captured = capsys.readouterr()
        assert captured.out == ""
        assert list(quiet.iterdir()) == []
        return captured.err

    return run


@pytest.mark.slow
def test_an_empty_store_is_served_and_a_killed_command_leaves_no_process_of_mlflow(tmp_path):
    port = free_port()
    with page(tmp_path, "--port", str(port)) as command:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#/experiments/1/runs\?workflowType=.*", command.address)
        assert (tmp_path / "mlruns/.gitignore").read_text() == "*\n"
        family = psutil.Process(command.pid).children(recursive=True)
        assert len(family) >= 2  # mlflow and its worker
        assert family[0].environ().items() >= ui_server.ENVIRONMENT.items()
        (group,) = {os.getpgid(process.pid) for process in family}
        assert group != os.getpgid(command.pid)  # a terminal's Ctrl-C reaches the command alone
        command.kill()
        assert "no run is tracked in mlruns/mlflow.db yet" in command.stderr.read()
        require_gone(family, port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_it_ends_with_all_its_children(tmp_path, number):
    port = free_port()
    with page(tmp_path, "--port", str(port), **stand_in(tmp_path)) as command:
        family = psutil.Process(command.pid).children(recursive=True)
        assert len(family) == 2
        command.send_signal(number)
        assert command.wait(20) == 0
        require_gone(family, port)
        assert command.stderr.read() == "fastkernels mlflow-ui: stopped\n"


def test_a_server_that_dies_is_an_error(tmp_path):
    port = free_port()
    with page(tmp_path, "--port", str(port), **stand_in(tmp_path)) as command:
        family = psutil.Process(command.pid).children(recursive=True)
        family[0].kill()
        assert command.wait(20) == 4
        require_gone(family, port)
        assert "MLflow's server ended by itself with status -9" in command.stderr.read()


def require_gone(family, port):
    gone, alive = psutil.wait_procs(family, timeout=20)
    assert (len(gone), alive) == (len(family), [])
    ui_server.require_free("127.0.0.1", port)


def test_a_store_that_is_none_is_said_so_with_mlflows_words(quiet, capsys):
    (quiet / "mlruns").mkdir()
    (quiet / "mlruns/mlflow.db").write_bytes(b"no database" * 100)
    assert main(["mlflow-ui", "--port", str(free_port())]) == 4
    said = capsys.readouterr().err
    assert "MLflow's server did not start (status 1):\n" in said
    assert "file is not a database" in said


def test_a_port_in_use_is_named_with_the_option(refused):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        said = refused("--port", str(port))
    assert f"port {port} of 127.0.0.1 is in use" in said
    assert "--port" in said


@pytest.mark.parametrize(("words", "said"), [
    (["--port", "0"], "--port: 0 is not a port, 1 to 65535"),
    (["--port", "65536"], "--port: 65536 is not a port, 1 to 65535"),
    (["--port", "http"], "invalid int value: 'http'"),
    (["--host", "192.0.2.1"], "--host: '192.0.2.1' is no address of this machine"),
    (["--hots", "::1"], "unrecognized arguments: --hots"),
])
def test_wrong_options_are_refused(refused, words, said):
    assert said in refused(*words)


@pytest.mark.parametrize(("uri", "shown"), [
    ("http://me:secret@team:5000", "http://team:5000"), ("https://team/mlflow", "https://team/mlflow"),
    ("databricks", "databricks")])
def test_a_teams_server_has_a_page_of_its_own(refused, monkeypatch, uri, shown):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    said = refused()
    assert f"MLFLOW_TRACKING_URI is {shown}, a server with a page of its own: open that address in a browser" in said
    assert "secret" not in said


@pytest.mark.parametrize("absent", ["mlflow", "flask"])
def test_without_mlflow_the_command_says_what_to_install(refused, monkeypatch, absent):
    monkeypatch.setattr(mlflow_ui, "find_spec", lambda name: None if name == absent else find_spec(name))
    assert refused() == (f"fastkernels mlflow-ui: the page needs {absent}, which is not installed: "
                         f"{install_command('mlflow')}\n")


@pytest.mark.parametrize(("host", "warned"), [
    ("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("localhost", False), ("::1", False)])
def test_an_address_that_others_reach_is_warned_of(quiet, monkeypatch, capsys, host, warned):
    def interrupt(*args):
        raise KeyboardInterrupt

    (quiet / "mlruns").mkdir()
    (quiet / "mlruns/mlflow.db").touch()  # else a store is made first, which takes a second
    monkeypatch.setattr(mlflow_ui, "require_free", lambda host, port: None)
    monkeypatch.setattr(mlflow_ui, "started", interrupt)
    assert main(["mlflow-ui", "--host", host]) == 0
    warning = "no password: whoever reaches it can read, change and delete every run"
    assert (warning in capsys.readouterr().err) == warned


def test_the_help_names_defaults(capsys):
    assert main(["mlflow-ui", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "(default: 127.0.0.1)" in said
    assert "(default: 5000)" in said
