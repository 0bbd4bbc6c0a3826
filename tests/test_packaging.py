"""The wheel holds what the tree holds, and the package works from a wheel, an editable install and a bare checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOUNTED = ("tasks", "agent", "manifests")
SOURCES = ("fastkernels", "pytest_fastkernels", *MOUNTED)
DATA = (".yaml", ".json", ".typed", ".gitkeep", ".html", ".css", ".js")
USE = """
import importlib, importlib.resources, importlib.util, sys
import fastkernels
from fastkernels.bench.tracking import tracker
from fastkernels.registry import baseline_root, discover
manifests = importlib.resources.files("fastkernels.manifests")
assert manifests.joinpath("llm.yaml").is_file()
assert manifests.joinpath("models", "llama31-8b.json").is_file()
assert importlib.import_module("fastkernels.agent")
assert "L1.rms_norm" in discover(baseline_root())
print(baseline_root())
"""
FIND = """
print(importlib.util.find_spec("fastkernels.tasks.baseline.L1.rms_norm").origin)
"""
USE_TORCH = """
from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm
import inspect
print(inspect.getfile(RMSNorm))
"""


def tree_files(root: Path) -> set[str]:
    """Names that a wheel made of this tree should hold."""
    found = set()
    for name in SOURCES:
        prefix = f"fastkernels/{name}" if name in MOUNTED else name
        for path in (root / name).rglob("*"):
            belongs = path.suffix in (".py", *DATA) or path.name in DATA
            if belongs and path.is_file() and "__pycache__" not in path.parts:
                found.add(f"{prefix}/{path.relative_to(root / name).as_posix()}")
    return found


def wheel_files(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def copy_tree(target: Path) -> Path:
    """Copy what packaging needs; builds leave their traces in the copy."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, target)
    return target


def build(tree: Path, output: Path, hook: str = "build_wheel") -> Path:
    """Build a wheel with the installed setuptools, as `pip wheel --no-build-isolation` does."""
    output.mkdir(exist_ok=True)
    code = f"import sys; from setuptools import build_meta; print(build_meta.{hook}({str(output)!r}))"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return output / done.stdout.split()[-1]


def run(code: str, *, cwd: Path, path: str, options: tuple[str, ...] = ()) -> str:
    """Run code with nothing but `path` and the installed packages on sys.path."""
    done = subprocess.run([sys.executable, "-P", *options, "-c", code], cwd=cwd, env={**os.environ, "PYTHONPATH": path},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = copy_tree(tmp_path_factory.mktemp("tree"))
    return build(tree, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, installed: for a pure wheel that is unpacking it."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_the_wheel_holds_the_tree(wheel: Path) -> None:
    assert wheel_files(wheel) == tree_files(ROOT)


def test_the_wheel_installs_no_generic_name(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fastkernels", "pytest_fastkernels"}


def test_the_wheel_names_plugin_and_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    name = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
    text = archive.read(name).decode()
    assert "= pytest_fastkernels.plugin" in text
    assert "fastkernels = fastkernels.cli.main:main" in text


def test_a_new_package_comes_along_by_itself(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    for folder in ("tasks/baseline/L2/fused", "fastkernels/bench/novel", "agent/prompts"):
        (tree / folder).mkdir(parents=True)
        (tree / folder / "__init__.py").write_text("")
    (tree / "manifests" / "other.yaml").write_text("")
    found = wheel_files(build(tree, tmp_path / "dist"))
    assert found == tree_files(tree)
    assert {"fastkernels/tasks/baseline/L2/fused/__init__.py", "fastkernels/manifests/other.yaml"} <= found


def test_a_folder_without_init_is_noticed(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    (tree / "tasks/baseline/L2/lost").mkdir()
    (tree / "tasks/baseline/L2/lost/kernel.py").write_text("")
    missing = tree_files(tree) - wheel_files(build(tree, tmp_path / "dist"))
    assert missing == {"fastkernels/tasks/baseline/L2/lost/kernel.py"}


def test_the_wheel_works(site: Path, tmp_path: Path) -> None:
    printed = run(USE + USE_TORCH, cwd=tmp_path, path=str(site)).splitlines()
    baseline = site / "fastkernels/tasks/baseline"
    assert printed == [str(baseline), str(baseline / "L1/rms_norm.py")]


def test_a_bare_checkout_works(tmp_path: Path) -> None:
    printed = run(USE + FIND, cwd=tmp_path, path=str(ROOT)).splitlines()
    baseline = ROOT / "tasks/baseline"
    assert printed == [str(baseline), str(baseline / "L1/rms_norm.py")]


def test_a_checkout_that_shadows_a_wheel_is_whole(site: Path, tmp_path: Path) -> None:
    both = os.pathsep.join((str(ROOT), str(site)))
    assert run(USE, cwd=tmp_path, path=both) == str(ROOT / "tasks/baseline")


def test_an_editable_install_works_and_sees_new_files(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    folder = tmp_path / "site"
    zipfile.ZipFile(build(tree, tmp_path / "dist", "build_editable")).extractall(folder)
    (tree / "tasks/baseline/L1/novel.py").write_text("class Novel:\n    def forward(self, x): pass\n")
    # addsitedir is what the interpreter does at its start: it runs the .pth file of the editable install. -S keeps the
    # editable install of this very project from being there first; the other packages come by their path alone.
    code = f"import site, sys; site.addsitedir({str(folder)!r}); sys.path.append({sysconfig.get_path('purelib')!r})\n"
    code += USE + "from fastkernels.tasks.baseline.L1.novel import Novel\n"
    assert run(code, cwd=tmp_path, path="", options=("-S",)) == str(tree / "tasks/baseline")


def test_the_mount_is_set_up_once(tmp_path: Path) -> None:
    code = """
import sys, fastkernels
for name in [name for name in sys.modules if name.split(".")[0] == "fastkernels"]:
    del sys.modules[name]
import fastkernels
print(sum(type(finder).__name__ == "CheckoutFinder" for finder in sys.meta_path))
"""
    assert run(code, cwd=tmp_path, path=str(ROOT)) == "1"
