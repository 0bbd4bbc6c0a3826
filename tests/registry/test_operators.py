"""Discovery of operators by path and syntax tree."""

import subprocess
import sys
from pathlib import Path

import pytest

from fastkernels.errors import CandidateError
from fastkernels.registry import baseline_root, discover


def test_operators_are_found_by_path(trees) -> None:
    found = discover(trees.baseline)
    assert list(found) == ["L1.add", "L1.scale", "L2.block", "L3.layer"]
    assert (found["L2.block"].name, found["L2.block"].level) == ("block", 2)
    assert found["L2.block"].imports == {"L1.add", "L1.scale"}
    assert found["L1.scale"].imports == {"L1._common"}


def test_signatures_are_those_of_forward_or_else_forward_native(trees) -> None:
    found = discover(trees.baseline)
    add, scale = found["L1.add"].classes["Add"], found["L1.scale"].classes["Scale"]
    assert (str(add.init), str(add.forward), add.forward_cuda) == ("(n, eps=1e-06, dtype=None)", "(x, y=None)", None)
    assert (str(scale.init), str(scale.forward), str(scale.forward_cuda)) == ("()", "(x, *, by=2)", "(x, *, by=2)")


def test_classes_that_cannot_be_called_are_no_operators(trees) -> None:
    path = trees.baseline / "L1/add.py"
    path.write_text(path.read_text() + "\nclass Config:\n    size = 1\nclass _Own:\n    def forward(self): pass\n")
    assert list(discover(trees.baseline)["L1.add"].classes) == ["Add"]


def test_a_broken_baseline_is_an_error(trees) -> None:
    (trees.baseline / "L1/add.py").write_text("def (")
    with pytest.raises(CandidateError, match=r"does not parse: baseline/L1/add\.py:1:5: invalid syntax"):
        discover(trees.baseline)


def test_the_shipped_baseline_is_read_whole() -> None:
    root = baseline_root()
    found = discover(root)
    files = [path for path in root.glob("L?/*.py") if not path.name.startswith("_")]
    assert len(found) == len(files) >= 10
    assert all(operator.classes for operator in found.values())
    norm = found["L1.rms_norm"].classes["RMSNorm"]
    assert (str(norm.init), str(norm.forward)) == ("(hidden_size, eps=1e-06, dtype=None)", "(x, residual=None)")


def test_the_shipped_baseline_stands_in_for_itself(tmp_path: Path) -> None:
    from fastkernels.registry import Candidates

    for operator in discover(baseline_root()).values():
        path = tmp_path / f"L{operator.level}" / operator.path.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(operator.path.read_bytes())
    candidates = Candidates.load(tmp_path)
    assert candidates.files
    assert {name: file.problem for name, file in candidates.files.items() if file.problem} == {}


def test_torch_stays_out() -> None:
    code = """
import sys
from fastkernels.registry import Candidates, ImportGraph, Overlay, baseline_root, discover
discover(baseline_root())
ImportGraph.of(baseline_root(), Candidates.load(None)).affected()
Overlay(None).install()
assert "torch" not in sys.modules and "triton" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
