"""Candidate directories: layout, and what is told of a file without running it."""

import hashlib
import re
from pathlib import Path

import pytest

from fastkernels.errors import CandidateError
from fastkernels.registry import Candidates
from fastkernels.results import Verdict

ADD = """
class Add:
    def __init__(self, n, eps=1e-6, dtype=None):
        pass
    def forward(self, x, y=None):
        return "candidate add"
"""


def problem(trees, text: str | bytes, path: str = "L1/add.py") -> tuple[Verdict, str] | None:
    trees.candidate(path, text)
    return trees.load().files[path.removesuffix(".py").replace("/", ".")].problem


def test_a_sound_candidate(trees) -> None:
    path = trees.candidate("L1/add.py", ADD)
    candidates = trees.load()
    assert candidates.directory == trees.directory
    found = candidates.files["L1.add"]
    assert (found.module, found.path, found.problem, found.uses_baseline) == ("L1.add", path, None, ())
    assert found.sha256 == hashlib.sha256(ADD.encode()).hexdigest()


def test_the_default_slot_may_be_empty(trees) -> None:
    assert Candidates.load(None).files == {}
    assert Candidates.load(None, trees.baseline) == Candidates({}, None)


def test_a_slot_with_empty_levels_is_no_error(trees) -> None:
    (trees.directory / "L1").mkdir(parents=True)
    assert trees.load().files == {}


@pytest.mark.parametrize(("name", "message"), [
    ("mein", "mein: no such candidate directory. Did you mean 'mine'?"),
    ("mine/L1", "mine/L1: none of the folders L1, L2, L3, L4 is there, found add.py. Did you mean 'mine'?"),
    ("mine/empty", "mine/empty: none of the folders L1, L2, L3, L4 is there, found nothing"),
    ("mine/L1/add.py", "mine/L1/add.py: a file; expected a directory with folders L1, L2, L3, L4"),
])
def test_a_directory_of_another_layout_is_an_error(trees, name: str, message: str) -> None:
    trees.candidate("L1/add.py", ADD)
    (trees.directory / "empty").mkdir()
    with pytest.raises(CandidateError, match=f"^{re.escape(message)}$"):
        Candidates.load(Path(name), trees.baseline)


@pytest.mark.parametrize(("path", "rest"), [
    ("L1/ad.py", ". Did you mean 'L1/add.py'?"),
    ("L2/add.py", ". Did you mean 'L1/add.py'?"),
    ("add.py", ". Did you mean 'L1/add.py'?"),
    ("L1/deep/add.py", ". Did you mean 'L1/add.py'?"),
    ("L1/zzzzzzzzzzzz.py", "; operators: L1/add.py, L1/scale.py, L2/block.py, L3/layer.py"),
])
def test_a_file_that_matches_no_operator_is_an_error(trees, path: str, rest: str) -> None:
    trees.candidate("L1/scale.py", ADD)
    trees.candidate(path, ADD)
    with pytest.raises(CandidateError, match=f"^{re.escape(f'mine: {path} matches no baseline operator{rest}')}$"):
        trees.load()


def test_every_such_file_is_named(trees) -> None:
    trees.candidate("L1/ad.py", ADD)
    trees.candidate("L2/blok.py", ADD)
    with pytest.raises(CandidateError, match=r"L1/ad\.py matches(?s:.*)L2/blok\.py matches"):
        trees.load()


def test_helpers_and_packages_are_allowed_anywhere(trees) -> None:
    trees.candidate("L1/add.py", ADD)
    for path in ("_top.py", "L1/_mine.py", "_lib/__init__.py", "_lib/kernel.py", "L1/__init__.py", "__init__.py",
                 ".hidden/x.py", "__pycache__/x.py"):
        trees.candidate(path, "")
    found = trees.load()
    assert list(found.files) == ["L1.add"]
    assert sorted(found.helpers) == ["L1._mine", "_lib", "_lib.kernel", "_top"]


def test_linked_folders_are_followed(trees, tmp_path: Path) -> None:
    trees.candidate("L1/add.py", ADD)
    link = tmp_path / "linked"
    link.mkdir()
    (link / "L1").symlink_to(trees.directory / "L1")
    (trees.directory / "L1" / "_loop").symlink_to(trees.directory)
    assert list(Candidates.load(link, trees.baseline).files) == ["L1.add"]


def test_a_file_that_cannot_be_read_is_an_error(trees, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    trees.candidate("L1/add.py", ADD)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CandidateError, match="cannot be read: Permission denied"):
        trees.load()


@pytest.mark.parametrize(("text", "message"), [
    ("x = 1\nclass Add(:\n    pass\n", "mine/L1/add.py:2:11: invalid syntax\n    class Add(:\n              ^"),
    ("def f():\n    x = (1,\n", "mine/L1/add.py:2:9: '(' was never closed\n    x = (1,\n        ^"),
    ("x = 1\nreturn x\n", "mine/L1/add.py:2:1: 'return' outside function\n    return x\n    ^"),
    (b"x = 1\ny = '\xff'\n", "mine/L1/add.py:2:6: (unicode error) 'utf-8' codec can't decode byte 0xff"),
    (b"x = 1\0\n", "mine/L1/add.py:1:6: source code string cannot contain null bytes\n    x = 1\n         ^"),
    (b"# -*- coding: klingon -*-\n", "mine/L1/add.py:1:1: unknown encoding: klingon"),
    ("x = " + "(" * 300 + ")" * 300, "too many nested parentheses"),
])
def test_a_syntax_error_has_line_column_and_source(trees, text: str | bytes, message: str) -> None:
    found = problem(trees, text)
    assert found is not None
    assert found[0] is Verdict.SYNTAX_ERROR
    assert message in found[1]


def test_a_warning_of_the_parser_is_no_syntax_error(trees) -> None:
    assert problem(trees, "X = '\\d'\n" + ADD) is None


def test_a_syntax_error_of_a_helper_is_the_candidates(trees) -> None:
    trees.candidate("L1/_mine.py", "def (")
    found = problem(trees, "from . import _mine\n" + ADD)
    assert found is not None
    assert found[0] is Verdict.SYNTAX_ERROR
    assert found[1].startswith("mine/L1/_mine.py:1:5: invalid syntax")


@pytest.mark.parametrize(("text", "message"), [
    ("class Adder:\n    pass\nclass Other:\n    pass\n",
     "mine/L1/add.py: class Add is missing; found Adder, Other. Did you mean 'Adder'?"),
    ("def add(x):\n    return x\n", "mine/L1/add.py: class Add is missing; the file defines no class"),
    ("from elsewhere import Add\n",
     "mine/L1/add.py: class Add is missing (Add is imported from elsewhere); the file defines no class"),
    ("Add = make()\n", "mine/L1/add.py: class Add is missing (Add is assigned from make()); the file defines no class"),
    ("def f():\n    class Add:\n        pass\n", "mine/L1/add.py: class Add is missing; the file defines no class"),
])
def test_a_missing_class_is_named_with_those_found(trees, text: str, message: str) -> None:
    assert problem(trees, text) == (Verdict.MISSING_CLASS, message)


def test_another_signature_is_shown_as_a_diff(trees) -> None:
    assert problem(trees, ADD.replace(", y=None", "")) == (Verdict.WRONG_SIGNATURE, """\
mine/L1/add.py: class Add, forward: missing parameter: y=None
  baseline:  (x, y=None)
  candidate: (x)""")


@pytest.mark.parametrize("text", [
    pytest.param("if True:\n    class Add:\n        def __init__(self, n, eps=1e-6, dtype=None): pass\n"
                 "        def forward(self, x, y=None): pass\n", id="in if"),
    pytest.param(ADD.replace("class Add", "class Fast") + "Add = Fast\n", id="assigned"),
    pytest.param(ADD.replace("class Add", "class Base") + "class Add(Base):\n    pass\n", id="inherited"),
    pytest.param(ADD.replace("def forward", "def other") + "    forward = other\n", id="method alias"),
    pytest.param(ADD.replace("def forward", "def forward_native"), id="forward_native"),
    pytest.param("import torch.nn as nn\n" + ADD.replace("class Add", "class Add(nn.Module)"), id="nn.Module"),
    pytest.param("from torch import nn\n" + ADD.replace("class Add", "class Add(nn.Module)"), id="from torch"),
    pytest.param("import torch\n" + ADD.replace("class Add", "class Add(torch.nn.Module)"), id="torch.nn"),
    pytest.param("from elsewhere import Mixin\n" + ADD.replace("class Add", "class Add(Mixin)"), id="own methods"),
    pytest.param("from ._mine import Add\n", id="helper"),
    pytest.param("from . import _mine\nclass Add(_mine.Add):\n    pass\n", id="base in helper"),
    pytest.param("from fastkernels.runtime.op import Op\n" +
                 ADD.replace("class Add", "class Add(Op)").replace("forward", "forward_native"), id="Op"),
])
def test_classes_are_followed_to_their_definition(trees, text: str) -> None:
    trees.candidate("L1/_mine.py", ADD)
    assert problem(trees, text) is None


@pytest.mark.parametrize(("text", "message"), [
    ("from elsewhere import Fast\nclass Add(Fast):\n    def __init__(self, n, eps=1e-6, dtype=None): pass\n",
     "mine/L1/add.py: class Add: forward comes from the base class elsewhere.Fast, whose source is not part of the "
     "task tree"),
    ("from elsewhere import Fast\nclass Add(Fast):\n    def forward(self, x, y=None): pass\n",
     "mine/L1/add.py: class Add: __init__ comes from the base class elsewhere.Fast, whose source is not part of the "
     "task tree"),
    ("class Add:\n    def __init__(self, n, eps=1e-6, dtype=None): pass\n",
     "mine/L1/add.py: class Add: there is neither forward nor forward_native"),
])
def test_methods_out_of_sight_cannot_be_checked(trees, text: str, message: str) -> None:
    assert problem(trees, text) == (Verdict.WRONG_SIGNATURE, message)


def test_a_differing_forward_cuda_is_found(trees) -> None:
    text = "class Scale:\n    def forward_native(self, x, *, by=2): pass\n    def forward_cuda(self, x): pass\n"
    found = problem(trees, text, "L1/scale.py")
    assert found is not None
    assert "class Scale, forward_cuda:" in found[1]


@pytest.mark.parametrize(("line", "used"), [
    ("from fastkernels.tasks.baseline.L1.add import Add as Base", "fastkernels.tasks.baseline.L1.add"),
    ("import fastkernels.tasks.baseline.L1.add", "fastkernels.tasks.baseline.L1.add"),
    ("from fastkernels.tasks.baseline.L1 import add", "fastkernels.tasks.baseline.L1.add"),
    ("from fastkernels.tasks import baseline", "fastkernels.tasks.baseline"),
    ("from fastkernels import tasks", "fastkernels.tasks"),
    ("importlib.import_module('fastkernels.tasks.baseline.L1.add')", "fastkernels.tasks.baseline.L1.add"),
    ("def f():\n    __import__('fastkernels.tasks')", "fastkernels.tasks"),
])
def test_absolute_imports_of_the_baseline_are_recorded(trees, line: str, used: str) -> None:
    trees.candidate("L1/add.py", f"{line}\n{ADD}")
    assert trees.load().files["L1.add"].uses_baseline == (used,)


def test_other_imports_are_no_use_of_the_baseline(trees) -> None:
    lines = "import fastkernels, fastkernels.runtime.op\nfrom fastkernels import runtime\nfrom ._common import WHERE\n"
    trees.candidate("L1/add.py", lines + ADD)
    assert trees.load().files["L1.add"].uses_baseline == ()
