"""Stubs of candidates: what is copied, what is left out, and files that are written all or not at all."""

from pathlib import Path

import pytest

from fastkernels.errors import CandidateError, SelectionError
from fastkernels.manifest.loader import parse_manifest
from fastkernels.registry.stubs import Stub, make_stubs, write_stubs

MANIFEST = """\
schema_version: 1
category: llm
models:
  small: {id: lab/Small, tp: [1, 2]}
  small-2: {id: lab/Small-2, tp: [1]}
operators:
  add:
    level: 1
    class: Add
    scenarios:
    - uses: [small-tp1, small-tp2, small-2-tp1]
      tokens: [1, 512]
      variant: twice
      init: {n: 4}
      inputs:
        x: {shape: [tokens, 4], dtype: bfloat16, values: normal}
        y: {values: literal, args: {value: 3}}
  block:
    level: 2
    class: Block
    scenarios:
    - uses: [small-tp2]
      tokens: [1]
      init: {n: 4}
      inputs:
        x: {shape: [tokens, 4], dtype: bfloat16, values: normal}
"""
ADD = '''"""The baseline's own words."""
import math
import os
from typing import Any, Protocol

from fastkernels.runtime.op import Op
from ._common import WHERE

EPS = 1e-6
"""Documented."""
KERNEL = os.sep
HALF = math.log(2.0)

def helper(n):
    return n * HALF

def kernel(x):
    return KERNEL

def used_by_others(x):
    return WHERE

def used_by_a_helper(x):
    return 1

class Size(Protocol):
    n: int

class _Base(Op):
    def __init__(self, n: int) -> None:
        self.n = helper(n)

    def forward_native(self, x):
        return kernel(x)

class Add(_Base):
    """Adds a \\\\ b.

    x: [T, n].
    """

    provider = "triton"
    layer = Size

    def __init__(self, n: int, eps: float = EPS) -> None:
        super().__init__(n)
        self.table = self.make_table()

    def make_table(self) -> Any:
        """Called by __init__."""
        return self.row()

    def row(self): return 1

    def loader(self): return 2

    def unused(self): return kernel(3)

    def forward_native(
        self, x: Any, *, y: int = 2
    ) -> Any:
        """Plain."""
        return kernel(x)

    def forward_cuda(self, x, *, y=2):
        return kernel(x)
'''


@pytest.fixture
def manifest():
    return parse_manifest(MANIFEST, Path("small.yaml"))


@pytest.fixture
def baseline(trees):
    (trees.baseline / "L1" / "add.py").write_text(ADD)
    (trees.baseline / "L2" / "_helper.py").write_text("from ..L1.add import used_by_a_helper\n")
    (trees.baseline / "L2" / "block.py").write_text(
        "from ..L1.add import Add, used_by_others\n"
        "class Block:\n"
        "    def __init__(self, n):\n        self.add = Add(n)\n"
        "    def forward(self, x):\n        '''Adds.'''\n"
        "        return self.add.loader(), used_by_others(self.add.forward_native(x))\n")
    return trees.baseline


def text_of(stubs: list[Stub], name: str) -> str:
    return next(stub.text for stub in stubs if stub.path.name == f"{name}.py")


def test_a_stub_is_taken_for_a_candidate_as_it_is(manifest, baseline, trees):
    paths = write_stubs(make_stubs(manifest, "small", baseline=baseline), trees.directory)
    assert [str(path.relative_to(trees.directory)) for path in paths] == ["L1/add.py", "L2/block.py"]
    found = trees.load().files
    assert {module: file.problem for module, file in found.items()} == {"L1.add": None, "L2.block": None}
    path = trees.directory / "L1" / "add.py"
    path.write_text(path.read_text().replace("y: int = 2", "y: int = 3"))
    assert trees.load().files["L1.add"].problem is not None


def test_what_init_needs_is_copied_and_the_computation_is_not(manifest, baseline):
    text = text_of(make_stubs(manifest, "small", baseline=baseline), "add")
    for kept in ("import math\n", "from fastkernels.runtime.op import Op\n", "from ._common import WHERE\n",
                 'EPS = 1e-06\n"""Documented."""\n'.replace("1e-06", "1e-6"), "def helper(n):", "class _Base(Op):",
                 "def used_by_others(x):", "def used_by_a_helper(x):",
                 "class Size(Protocol):", "layer = Size", "def make_table", "def row",
                 "def loader"):
        assert kept in text, kept
    for left_out in ("import os", "KERNEL", "def kernel", "triton", "unused", "forward_native", "forward_cuda",
                     "baseline's own"):
        assert left_out not in text, left_out
    assert text.count("def forward(\n        self, x: Any, *, y: int = 2\n    ) -> Any:\n        raise") == 1
    compile(text, "add.py", "exec")


def test_the_docstring_is_the_baselines_with_the_models_shapes(manifest, baseline):
    stubs = make_stubs(manifest, "small", baseline=baseline)
    text = text_of(stubs, "add")
    names: dict = {}
    exec(text[text.index("class Add"):].replace("(_Base)", "").replace("Any", "int").replace("EPS", "1")
         .replace("layer = Size", ""), names)
    assert names["Add"].__doc__.startswith("Adds a \\ b.\n\n    x: [T, n].\n")
    assert ("    What small (lab/Small) calls it with; inputs are those of one rank:\n\n"
            "    add, twice: TP 1, 2; tokens 1 (decode); 512 (prefill)\n"
            "      init: n=4\n"
            "      x: [tokens, 4] bfloat16, normal\n"
            "      y: 3\n") in text
    assert '        """Adds."""\n        raise NotImplementedError(' in text_of(stubs, "block")


def test_a_forward_of_another_file_is_repeated_with_its_imports(manifest, baseline):
    (baseline / "L2" / "_base.py").write_text(
        "from collections.abc import Sequence\n"
        "class Base:\n"
        "    def __init__(self, n):\n        self.kept = self.hook()\n"
        "    def forward(self, x: Sequence, y: int = 1) -> Sequence:\n        return self.not_kept()\n")
    (baseline / "L2" / "block.py").write_text(
        "from ._base import Base\n"
        "class Block(Base):\n"
        "    def hook(self):\n        return 1\n"
        "    def not_kept(self):\n        return 2\n")
    text = text_of(make_stubs(manifest, "small", baseline=baseline), "block")
    assert "from collections.abc import Sequence\n\nfrom ._base import Base\n" in text
    assert "def forward(self, x: Sequence, y: int = 1) -> Sequence:\n        raise" in text
    assert "def hook(self)" in text
    assert "not_kept" not in text


def test_levels_and_targets_restrict(manifest, baseline):
    def names(**which):
        return [stub.operators for stub in make_stubs(manifest, "small", baseline=baseline, **which)]

    assert names(levels=[2]) == [("block",)]
    assert names(targets=["add"]) == [("add",)]
    assert [s.operators for s in make_stubs(manifest, "LAB/small-2", baseline=baseline)] == [("add",)]


@pytest.mark.parametrize(("model", "which", "message"), [
    ("smal", {}, "small.yaml: model 'smal' is the beginning of small, small-2; name one of them"),
    ("smell", {}, "Did you mean 'small'?"),
    ("small", {"levels": [3]}, "level 3 is not one of 1, 2"),
    ("small", {"targets": ["ad"]}, "operator 'ad' is not one of add, block. Did you mean 'add'?"),
    ("small-2", {"levels": [2]}, "no scenario has all of: level 2; model small-2"),
])
def test_a_selection_that_is_none_is_an_error(manifest, baseline, model, which, message):
    with pytest.raises(SelectionError) as error:
        make_stubs(manifest, model, baseline=baseline, **which)
    assert message in str(error.value)


def test_a_manifest_that_does_not_fit_the_baseline_is_an_error(manifest, baseline):
    (baseline / "L1" / "add.py").rename(baseline / "L1" / "adds.py")
    with pytest.raises(CandidateError, match=r"small.yaml: the module L1/add.py is not part of the baseline. "
                                             r"Did you mean 'L1.adds'\?"):
        make_stubs(manifest, "small", targets=["add"], baseline=baseline)
    (baseline / "L1" / "add.py").write_text("class Adder:\n    def forward(self, x): ...\n")
    with pytest.raises(CandidateError, match=r"class Add of the manifest is not there. Did you mean 'Adder'\?"):
        make_stubs(manifest, "small", targets=["add"], baseline=baseline)


STUBS = [Stub(Path("L1/a.py"), "a\n", ("a",)), Stub(Path("L1/b.py"), "b\n", ("b",)),
         Stub(Path("L2/c.py"), "c\n", ("c",))]


def test_nothing_is_overwritten_and_then_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "L1").mkdir()
    (tmp_path / "L1" / "b.py").write_text("mine\n")
    (tmp_path / "L2").mkdir()
    (tmp_path / "L2" / "c.py").symlink_to("nowhere")
    with pytest.raises(CandidateError, match=r"2 of 3 files exist already, so nothing was written: L1/b.py, L2/c.py"):
        write_stubs(STUBS, tmp_path)
    assert not (tmp_path / "L1" / "a.py").exists()
    assert (tmp_path / "L1" / "b.py").read_text() == "mine\n"


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "L2").write_text("in the way")
    with pytest.raises(CandidateError, match=r"L2/c.py: cannot be written: .*; nothing was left behind"):
        write_stubs(STUBS, tmp_path)
    assert [path.name for path in (tmp_path / "L1").iterdir()] == []
