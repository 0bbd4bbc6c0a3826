"""A task file cut down to what builds its classes: imports, constants, `__init__` and its helpers, forward left out.

Statements are copied as they stand in the source, so that what a module is made of (names, shapes and dtypes of its
weights) stays the baseline's to the letter.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fastkernels.registry.classes import Function, statements
from fastkernels.registry.source import Source

FORWARDS = ("forward", "forward_native", "forward_cuda")
"""Methods that a stub leaves out; in this order they give the signature."""
ALWAYS = frozenset({"__init__", "load_weights"})
"""Methods that build a module, whether another names them or not."""
NOT_KEPT = frozenset({*FORWARDS, "provider"})
"""Members that say how the baseline computes."""
INDENT = "    "
WIDTH = 120

Import = ast.Import | ast.ImportFrom


@dataclass(frozen=True)
class Outline:
    """What a stub class says in place of the baseline's."""

    doc: str
    """Docstring, without indentation; may be empty."""
    forward: str = ""
    """Source of its forward, without indentation; empty where a base's is inherited."""
    annotations: Function | None = None
    """The method whose signature `forward` repeats, for the names in it; None where it repeats none of this file."""
    imports: tuple[Import, ...] = ()
    """What `forward` needs beside them, where its signature is that of a base in another file."""


@dataclass
class Excerpt:
    """Finds by names what the kept parts of one file need, until nothing is added."""

    source: Source
    """The baseline's file."""
    outlines: Mapping[str, Outline]
    """Classes that become stubs, by name; bases of theirs in the same file among them."""
    outside: frozenset[str] = frozenset()
    """Names that other files use: of what they import from this one, and of members of its classes."""
    _kept: set[ast.stmt] = field(default_factory=set)
    _members: set[ast.stmt] = field(default_factory=set)

    def text(self) -> str:
        """The file without its docstring: imports, then everything else in the order of the source."""
        self._find()
        parts = [self._imports()]
        body = [s for s in self.source.tree.body if self._is_stub(s) or (s in self._kept and not _is_import(s))]
        for i, statement in enumerate(body):
            block = isinstance(statement, ast.ClassDef | Function)
            after_block = i > 0 and isinstance(body[i - 1], ast.ClassDef | Function)
            parts.append("\n\n" if block or after_block else "\n" if i == 0 else "")
            whole = isinstance(statement, ast.ClassDef) and self._is_stub(statement)
            parts.append(self._stub(statement) if whole else self._verbatim(statement, self.source.tree.body))
        return "".join(parts)

    def _find(self) -> None:
        size = -1
        while size != len(self._kept) + len(self._members):
            size = len(self._kept) + len(self._members)
            nodes = [node for part in self._parts() for node in ast.walk(part)]
            names = {node.id for node in nodes if isinstance(node, ast.Name)} | self.outside
            self._names = names
            called = {node.attr for node in nodes if isinstance(node, ast.Attribute) and _is_own(node.value)}
            self._kept |= {s for s in self._others() if names & set(defined(s))}
            wanted = called | ALWAYS | self.outside
            self._members |= {member for node in self._stub_nodes() for member in node.body
                              if set(defined(member)) - NOT_KEPT
                              and (isinstance(member, ast.Assign) or wanted & set(defined(member)))}

    def _parts(self) -> Iterator[ast.AST]:
        """Every piece of source that will be in the file, imports left out."""
        yield from (s for s in self._kept if not _is_import(s))
        yield from self._members
        for node in self._stub_nodes():
            yield from (*node.bases, *(word.value for word in node.keywords), *node.decorator_list)
            function = self.outlines[node.name].annotations
            if function is not None:
                yield function.args
                yield from [function.returns] if function.returns else []

    def _others(self) -> list[ast.stmt]:
        return [s for s in self.source.tree.body if not self._is_stub(s)]

    def _is_stub(self, statement: ast.stmt) -> bool:
        return isinstance(statement, ast.ClassDef) and statement.name in self.outlines

    def _stub_nodes(self) -> list[ast.ClassDef]:
        return [s for s in self.source.tree.body if isinstance(s, ast.ClassDef) and s.name in self.outlines]

    def _imports(self) -> str:
        own = [s for s in self.source.tree.body if s in self._kept and isinstance(s, Import)]
        more = [statement for outline in self.outlines.values() for statement in outline.imports]
        groups: dict[int, dict[str, None]] = {}
        for statement in [*(restricted(s, self._names) for s in own), *more]:
            groups.setdefault(_group(statement), {})[_import_text(statement)] = None
        return "\n".join("".join(groups[key]) for key in sorted(groups))

    def _verbatim(self, statement: ast.stmt, body: list[ast.stmt]) -> str:
        """The statement's own lines, with the string below it that documents a constant."""
        last = statement
        following = body[body.index(statement) + 1 :][:1]
        if following and isinstance(statement, ast.Assign | ast.AnnAssign) and _is_string(following[0]):
            last = following[0]
        start = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
        lines = self.source.data.decode().splitlines()
        return "".join(f"{line}\n" for line in lines[start - 1 : last.end_lineno])

    def _stub(self, node: ast.stmt) -> str:
        assert isinstance(node, ast.ClassDef)
        outline = self.outlines[node.name]
        head = ast.ClassDef(node.name, node.bases, node.keywords, [ast.Pass()], node.decorator_list)
        lines = ast.unparse(ast.fix_missing_locations(head)).removesuffix(f"{INDENT}pass")
        blocks = [quoted(outline.doc, INDENT)] if outline.doc else []
        members = [member for member in node.body if member in self._members]
        blocks += [self._verbatim(member, node.body).rstrip("\n") for member in members]
        blocks += [indented(outline.forward, INDENT)] if outline.forward else []
        return lines + "\n\n".join(blocks or [f"{INDENT}pass"]) + "\n"


def defined(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement defines, those within `if` and `try` among them."""
    for inner in statements([statement]):
        if isinstance(inner, ast.Import | ast.ImportFrom):
            yield from map(bound_name, inner.names)
        elif isinstance(inner, ast.ClassDef | Function):
            yield inner.name
        elif isinstance(inner, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
            yield from (n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name))


def bound_name(alias: ast.alias) -> str:
    """The name that an import binds."""
    return alias.asname or alias.name.split(".")[0]


def restricted(statement: Import, names: Iterable[str]) -> Import:
    """The import of just these names."""
    aliases = [alias for alias in statement.names if bound_name(alias) in names]
    if isinstance(statement, ast.Import):
        return ast.Import(aliases)
    return ast.ImportFrom(statement.module, aliases, statement.level)


def quoted(text: str, indent: str) -> str:
    """A docstring, indented; one line where it has one."""
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    ending = f"\n{indent}" if "\n" in text else ""
    return indented(f'"""{escaped}', indent) + f'{ending}"""'


def indented(text: str, indent: str) -> str:
    """Every line that is not empty, indented."""
    return "\n".join(f"{indent}{line}" if line else "" for line in text.split("\n"))


def _import_text(statement: Import) -> str:
    text = ast.unparse(statement)
    if len(text) <= WIDTH or isinstance(statement, ast.Import):
        return f"{text}\n"
    head, names = text.split(" import ", 1)
    return f"{head} import (\n" + "".join(f"{INDENT}{name},\n" for name in names.split(", ")) + ")\n"


def _group(statement: Import) -> int:
    """Standard library, other packages, this project, relative imports: in this order."""
    if isinstance(statement, ast.ImportFrom) and statement.level:
        return 3
    name = (statement.module or "") if isinstance(statement, ast.ImportFrom) else statement.names[0].name
    head = name.split(".")[0]
    return 0 if head in sys.stdlib_module_names else 2 if head == "fastkernels" else 1


def _is_import(statement: ast.stmt) -> bool:
    return isinstance(statement, Import)


def _is_string(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(
        statement.value.value, str)


def _is_own(value: ast.expr) -> bool:
    """True for `self`, `cls` and `super()`."""
    if isinstance(value, ast.Call):
        value = value.func
    return isinstance(value, ast.Name) and value.id in ("self", "cls", "super")
