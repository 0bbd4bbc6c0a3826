"""The imports of one file, from its syntax tree: which modules of the task tree it names, and what else."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from fastkernels.registry.tree import TaskTree

OUTSIDE = "fastkernels.tasks"
"""Absolute imports below this package reach the installed task tree past the overlay."""


@dataclass(frozen=True)
class Imports:
    """What one file imports."""

    inside: frozenset[str]
    """Modules and packages of the task tree, such as `L1.rms_norm`."""
    outside: frozenset[str]
    """Dotted names of absolute imports, such as `torch.nn.functional` or `fastkernels.tasks.baseline.L1.rms_norm`."""

    @property
    def baseline(self) -> tuple[str, ...]:
        """Absolute imports of the installed task tree, which the overlay does not see."""
        return tuple(sorted(name for name in self.outside if f"{name}.".startswith(f"{OUTSIDE}.")))


@dataclass(frozen=True)
class Binding:
    """One name that an import statement binds."""

    name: str
    """The name in the importing file; empty for a call of `import_module`."""
    origin: str
    """Dotted name of the module, below the task root for a relative import."""
    member: str
    """What is taken from the module; empty for `import module`."""
    is_relative: bool
    """True for an import within the task tree."""

    @property
    def target(self) -> str:
        """The whole dotted name."""
        return ".".join(part for part in (self.origin, self.member) if part and part != "*")


def bindings(tree: ast.AST, module: str, is_package: bool) -> Iterator[Binding]:
    """Yield what the import statements of a file bind, in functions too; `module` is its name in the task tree.

    A relative import that leaves the task tree (`from ... import x`) cannot run in the overlay and is left out.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Binding(alias.asname or alias.name.split(".")[0], alias.name, "", False)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                absolute = resolve(origin, node.level, module, is_package)
                if absolute is None:
                    continue
                origin = absolute
            for alias in node.names:
                yield Binding(alias.asname or alias.name, origin, alias.name, bool(node.level))
        elif isinstance(node, ast.Call):
            yield from _dynamic(node, module, is_package)


def resolve(name: str, level: int, module: str, is_package: bool) -> str | None:
    """Return the task-tree name of a relative import, None where it leaves the tree."""
    package = module.split(".") if module else []
    package = package if is_package else package[:-1]
    if level - 1 > len(package):
        return None
    return ".".join([*package[: len(package) - level + 1], *([name] if name else [])])


def _dynamic(call: ast.Call, module: str, is_package: bool) -> Iterator[Binding]:
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    first = call.args[0] if call.args else None
    if called not in ("import_module", "__import__") or not isinstance(first, ast.Constant):
        return
    if isinstance(first.value, str) and first.value.strip("."):
        name = first.value.lstrip(".")
        level = len(first.value) - len(name)
        origin = resolve(name, level, module, is_package) if level else name
        if origin is not None:
            yield Binding("", origin, "", bool(level))


def read_imports(tree: ast.AST, module: str, is_package: bool, tasks: TaskTree) -> Imports:
    """Return the imports of a file, resolved to modules where `from package import name` names one."""
    inside: set[str] = set()
    outside: set[str] = set()
    packages: dict[str, str] = {}
    for bound in bindings(tree, module, is_package):
        if not bound.is_relative:
            outside.add(_outside(bound, tasks))
            continue
        place = tasks.find(bound.target)
        target = bound.target if place and bound.target else bound.origin
        inside.add(target)
        if place and place.is_package and bound.name:
            packages[bound.name] = target
    for node in ast.walk(tree) if packages else ():
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in packages:
            member = f"{packages[node.value.id]}.{node.attr}"
            inside.update([member] if tasks.find(member) else [])
    return Imports(frozenset(inside - {module, ""}), frozenset(outside))


def _outside(bound: Binding, tasks: TaskTree) -> str:
    """The imported module; with `from a.b import c` that is a.b.c where it lies in the task tree, else a.b."""
    prefix = f"{OUTSIDE}.baseline"
    if f"{bound.origin}.".startswith(f"{prefix}."):
        inner = bound.target.removeprefix(prefix).lstrip(".")
        return bound.target if TaskTree(tasks.baseline).find(inner) else bound.origin
    return bound.target if f"{bound.target}.".startswith(f"{OUTSIDE}.") else bound.origin
