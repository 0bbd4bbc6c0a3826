"""What a candidate affects, and candidates without effect."""

import pytest

from fastkernels.registry import subsumed
from fastkernels.results import Subsumed, Verdict

ADD = "class Add:\n    def __init__(self, n, eps=1e-6, dtype=None): pass\n    def forward(self, x, y=None): pass\n"
BLOCK = "class Block:\n    def __init__(self, n): pass\n    def forward(self, x): pass\n"
LAYER = BLOCK.replace("Block", "Layer")
ALL = ("L1.add", "L1.scale", "L2.block", "L3.layer")


def test_a_module_reaches_the_candidates_below_it(trees) -> None:
    trees.candidate("L1/add.py", ADD)
    graph = trees.graph()
    assert {module: sorted(graph.reaches(module)) for module in ALL} == {
        "L1.add": ["L1.add"], "L1.scale": [], "L2.block": ["L1.add"], "L3.layer": ["L1.add"],
    }
    assert graph.users("L1.add") == ("L1.add", "L2.block", "L3.layer")
    assert graph.reaches("L1.unknown") == frozenset()


def test_a_candidate_above_cuts_what_it_no_longer_imports(trees) -> None:
    trees.candidate("L1/add.py", ADD)
    trees.candidate("L2/block.py", BLOCK)
    graph = trees.graph()
    assert graph.reaches("L3.layer") == {"L2.block"}
    assert graph.baseline_reaches("L3.layer") == {"L3.layer", "L2.block", "L1.add", "L1.scale", "L1._common"}


@pytest.mark.parametrize("line", [
    "from ..L1.add import Add", "from ..L1 import add", "from ..L1.add import *", "from .. import L1\nx = L1.add",
    "importlib.import_module('..L1.add', __package__)", "def f():\n    from ..L1.add import Add",
    "from ._glue import x",
])
def test_every_form_of_import_counts(trees, line: str) -> None:
    trees.candidate("L1/add.py", ADD)
    trees.candidate("L2/_glue.py", "from ..L1 import add\nx = add\n")
    trees.candidate("L2/block.py", f"{line}\n{BLOCK}")
    assert trees.graph().reaches("L2.block") == {"L1.add", "L2.block"}


@pytest.mark.parametrize("line", [
    "from .. import L1", "from ..L1 import LEVEL", "from ...L1 import add", "import L1.add", "",
])
def test_what_imports_no_module_does_not_count(trees, line: str) -> None:
    trees.candidate("L1/add.py", ADD)
    trees.candidate("L2/block.py", f"{line}\n{BLOCK}")
    assert trees.graph().reaches("L2.block") == {"L2.block"}


def test_an_import_by_way_of_a_package_counts(trees) -> None:
    (trees.baseline / "L1/__init__.py").write_text("from .add import Add\n")
    trees.candidate("L1/add.py", ADD)
    trees.candidate("L2/block.py", f"from ..L1 import Add\n{BLOCK}")
    assert "L1.add" in trees.graph().reaches("L2.block")


def test_import_cycles_end(trees) -> None:
    trees.candidate("L1/add.py", f"from . import scale\n{ADD}")
    (trees.baseline / "L1/scale.py").write_text("from . import add\n")
    assert trees.graph().reaches("L1.scale") == {"L1.add"}


def test_a_helper_that_replaces_the_baselines_takes_part(trees) -> None:
    trees.candidate("L1/_common.py", "WHERE = 'candidate'\n")
    trees.candidate("L1/_mine.py", "")
    trees.candidate("L1/add.py", f"from . import _mine\n{ADD}")
    graph = trees.graph()
    assert graph.reaches("L1.scale") == {"L1._common"}
    assert graph.reaches("L1.add") == {"L1.add"}
    assert graph.affected() == {
        "L1.add": ("L1.add", "L2.block", "L3.layer"),
        "L1._common": ("L1.scale", "L2.block", "L3.layer"),
        "L1._mine": ("L1.add", "L2.block", "L3.layer"),
    }


def test_the_hash_covers_helpers_and_nothing_that_is_not_reached(trees) -> None:
    trees.candidate("L1/_mine.py", "X = 1\n")
    trees.candidate("L1/add.py", f"from . import _mine\n{ADD}")
    before = {module: trees.graph().sha256(module) for module in ALL}
    trees.candidate("L1/_mine.py", "X = 2\n")
    after = {module: trees.graph().sha256(module) for module in ALL}
    assert before["L1.scale"] is after["L1.scale"] is None
    assert all(before[module] != after[module] for module in ("L1.add", "L2.block", "L3.layer"))


def test_problems_and_uses_of_the_baseline_reach_upward(trees) -> None:
    trees.candidate("L1/add.py", "import fastkernels.tasks.baseline.L1.add\n")
    graph = trees.graph()
    problem = graph.problem("L3.layer")
    assert problem is not None
    assert problem[0] is Verdict.MISSING_CLASS
    assert graph.problem("L1.scale") is None
    assert graph.uses_baseline("L3.layer") == ("fastkernels.tasks.baseline.L1.add",)
    assert graph.uses_baseline("L1.scale") == ()


def test_a_problem_of_its_own_comes_first(trees) -> None:
    trees.candidate("L1/add.py", "def (")
    trees.candidate("L2/block.py", "from ..L1 import add\n")
    problem = trees.graph().problem("L2.block")
    assert problem is not None
    assert problem[0] is Verdict.MISSING_CLASS


@pytest.mark.parametrize(("files", "graded", "expected"), [
    ({"L1/add.py": ADD}, ALL, []),
    ({"L1/add.py": ADD, "L2/block.py": BLOCK}, ALL, []),  # the operator itself is graded, so it is reached
    ({"L1/add.py": ADD, "L2/block.py": BLOCK}, ("L2.block",), [Subsumed("L1.add", "L2.block")]),
    ({"L1/add.py": ADD, "L2/block.py": BLOCK}, ("L3.layer",), [Subsumed("L1.add", "L2.block")]),
    ({"L1/add.py": ADD, "L3/layer.py": LAYER}, ("L3.layer",), [Subsumed("L1.add", "L3.layer")]),
    ({"L1/add.py": ADD, "L2/block.py": f"from ..L1.add import Add\n{BLOCK}", "L3/layer.py": LAYER}, ("L3.layer",),
     [Subsumed("L1.add", "L3.layer"), Subsumed("L2.block", "L3.layer")]),
    ({"L1/add.py": ADD, "L2/block.py": BLOCK, "L3/layer.py": LAYER}, ("L3.layer",),
     [Subsumed("L1.add", "L2.block"), Subsumed("L2.block", "L3.layer")]),
    ({"L1/add.py": ADD}, ("L1.scale",), [Subsumed("L1.add", "")]),
])
def test_candidates_without_effect_are_named(trees, files, graded, expected) -> None:
    for path, text in files.items():
        trees.candidate(path, text)
    candidates = trees.load()
    assert subsumed(trees.graph(), candidates, graded) == expected
