"""The comparison with vLLM's interfaces: what it reads off a wheel, and that nothing unexplained gets past it."""

import importlib
import zipfile
from pathlib import Path

import pytest

from fastkernels.registry import baseline_root

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
NORM = """
from torch import nn
from ..custom_op import CustomOp
DEFAULT = 64
@CustomOp.register("norm")
class Norm(CustomOp):
    def __init__(self, hidden_size: int, eps: float = 1e-6, quant_config=None, *, padding: int = DEFAULT) -> None:
        if True:
            super().__init__()
    def forward_native(self, x: "Tensor", residual=None) -> "Tensor":
        return x
    def forward_cuda(self, x, residual=None, wrong=1): ...
class Act(CustomOp):
    @staticmethod
    def forward_native(x): ...
class _Hidden(nn.Module):
    def forward(self): ...
class Config:
    pass
"""
LINEAR = """
from .norm import Norm as Base
from vllm.model_executor.layers import norm
class Deep(Base):
    def forward(self, input_): ...
class Deeper(Deep):
    pass
def helper(a, b=2): ...
def public(q, k, v, causal=False, scale=None): ...
"""
OURS = {
    "L1/__init__.py": "",
    "L1/norm.py": """
class Norm:
    def __init__(self, hidden_size, eps=1e-6, dtype=None): ...
    def forward(self, x, residual=None): ...
""",
    "L1/attend.py": """
class Attend:
    def __init__(self, scale): ...
    def forward_native(self, q, k, v): ...
""",
    "L2/__init__.py": "",
    "L2/deep.py": """
from ..L1.norm import Norm
class Deeper(Norm):
    def forward(self, input_): ...
""",
}
CUSTOM_OP = """
class CustomOp:
    def __init__(self, *, compile_native=False): ...
    def forward(self, *args, **kwargs): ...
"""
FOLDER = "vllm/model_executor/layers"


@pytest.fixture
def scripts(monkeypatch):
    """The modules of the comparison, by name, imported afresh."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    names = ("vllm_signatures", "vllm_explanations", "vllm_interfaces")
    for name in names:
        monkeypatch.delitem(importlib.import_module("sys").modules, name, raising=False)
    return {name: importlib.import_module(name) for name in names}


@pytest.fixture
def wheel(tmp_path, scripts, monkeypatch):
    """A wheel of two files, and the lists that name them."""
    path = tmp_path / "vllm-9.9-cp38-abi3-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vllm/model_executor/custom_op.py", CUSTOM_OP)
        archive.writestr(f"{FOLDER}/norm.py", NORM)
        archive.writestr(f"{FOLDER}/linear.py", LINEAR)
    monkeypatch.setattr(scripts["vllm_signatures"], "FILES", (f"{FOLDER}/norm.py", f"{FOLDER}/linear.py"))
    monkeypatch.setattr(scripts["vllm_signatures"], "FUNCTIONS", {f"{FOLDER}/linear.py": ("public",)})
    return path


@pytest.fixture
def tree(tmp_path, scripts, monkeypatch):
    """A task tree that the comparison reads in place of the installed one."""
    for name, text in OURS.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(scripts["vllm_interfaces"], "baseline_root", lambda: tmp_path / "tree")
    return tmp_path / "tree"


@pytest.fixture
def compare(scripts, wheel, tree, monkeypatch, tmp_path, capsys):
    """Run the script with tables that explain everything; `tables` replaces some of them."""
    explanation = scripts["vllm_explanations"].Explanation
    usual = {
        "COUNTERPARTS": {"Attend": "public in linear.py"}, "OWN": {}, "WANTED": ("Norm", "Deeper"),
        "EXPLANATIONS": (explanation("Nor* Deeper", "-quant_config -padding", "Not here."),
                         explanation("*", "+dtype", "An argument."), explanation("Attend", "-causal", "Always."),
                         explanation("Attend", "=scale", "Required.")),
    }

    def run(*words, **tables):
        for name, table in {**usual, **tables}.items():
            monkeypatch.setattr(scripts["vllm_interfaces"], name, table)
        status = scripts["vllm_interfaces"].main([str(wheel), str(tmp_path / "page.md"), *words])
        return status, capsys.readouterr().out

    run.explanation, run.usual = explanation, usual
    return run


def test_signatures_are_read_off_the_syntax_trees(scripts, wheel):
    found = scripts["vllm_signatures"].read(scripts["vllm_signatures"].Wheel(wheel))
    assert (found.version, found.wheel) == ("9.9", wheel.name)
    assert set(found.interfaces) == {"Norm", "Act", "Deep", "Deeper", "public"}
    norm, = found.interfaces["Norm"]
    assert norm.init == "(hidden_size: int, eps: float=1e-06, quant_config=None, *, padding: int=DEFAULT)"
    assert norm.forward == "(x: 'Tensor', residual=None) -> 'Tensor'"
    assert found.interfaces["Act"][0].init == "()"
    assert found.interfaces["Act"][0].forward == "(x)"
    deeper, = found.interfaces["Deeper"]
    assert (deeper.init, deeper.forward) == (norm.init, "(input_)")
    public, = found.interfaces["public"]
    assert (public.init, public.forward) == (None, "(q, k, v, causal=False, scale=None)")


def test_signatures_are_kept_in_a_file_and_read_back(scripts, wheel, tmp_path):
    signatures = scripts["vllm_signatures"]
    assert signatures.main([str(wheel), str(tmp_path / "kept.json")]) == 0
    assert signatures.Signatures.load(tmp_path / "kept.json") == signatures.read(signatures.Wheel(wheel))


@pytest.mark.parametrize(("change", "message"), [
    ({"FILES": ("vllm/gone.py",)}, "vllm/gone.py is not in the wheel; vLLM has moved it"),
    ({"FUNCTIONS": {f"{FOLDER}/linear.py": ("publik",)}}, "linear.py has no function publik. Did you mean 'public'?"),
])
def test_what_vllm_has_moved_is_an_error(scripts, wheel, monkeypatch, change, message, capsys, tmp_path):
    for name, value in change.items():
        monkeypatch.setattr(scripts["vllm_signatures"], name, value)
    assert scripts["vllm_signatures"].main([str(wheel), str(tmp_path / "kept.json")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "kept.json").exists()


def test_what_is_no_wheel_is_an_error(scripts, tmp_path, capsys):
    (tmp_path / "vllm-1.whl").write_text("no zip")
    (tmp_path / "kept.json").write_text("{}")
    for words, message in (([str(tmp_path / "vllm-1.whl")], "no wheel"), ([str(tmp_path / "none.whl")], "no wheel"),
                           ([str(tmp_path / "kept.json")], "no file of signatures")):
        assert scripts["vllm_interfaces"].main([*words, str(tmp_path / "page.md")]) == 1
        assert message in capsys.readouterr().err


def test_differences_that_are_all_explained_give_a_page(compare, tmp_path):
    assert compare() == (0, "classes 3, problems 0\n")
    page = (tmp_path / "page.md").read_text()
    assert "# vLLM\n__init__(hidden_size: int, eps: float=1e-06, quant_config=None, *, padding: int=DEFAULT)\n" in page
    assert "1. Always.\n2. Required.\n3. Not here.\n4. An argument.\n" in page
    assert "- `-quant_config`, `-padding`: see 3\n- `+dtype`: see 4\n" in page
    assert "not explained" not in page
    assert compare("--check") == (0, "classes 3, problems 0\n")
    (tmp_path / "page.md").write_text(page + "\n")
    status, out = compare("--check")
    assert status == 1
    assert "not what would be written" in out
    assert (tmp_path / "page.md").read_text() == page + "\n"


@pytest.mark.parametrize(("old", "new", "message"), [
    ("eps=1e-6", "eps=1e-5",
     "L1/norm.py: class Norm: __init__: `eps=1e-05`; vLLM has `eps=1e-06`, not explained: `=eps`"),
    ("eps=1e-6", "eps", "`eps`, required; vLLM has `eps=1e-06`, not explained: `=eps`"),
    ("residual=None", "residual=None, scale=1", "forward: `scale=1` is ours alone, not explained: `+scale`"),
    (", residual=None", "", "forward: `residual=None` is vLLM's alone, not explained: `-residual`"),
    ("hidden_size, eps=1e-6", "*, hidden_size, eps=1e-6", "`hidden_size` is keyword only, vLLM's is positional or key"),
    ("self, x, residual=None", "self, residual=None, x=0",
     "forward: order residual, x; vLLM x, residual, not explained: `~forward`"),
    ("class Norm:", "class Normal:", "class Normal has no counterpart in vLLM 9.9. Did you mean 'Norm'?"),
])  # fmt: skip
def test_an_unexplained_difference_fails(compare, tree, old, new, message, tmp_path):
    path = tree / "L1" / "norm.py"
    path.write_text(path.read_text().replace(old, new))
    status, out = compare()
    assert status == 1
    assert message in out
    if "not explained" in message:
        assert "**not explained**" in (tmp_path / "page.md").read_text()


@pytest.mark.parametrize(("tables", "message"), [
    ({"WANTED": ("Norm", "Depper")}, "class Depper is missing in the task tree. Did you mean 'Deeper'?"),
    ({"COUNTERPARTS": {}}, "L1/attend.py: class Attend has no counterpart"),
    ({"OWN": {"Gone": "why", "Attend": "why"}}, "Gone of the tables is no class of the task tree"),
])
def test_tables_that_do_not_fit_fail(compare, tables, message):
    status, out = compare(**tables)
    assert status == 1
    assert message in out


def test_an_explanation_that_explains_nothing_fails(compare):
    idle = compare.explanation("Norm", "-eps", "Gone.")
    status, out = compare(EXPLANATIONS=(*compare.usual["EXPLANATIONS"], idle))
    assert (status, out) == (1, "explanation without use: Norm: -eps\nclasses 3, problems 1\n")


def test_the_projects_own_classes_differ_from_the_wheels_only_where_it_is_explained(scripts):
    interfaces = scripts["vllm_interfaces"]
    signatures = scripts["vllm_signatures"].Signatures.load(interfaces.STORED)
    rows, problems = interfaces.rows_and_problems(interfaces.own_classes(baseline_root()), signatures)
    assert problems == []
    assert interfaces.PAGE.read_text(encoding="utf-8") == interfaces.page(rows, signatures), (
        "run: PYTHONPATH=. python3 benchmarks/vllm_interfaces.py")
