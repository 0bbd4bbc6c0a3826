"""Classes as the source states them, followed through assignments, relative imports and base classes.

A base class or a re-exported class is in sight where it lies in the same file or in a module of the task tree that a
relative import (or an absolute import of the baseline) names. `torch.nn.Module` and the classes of
`fastkernels.runtime` are known to add no signature of their own. All else is out of sight: a method that may come from
there cannot be checked, so the class has to define it itself.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from fastkernels.registry.imports import OUTSIDE, Binding, bindings
from fastkernels.registry.signatures import ClassSignature, Signature
from fastkernels.registry.sources import TaskSources

PLAIN_BASES = ("object", "torch.nn.Module", "torch.nn.modules.Module", "abc.ABC", "typing.Generic", "typing.Protocol")
"""Classes that define neither an `__init__` with arguments nor a `forward`."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Found:
    """A class definition and the module that holds it."""

    module: str
    """Module of the task tree."""
    node: ast.ClassDef
    """The definition."""
    sources: TaskSources
    """The tree that the module belongs to."""


@dataclass(frozen=True)
class Unseen:
    """A class or method that the source does not show, with the reason."""

    reason: str
    """What was looked for and where it is said to come from."""


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module or class, those in `if`, `try` and `with` among them."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.With):
                yield from statements(getattr(statement, field, []))
        for handler in getattr(statement, "handlers", []):
            yield from statements(handler.body)


def class_names(tree: ast.Module) -> list[str]:
    """Return the names of the classes that a file defines at its top level, in order."""
    return list(dict.fromkeys(s.name for s in statements(tree.body) if isinstance(s, ast.ClassDef)))


def find_class(sources: TaskSources, module: str, name: str, depth: int = 0) -> Found | Unseen:
    """Follow a name to its class definition; the last of several definitions counts, as at run time."""
    place, source = sources.place(module), sources.source(module)
    if place is None or source is None or depth > 20:
        return Unseen(f"{name} is not in sight")
    found: Found | Unseen = Unseen(f"{name} is not defined")
    for statement in statements(source.tree.body):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            found = Found(module, statement, sources)
        elif isinstance(statement, ast.Assign) and name in [ast.unparse(target) for target in statement.targets]:
            alias = statement.value
            found = (find_class(sources, module, alias.id, depth + 1) if isinstance(alias, ast.Name)
                     else Unseen(f"{name} is assigned from {ast.unparse(alias)}"))
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for bound in bindings(statement, module, place.is_package):
                if bound.name == name:
                    found = _imported(sources, bound, depth)
    return found


def _imported(sources: TaskSources, bound: Binding, depth: int) -> Found | Unseen:
    if bound.is_relative and bound.member:
        return find_class(sources, bound.origin, bound.member, depth + 1)
    baseline = f"{OUTSIDE}.baseline."
    if bound.origin.startswith(baseline) and bound.member:
        return find_class(sources.over(None), bound.origin.removeprefix(baseline), bound.member, depth + 1)
    return Unseen(f"{bound.name} is imported from {bound.origin}")


def lineage(found: Found, depth: int = 0) -> Iterator[Found | Unseen]:
    """Yield a class and its bases, left to right and depth first; Unseen for a base that is out of sight."""
    yield found
    if depth > 20:
        return
    for expression in found.node.bases:
        base = expression.value if isinstance(expression, ast.Subscript) else expression  # Generic[T]
        dotted = _dotted(found, ast.unparse(base))
        if dotted in PLAIN_BASES or dotted.startswith("fastkernels.runtime."):
            continue
        member = _member(found, ast.unparse(base))
        if isinstance(member, Found):
            yield from lineage(member, depth + 1)
        else:
            yield Unseen(f"the base class {dotted}")


def _member(found: Found, text: str) -> Found | Unseen:
    """Resolve `Base`, or `module.Base` where the module is a relative import."""
    if "." not in text:
        return find_class(found.sources, found.module, text)
    head, _, tail = text.rpartition(".")
    module = _module_binding(found, head)
    return Unseen(text) if module is None else find_class(found.sources, module, tail)


def _module_binding(found: Found, name: str) -> str | None:
    for bound in _bindings(found):
        if bound.name == name and bound.is_relative and found.sources.place(bound.target):
            return bound.target
    return None


def _bindings(found: Found) -> list[Binding]:
    place, source = found.sources.place(found.module), found.sources.source(found.module)
    if place is None or source is None:
        return []
    imports = [s for s in statements(source.tree.body) if isinstance(s, ast.Import | ast.ImportFrom)]
    return [bound for statement in imports for bound in bindings(statement, found.module, place.is_package)]


def _dotted(found: Found, text: str) -> str:
    """Write a name out with what its first part was imported as: `nn.Module` is `torch.nn.Module`."""
    head, dot, tail = text.partition(".")
    for bound in _bindings(found):
        if bound.name == head and not bound.is_relative:
            # `import a.b` binds `a`; `import a.b as c` and `from a import b` bind the whole name.
            whole = head if not bound.member and bound.origin.split(".")[0] == head else bound.target
            return f"{whole}{dot}{tail}"
    return text


def method(found: Found, names: tuple[str, ...]) -> Signature | Unseen | None:
    """Return the signature of the first of these methods that the class or a base defines.

    Unseen where a base out of sight may define the first of them, None where nothing does.
    """
    family = list(lineage(found))
    for name in names:
        for member in family:
            function = _function(member.node.body, name) if isinstance(member, Found) else None
            if function is not None:
                return Signature.of(function)
            if isinstance(member, Unseen) and not any(_defines(later, names) for later in family):
                return Unseen(f"{names[0]} comes from {member.reason}, whose source is not part of the task tree")
    return None


def definition(found: Found, names: tuple[str, ...]) -> tuple[Found, Function] | None:
    """Return the first of these methods that the class or a base in sight defines, with the class that does."""
    family = [member for member in lineage(found) if isinstance(member, Found)]
    for name in names:
        for member in family:
            function = _function(member.node.body, name)
            if function is not None:
                return member, function
    return None


def _defines(member: Found | Unseen, names: tuple[str, ...]) -> bool:
    return isinstance(member, Found) and any(_function(member.node.body, name) is not None for name in names)


def _function(body: list[ast.stmt], name: str) -> Function | None:
    """The last definition of a method in a class body, also by assignment (`forward = forward_native`)."""
    found: Function | None = None
    for statement in statements(body):
        if isinstance(statement, Function) and statement.name == name:
            found = statement
        elif (isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Name)
              and name in [ast.unparse(target) for target in statement.targets]):
            found = _function(body, statement.value.id) or found
    return found


def class_signature(found: Found) -> ClassSignature | Unseen:
    """Return how the class is built and called; Unseen where its `__init__` or `forward` cannot be read."""
    init = method(found, ("__init__",))
    forward = method(found, ("forward", "forward_native", "forward_cuda"))
    if isinstance(init, Unseen):
        return init
    if forward is None:
        return Unseen("there is neither forward nor forward_native")
    if isinstance(forward, Unseen):
        return forward
    own_forward = method(found, ("forward",))
    cuda = None if isinstance(own_forward, Signature) else method(found, ("forward_cuda",))
    return ClassSignature(found.node.name, init or Signature(), forward, cuda if isinstance(cuda, Signature) else None)
