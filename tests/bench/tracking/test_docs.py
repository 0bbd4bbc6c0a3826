"""The examples of docs/tracking.md and README.md run as they are written, with and without mlflow."""

import re
import sys
from pathlib import Path

import pytest
from tracked_results import CODE, E2E, REPORT, bench

from fastkernels.bench.tracking import TrackingWarning, tracker
from fastkernels.errors import install_command

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "tracking.md"


def examples(page=DOCS):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_readme_has_the_same_example():
    assert examples(ROOT / "README.md") == examples()[:1]


def run(code):
    """Run an example with the names that it takes for given."""
    names = {"kernel_source": CODE, "result": bench(), "report": REPORT, "results_dict": E2E}
    exec(compile(code, str(DOCS), "exec"), names)


def test_with_mlflow(local, on, capsys):
    log, read = examples()
    run(log)
    [found] = tracker.query_runs()
    assert (found.name, found.status, found.tier) == ("my-optimization-v3", "FINISHED", "kernel")
    assert found.params["strategy"] == "triton-fused"
    assert {"my_score": 0.95, "macro_score": 0.57, "tokens_per_second": 5000.5, "rms_norm_passed": 2}.items() <= (
        found.metrics.items())
    capsys.readouterr()
    run(read)
    *listed, last = capsys.readouterr().out.splitlines()
    assert listed == ["kernels/index.json", "kernels/rms_norm.py"]
    downloaded = Path(last.removeprefix("the kernel lies at "))
    assert downloaded.parent == on
    assert downloaded.read_bytes() == CODE.encode()


def test_without_mlflow(on, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr(tracker, "_told", set())
    log, _ = examples()
    with pytest.warns(TrackingWarning, match=re.escape(install_command("mlflow"))):
        run(log)
    run(log)
    assert capsys.readouterr().err == ""  # where a second warning would go
    assert list(on.iterdir()) == []
