"""The second package root: candidates over baselines, by the import system alone."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastkernels.registry import Overlay

ADD = """
from ._common import WHERE
class Add:
    def __init__(self, n, eps=1e-6, dtype=None):
        pass
    def forward(self, x, y=None):
        if x is None:
            raise ValueError("boom")
        return f"candidate add, {WHERE} common"
"""


@pytest.fixture
def overlay(trees) -> Iterator[Overlay]:
    trees.candidate("L1/add.py", ADD)
    with Overlay(trees.directory, baseline=trees.baseline) as overlay:
        yield overlay


def test_a_candidate_reaches_the_levels_above_it(overlay: Overlay) -> None:
    layer = overlay.module("L3.layer").Layer(1)
    assert layer.forward(0) == ("candidate add, baseline common", "baseline")
    assert overlay.is_candidate("L1.add")
    assert not overlay.is_candidate("L3.layer")


def test_the_baseline_stays_untouched(trees, overlay: Overlay) -> None:
    with Overlay(None, package="fk_plain", baseline=trees.baseline) as plain:
        assert overlay.module("L3.layer").Layer(1).forward(0)[0].startswith("candidate")
        assert plain.module("L3.layer").Layer(1).forward(0) == ("baseline add", "baseline")
        assert plain.module("L1.add").Add is not overlay.module("L1.add").Add


def test_the_installed_baseline_package_stays_untouched(tmp_path: Path) -> None:
    path = tmp_path / "L1" / "rms_norm.py"
    path.parent.mkdir()
    path.write_text("class RMSNorm:\n    pass\n")
    with Overlay(tmp_path) as overlay:
        mine = overlay.module("L1.rms_norm").RMSNorm
        theirs = importlib.import_module("fastkernels.tasks.baseline.L1.rms_norm").RMSNorm
        assert mine is not theirs
        assert theirs.__module__ == "fastkernels.tasks.baseline.L1.rms_norm"
        assert hasattr(theirs, "forward_native")


def test_files_are_the_real_ones(trees, overlay: Overlay) -> None:
    module = overlay.module("L1.add")
    assert module.__file__ == str(trees.directory / "L1/add.py")
    assert overlay.module("L2.block").__file__ == str(trees.baseline / "L2/block.py")
    assert inspect.getsource(module.Add.forward).lstrip().startswith("def forward(self, x, y=None):")
    with pytest.raises(ValueError, match="boom") as caught:
        module.Add(1).forward(None)
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.line) == (str(trees.directory / "L1/add.py"), 'raise ValueError("boom")')


def test_helpers_of_the_candidate_are_found(trees, overlay: Overlay) -> None:
    trees.candidate("L1/_common.py", "from .._lib.deep import X as WHERE\n")
    trees.candidate("_lib/__init__.py", "raise_me = False\n")
    trees.candidate("_lib/deep.py", "X = 'own'\n")
    assert overlay.module("L2.block").Block(1).forward(0) == ("candidate add, own common", "own")


def test_packages_of_the_tree_are_the_baselines(trees, overlay: Overlay) -> None:
    trees.candidate("L1/__init__.py", "raise RuntimeError('not to be run')\n")
    assert overlay.module("L1").LEVEL == 1
    assert overlay.module("L1").__path__ == []
    assert overlay.module("L3").__name__ == "fastkernels_overlay.L3"  # a folder without __init__.py


def test_what_is_not_there_cannot_be_imported(trees, overlay: Overlay) -> None:
    trees.candidate("L2/block.py", "from ..L1 import gone\n")
    with pytest.raises(ImportError, match=r"cannot import name 'gone' from 'fastkernels_overlay\.L1'"):
        overlay.module("L2.block")
    with pytest.raises(ModuleNotFoundError, match=r"fastkernels_overlay\.L1\.gone"):
        overlay.module("L1.gone")
    with pytest.raises(ModuleNotFoundError):
        overlay.module("L1.__pycache__")


def test_a_relative_import_cannot_leave_the_overlay(trees, overlay: Overlay) -> None:
    trees.candidate("L2/block.py", "from ...baseline.L1 import add\n")
    with pytest.raises(ImportError, match="beyond top-level package"):
        overlay.module("L2.block")


def test_no_bytecode_is_written_or_read(trees, overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    overlay.module("L3.layer")
    assert not [*trees.baseline.rglob("__pycache__"), *trees.directory.rglob("__pycache__")]


def test_stale_bytecode_beside_a_candidate_has_no_effect(trees, overlay: Overlay) -> None:
    import os
    import py_compile

    path = trees.candidate("L1/add.py", "X = 'old'\n")
    stat = path.stat()
    py_compile.compile(str(path))
    path.write_text("X = 'new'\n")  # as long and as old: the check that Python itself makes would let the old one pass
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert overlay.module("L1.add").X == "new"


def test_uninstall_restores(trees) -> None:
    trees.candidate("L1/add.py", ADD)
    finders, modules = list(sys.meta_path), set(sys.modules)
    overlay = Overlay(trees.directory, baseline=trees.baseline).install()
    assert overlay.install() is overlay
    overlay.module("L3.layer")
    overlay.uninstall()
    overlay.uninstall()
    assert sys.meta_path == finders
    assert set(sys.modules) == modules
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("fastkernels_overlay.L1.add")


def test_one_overlay_stays_when_another_goes(trees, overlay: Overlay) -> None:
    other = Overlay(None, package="fastkernels_overlay2", baseline=trees.baseline).install()
    before = overlay.module("L1.add")
    other.module("L1.add")
    other.uninstall()
    assert overlay.module("L1.add") is before


def test_a_changed_file_counts_after_a_new_install(trees) -> None:
    for value in (1, 2):
        trees.candidate("L1/add.py", f"x = {value}\n")
        with Overlay(trees.directory, baseline=trees.baseline) as overlay:
            assert overlay.module("L1.add").x == value


@pytest.mark.parametrize("name", ["json", "fastkernels", "fastkernels_overlay"])
def test_a_name_that_is_taken_is_refused(trees, overlay: Overlay, name: str) -> None:
    with pytest.raises(ValueError, match=f"a package named {name} is there already"):
        Overlay(trees.directory, package=name, baseline=trees.baseline).install()


def test_a_dotted_name_is_refused(trees) -> None:
    with pytest.raises(ValueError, match="no name for a top-level package"):
        Overlay(trees.directory, package="a.b", baseline=trees.baseline)
