"""Signatures of classes as the source states them, and what keeps one from standing in for another."""

import ast
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How an argument is passed; the words are those of messages."""

    POSITIONAL_ONLY = "positional only"
    """Before `/`."""
    POSITIONAL_OR_KEYWORD = "positional or keyword"
    """An ordinary parameter."""
    VAR_POSITIONAL = "*"
    """`*args`."""
    KEYWORD_ONLY = "keyword only"
    """After `*`."""
    VAR_KEYWORD = "**"
    """`**kwargs`."""


POSITIONAL = (Kind.POSITIONAL_ONLY, Kind.POSITIONAL_OR_KEYWORD)
VARIADIC = (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD)


@dataclass(frozen=True)
class Param:
    """One parameter; its annotation is of no account."""

    name: str
    """Its name."""
    kind: Kind
    """How it is passed."""
    default: str | None = None
    """Its default as Python writes the source back (`1e-6` and `0.000001` are both `1e-06`); None where required."""

    @property
    def required(self) -> bool:
        """True where a call must give it."""
        return self.default is None and self.kind not in VARIADIC

    def __str__(self) -> str:
        stars = self.kind if self.kind in VARIADIC else ""
        return f"{stars}{self.name}" if self.default is None else f"{self.name}={self.default}"


@dataclass(frozen=True)
class Signature:
    """Parameters in order, without `self`."""

    params: tuple[Param, ...] = ()
    """The parameters."""

    def __str__(self) -> str:
        words: list[str] = []
        for i, param in enumerate(self.params):
            before = self.params[i - 1].kind if i else None
            if param.kind is Kind.KEYWORD_ONLY and before not in (Kind.KEYWORD_ONLY, Kind.VAR_POSITIONAL):
                words.append("*")
            words.append(str(param))
            after = self.params[i + 1].kind if i + 1 < len(self.params) else None
            if param.kind is Kind.POSITIONAL_ONLY and after is not Kind.POSITIONAL_ONLY:
                words.append("/")
        return f"({', '.join(words)})"

    def named(self) -> dict[str, Param]:
        """The parameters by name."""
        return {param.name: param for param in self.params}

    @classmethod
    def of(cls, function: ast.FunctionDef | ast.AsyncFunctionDef) -> "Signature":
        """Read the signature of a method; the first parameter is left out unless it is a static method."""
        arguments = function.args
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [None] * (len(positional) - len(arguments.defaults)) + [ast.unparse(d) for d in arguments.defaults]
        only = len(arguments.posonlyargs)
        params = [
            Param(a.arg, Kind.POSITIONAL_ONLY if i < only else Kind.POSITIONAL_OR_KEYWORD, default)
            for i, (a, default) in enumerate(zip(positional, defaults, strict=True))
        ]
        if not any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list):
            params = params[1:]
        if arguments.vararg:
            params.append(Param(arguments.vararg.arg, Kind.VAR_POSITIONAL))
        params += [
            Param(a.arg, Kind.KEYWORD_ONLY, None if default is None else ast.unparse(default))
            for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        ]
        if arguments.kwarg:
            params.append(Param(arguments.kwarg.arg, Kind.VAR_KEYWORD))
        return cls(tuple(params))


@dataclass(frozen=True)
class ClassSignature:
    """How a class is built and called."""

    name: str
    """Class name."""
    init: Signature
    """`__init__`; empty where no class in sight defines one."""
    forward: Signature
    """`forward`; where the class leaves that to its base, `forward_native`, to which the base passes all arguments."""
    forward_cuda: Signature | None = None
    """`forward_cuda`, where `forward` is left to the base, which passes it the same arguments."""


def differences(baseline: ClassSignature, candidate: ClassSignature) -> list[str]:
    """Return what keeps the candidate from being called as the baseline is, as lines; empty where it can be.

    The same names in the same order and of the same kinds, the baseline's defaults equal as written; what the baseline
    requires may have a default. Further parameters must have one and stand behind. `__init__` may lack what has a
    default in the baseline: a kernel need not have every variant, and building it for one that it lacks is an error
    then.
    """
    pairs = {"__init__": (_without_variants(baseline.init, candidate.init), candidate.init),
             "forward": (baseline.forward, candidate.forward)}
    if candidate.forward_cuda is not None:
        pairs["forward_cuda"] = (baseline.forward, candidate.forward_cuda)
    return [line for method, pair in pairs.items() for line in _method(f"class {baseline.name}, {method}:", *pair)]


def _without_variants(baseline: Signature, candidate: Signature) -> Signature:
    """The baseline's parameters less those with a default that the candidate does not have."""
    names = candidate.named()
    return Signature(tuple(param for param in baseline.params if param.required or param.name in names))


def _method(title: str, baseline: Signature, candidate: Signature) -> list[str]:
    found = _compare(baseline, candidate)
    if not found:
        return []
    return [f"{title} {'; '.join(found)}", f"  baseline:  {baseline}", f"  candidate: {candidate}"]


def _compare(baseline: Signature, candidate: Signature) -> list[str]:
    theirs, ours = baseline.named(), candidate.named()
    lines = [f"missing parameter: {param}" for name, param in theirs.items() if name not in ours]
    lines += [f"additional parameter without default: {param}"
              for name, param in ours.items() if name not in theirs and param.required]
    for name in (name for name in theirs if name in ours):
        lines += _compare_param(theirs[name], ours[name])
    return lines or _compare_order(baseline, candidate)


def _compare_param(baseline: Param, candidate: Param) -> list[str]:
    if candidate.kind is not baseline.kind:
        return [f"parameter {baseline.name} is {candidate.kind}, the baseline's is {baseline.kind}"]
    if candidate.required and not baseline.required:
        return [f"parameter {baseline.name} is required, the baseline's is optional: {baseline}"]
    if not baseline.required and candidate.default != baseline.default:
        return [f"parameter {baseline.name} has the default {candidate.default}, the baseline's has {baseline.default}"]
    return []


def _compare_order(baseline: Signature, candidate: Signature) -> list[str]:
    wanted = [param.name for param in baseline.params if param.kind in POSITIONAL]
    found = [param.name for param in candidate.params if param.kind in POSITIONAL]
    if found[: len(wanted)] == wanted:
        return []
    kept = [name for name in found if name in wanted]
    if kept != wanted:
        return [f"order of parameters: {', '.join(kept)}; the baseline's is {', '.join(wanted)}"]
    early = next(name for name in found if name not in wanted)
    return [f"additional parameter {early} stands before {wanted[-1]}, which the baseline takes by position"]
