"""`fastkernels mlflow-ui`: what is refused, that it ends whole, and MLflow's pages in a real browser."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec

import psutil
import pytest
from mlflow_server import free_port
from tracked_runs import VERSIONS, fill

from fastkernels.cli import mlflow_ui, ui_server
from fastkernels.cli.main import main

COMMAND = "import sys; from fastkernels.cli.main import main; sys.exit(main(['mlflow-ui', *sys.argv[1:]]))"
PAGE_TIMEOUT_MS = 60_000
"""MLflow's pages take seconds to draw on two busy cores."""


def heeds_ctrl_c():
    """A shell's job in the background ignores SIGINT, and so do its children unless they ask for it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def ui(directory, *words):
    """The command in a process of its own, ended by force where the block does not; its `address` once it says one."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("FASTKERNELS_TRACKING", "MLFLOW_TRACKING_URI", *ui_server.ENVIRONMENT)}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], cwd=directory, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heeds_ctrl_c)
    try:
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
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_it_ends_with_all_its_children(tmp_path, number):
    port = free_port()
    with ui(tmp_path, "--port", str(port)) as process:
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2  # mlflow and its worker
        process.send_signal(number)
        process.wait(20)
        gone, alive = psutil.wait_procs(family, timeout=20)
        assert (len(gone), alive) == (len(family), [])
        ui_server.require_free("127.0.0.1", port)
        if number != signal.SIGKILL:
            assert process.returncode == 0
            assert process.stderr.read().endswith("fastkernels mlflow-ui: stopped\n")


def test_a_terminals_ctrl_c_reaches_the_command_alone(tmp_path):
    with ui(tmp_path, "--port", str(free_port())) as process:
        groups = {os.getpgid(child.pid) for child in psutil.Process(process.pid).children(recursive=True)}
        assert len(groups) == 1
        assert os.getpgid(process.pid) not in groups


def test_an_empty_store_is_served_and_said_to_be_empty(tmp_path):
    with ui(tmp_path, "--port", str(free_port())) as process:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#/experiments/1/runs\?workflowType=.*", process.address)
        assert (tmp_path / "mlruns/.gitignore").read_text() == "*\n"
        (server, *_) = psutil.Process(process.pid).children()
        assert server.environ().items() >= ui_server.ENVIRONMENT.items()
        process.terminate()
        assert "no run is tracked in mlruns/mlflow.db yet" in process.stderr.read()


def test_a_store_that_is_none_is_said_so_with_mlflows_words(quiet, capsys):
    (quiet / "mlruns").mkdir()
    (quiet / "mlruns/mlflow.db").write_bytes(b"no database" * 100)
    assert main(["mlflow-ui", "--port", str(free_port())]) == 4
    said = capsys.readouterr().err
    assert "MLflow's server did not start (status 1):\n" in said
    assert "file is not a database" in said


def test_a_server_that_dies_is_an_error(tmp_path):
    fill(tmp_path, ["eval"])
    with ui(tmp_path, "--port", str(free_port())) as process:
        (server,) = psutil.Process(process.pid).children()
        server.kill()
        process.wait(20)
        assert process.returncode == 4
        assert "MLflow's server ended by itself with status -9" in process.stderr.read()


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
                         "pip install 'pytest-fastkernels[mlflow]'\n")


@pytest.mark.parametrize(("host", "warned"), [
    ("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("localhost", False), ("::1", False)])
def test_an_address_that_others_reach_is_warned_of(quiet, monkeypatch, capsys, host, warned):
    def interrupt(*args):
        raise KeyboardInterrupt

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


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Three graded versions of one kernel, served; the address of the experiment's page and the runs' ids."""
    directory = tmp_path_factory.mktemp("served")
    ids = fill(directory, list(VERSIONS))
    with ui(directory, "--port", str(free_port())) as process:
        yield process.address, ids


@pytest.fixture
def tab(browser, served):
    """A tab that shows the runs, MLflow's assistant put away; no request may leave this machine."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(PAGE_TIMEOUT_MS)
    elsewhere = []
    try:
        page = context.new_page()
        page.on("request", lambda request: elsewhere.append(request.url) if "127.0.0.1" not in request.url else None)
        page.goto(served[0])
        page.get_by_role("link", name="v1", exact=True).wait_for()
        page.get_by_role("button", name="Close").click()
        yield page
        assert elsewhere == []
    finally:
        context.close()


def text_of(page):
    return " ".join(page.inner_text("body").split())


def require_text(page, *words):
    """Wait until the page shows all of ``words``, spaces aside: its parts are drawn one after another."""
    until = time.monotonic() + PAGE_TIMEOUT_MS / 1000
    while True:
        said = text_of(page).replace(" ", "")
        missing = [word for word in words if word.replace(" ", "") not in said]
        if not missing or time.monotonic() > until:
            break
        page.wait_for_timeout(100)
    assert missing == [], f"not on the page: {text_of(page)}"


@pytest.mark.browser
def test_the_list_shows_the_runs_and_the_columns_that_are_chosen(tab, screenshots):
    tab.get_by_role("button", name="Columns").click()
    tab.get_by_placeholder("Search columns").fill("speedup")
    tab.get_by_text("rms_norm_avg_speedup", exact=True).click()
    tab.keyboard.press("Escape")
    tab.get_by_role("gridcell", name="2.5").first.wait_for()
    require_text(tab, "fastkernels", "v1", "v2", "v3", "rms_norm_avg_speedup", "1.5", "2.5", "1.25", "3 matching runs")
    tab.screenshot(path=screenshots / "mlflow-list.png")


@pytest.mark.browser
def test_a_run_shows_metrics_parameters_and_the_kernel(tab, screenshots, served):
    tab.get_by_role("link", name="v2", exact=True).click()
    tab.get_by_text("rms_norm_avg_speedup", exact=True).wait_for()
    tab.set_viewport_size({"width": 1600, "height": 2000})
    require_text(tab, served[1]["v2"], "Finished", "rms_norm_max_error_ratio", "rms_norm/tiny-tp1-s4/speedup",
                 "providers", "tier : kernel")
    tab.screenshot(path=screenshots / "mlflow-run.png")
    tab.set_viewport_size({"width": 1600, "height": 1000})
    tab.get_by_role("tab", name="Artifacts").click()
    tab.get_by_text("kernels", exact=True).click()
    tab.get_by_text("rms_norm.py", exact=True).click()
    tab.wait_for_function("document.body.innerText.includes('VERSION = 2')")
    for name in ("index.json", "rms_norm.py"):
        tab.get_by_text(name, exact=True).click(trial=True)  # waits until the tree has unfolded
    require_text(tab, VERSIONS["v2"].replace("\n", " "))
    tab.screenshot(path=screenshots / "mlflow-artifacts.png")


@pytest.mark.browser
def test_two_runs_are_compared(tab, screenshots):
    boxes = tab.get_by_label("Press Space to toggle row selection")
    boxes.nth(1).click()
    boxes.nth(2).click()
    tab.get_by_role("button", name="Compare").click()
    tab.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
    tab.get_by_text("rms_norm_avg_speedup").first.wait_for()
    tab.set_viewport_size({"width": 1600, "height": 1800})
    tab.screenshot(path=screenshots / "mlflow-compare.png")
    tab.get_by_text("rms_norm_max_error_ratio", exact=True).scroll_into_view_if_needed()
    tab.get_by_text("kernel_sha256.rms_norm").scroll_into_view_if_needed()
    require_text(tab, "Run Name: v2 v1", "Parameters", "Metrics", "rms_norm_avg_speedup", "rms_norm_max_error_ratio")
    tab.screenshot(path=screenshots / "mlflow-compare-end.png")
    assert re.search(r"avg_speedup.* 2\.5 1\.5 ", text_of(tab))
