"""Signatures read from source, and what keeps one from standing in for another."""

import ast

import pytest

from fastkernels.registry import ClassSignature, Signature, differences

BASELINE = "(self, x, residual=None, *, eps=1e-6)"


def signature(text: str) -> Signature:
    function = ast.parse(f"def f{text}: pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    return Signature.of(function)


def compare(candidate: str, baseline: str = BASELINE) -> list[str]:
    theirs, ours = (ClassSignature("Op", Signature(), signature(text)) for text in (baseline, candidate))
    return differences(theirs, ours)


@pytest.mark.parametrize("text", [
    "(self, x)", "(self, x, /, y=1, *, z, w=2)", "(self, *args, **kwargs)", "(self, a, *args, b=3)", "(self)",
])
def test_a_signature_reads_as_python_writes_it(text: str) -> None:
    assert str(signature(text)) == text.replace("self, ", "").replace("self", "")


@pytest.mark.parametrize("text", [
    BASELINE,
    "(self, x: int, residual: float | None = None, *, eps: float = 0.000001) -> int",
    "(this, x, residual=None, extra=0, *, eps=1e-06, more=1)",
    "(self, x, residual=None, *args, eps=1e-6, **kwargs)",
    "(self, x=None, residual=None, *, eps=1e-6)",
])
def test_what_can_be_called_alike_is_accepted(text: str) -> None:
    assert compare(text) == []


@pytest.mark.parametrize(("text", "finding"), [
    ("(self, x, *, eps=1e-6)", "missing parameter: residual=None"),
    ("(self, *args, **kwargs)", "missing parameter: x"),
    ("(self, x, residual=None, extra=1, *, must, eps=1e-6)", "additional parameter without default: must"),
    ("(self, x, residual, *, eps=1e-6)", "parameter residual is required, the baseline's is optional: residual=None"),
    ("(self, x, residual=None, *, eps=1e-5)", "parameter eps has the default 1e-05, the baseline's has 1e-06"),
    ("(self, x, residual=None, eps=1e-6)", "parameter eps is positional or keyword, the baseline's is keyword only"),
    ("(self, x, /, residual=None, *, eps=1e-6)",
     "parameter x is positional only, the baseline's is positional or keyword"),
])
def test_what_cannot_be_called_alike_is_named(text: str, finding: str) -> None:
    assert compare(text)[0].startswith(f"class Op, forward: {finding}")


def test_another_order_is_named() -> None:
    found = compare("(self, b, a)", "(self, a, b)")
    assert found[0] == "class Op, forward: order of parameters: b, a; the baseline's is a, b"


def test_an_additional_parameter_before_the_baselines_is_named() -> None:
    found = compare("(self, a, new=1, b=2)", "(self, a, b=2)")
    assert found[0].endswith(": additional parameter new stands before b, which the baseline takes by position")


def test_the_difference_reads_as_a_diff() -> None:
    assert compare("(self, x, res)", "(self, x, residual=None)") == [
        "class Op, forward: missing parameter: residual=None; additional parameter without default: res",
        "  baseline:  (x, residual=None)",
        "  candidate: (x, res)",
    ]


def test_init_may_lack_a_variant_and_forward_may_not() -> None:
    """A kernel written before an argument existed is graded wherever nobody gives it."""
    wide, narrow = "(self, n, window=None, cap=None)", "(self, n, window=None)"
    forward = signature("(self, x)")
    assert differences(ClassSignature("Op", signature(wide), forward),
                       ClassSignature("Op", signature(narrow), forward)) == []
    assert compare(narrow, wide)[0] == "class Op, forward: missing parameter: cap=None"
    swapped = ClassSignature("Op", signature("(self, window=None, n=1)"), forward)
    assert "order of parameters" in differences(ClassSignature("Op", signature(wide), forward), swapped)[0]


def test_init_and_forward_cuda_are_compared_too() -> None:
    baseline = ClassSignature("Op", signature("(self, n)"), signature("(self, x)"))
    candidate = ClassSignature("Op", signature("(self)"), signature("(self, x)"), signature("(self, x, y)"))
    assert [line for line in differences(baseline, candidate) if not line.startswith(" ")] == [
        "class Op, __init__: missing parameter: n",
        "class Op, forward_cuda: additional parameter without default: y",
    ]
