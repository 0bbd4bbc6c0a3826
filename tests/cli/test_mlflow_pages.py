"""MLflow's pages of tracked runs in a real browser, as `fastkernels mlflow-ui` serves them."""

import re
import time

import pytest
from mlflow_page import page
from mlflow_server import free_port
from tracked_runs import VERSIONS, fill

PAGE_TIMEOUT_MS = 60_000
"""MLflow's pages take seconds to draw on two busy cores."""


@pytest.fixture(scope="module")
def served(tmp_path_factory, tables):
    """Three graded versions of one kernel, served; the address of the experiment's page and the runs' ids."""
    directory = tmp_path_factory.mktemp("served")
    ids = fill(directory, tables, list(VERSIONS))
    with page(directory, "--port", str(free_port())) as command:
        yield command.address, ids


@pytest.fixture
def tab(browser, served):
    """A tab that shows the runs, MLflow's assistant put away; no request may leave this machine."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(PAGE_TIMEOUT_MS)
    elsewhere = []
    try:
        tab = context.new_page()
        tab.on("request", lambda request: elsewhere.append(request.url) if "127.0.0.1" not in request.url else None)
        tab.goto(served[0])
        tab.get_by_role("link", name="v1", exact=True).wait_for()
        tab.get_by_role("button", name="Close").click()
        yield tab
        assert elsewhere == []
    finally:
        context.close()


def text_of(tab):
    return " ".join(tab.inner_text("body").split())


def require_text(tab, *words):
    """Wait until the page shows all of ``words``, spaces aside: its parts are drawn one after another."""
    until = time.monotonic() + PAGE_TIMEOUT_MS / 1000
    while True:
        said = text_of(tab).replace(" ", "")
        missing = [word for word in words if word.replace(" ", "") not in said]
        if not missing or time.monotonic() > until:
            break
        tab.wait_for_timeout(100)
    assert missing == [], f"not on the page: {text_of(tab)}"


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
