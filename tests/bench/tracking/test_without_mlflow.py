"""mlflow not installed, and what is imported when it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from fastkernels.errors import install_command

ROOT = Path(__file__).parents[3]
OPTIONAL = ("mlflow", "torch", "matplotlib", "jinja2", "litellm", "pandas", "numpy", "filelock", "requests")
HIDE = "import sys\nfor name in {names}: sys.modules[name] = None\n"
USE = """
from fastkernels.bench.tracking import tracker
for name in ("first", "second"):
    with tracker.start_run(name, params={"level": 1}) as run:
        tracker.log_kernel("rms_norm", level=1, code="x")
        tracker.log_metrics({"a": 1})
    assert run.run_id == ""
assert tracker.query_runs() == []
print("done")
"""


def python(code: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    import os

    environment = {key: value for key, value in os.environ.items() if key != "FASTKERNELS_TRACKING"}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run([sys.executable, *options, "-c", code], cwd=folder, env=environment, capture_output=True,
                          text=True, check=False)


def test_importing_it_needs_no_optional_package_and_loads_none(tmp_path):
    code = HIDE.format(names=OPTIONAL) + "import fastkernels.bench.tracking\nfrom fastkernels.bench.tracking import *"
    assert python(code, tmp_path).stderr == ""
    code = f"import sys, fastkernels.bench.tracking\nprint([n for n in {OPTIONAL} if n in sys.modules])"
    assert python(code, tmp_path).stdout == "[]\n"


@pytest.mark.parametrize("options", [(), ("-W", "error")])
def test_one_warning_then_nothing(tmp_path, options):
    done = python(HIDE.format(names=["mlflow"]) + USE, tmp_path, *options)
    assert done.stdout == "done\n"
    assert done.stderr.count(install_command("mlflow")) == 1
    assert done.stderr.count("fastkernels tracking") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_broken_mlflow_is_named(tmp_path):
    (tmp_path / "mlflow.py").write_text("raise ImportError('half an installation')")
    done = python(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n" + USE.replace("assert tracker.q", "print#"),
                  tmp_path)
    assert done.stdout.endswith("done\n")
    assert done.stderr.count("ImportError: half an installation") == 2
