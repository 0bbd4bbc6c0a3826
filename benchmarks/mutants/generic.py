"""Makes mutants by rule from the syntax tree: each changes one expression or statement of code that a CPU runs.

Packages for this (mutmut, cosmic-ray) drive a project's own test suite and know numbers, comparisons and operators;
kernels go wrong in slices, dropped arguments and dropped calls too, and here the judge of a mutant is a grader.
"""

import ast
from collections.abc import Iterator

from benchmarks.mutants.mutant import Edit, Mutant, described, read_baseline
from benchmarks.mutants.reachable import functions_on_cpu

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"),
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "%"),
    ast.Mod: ("%", "//"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"),
}  # fmt: skip
"""Operators: how they are written, and what takes their place."""

FUNCTIONS = ("rsqrt", "softmax", "sigmoid", "exp", "silu", "gelu", "floor", "ceil", "log", "sqrt")
"""Functions of torch, F and math that are replaced by their first argument."""

UNCHANGED_CALLS = (
    "tolist", "view", "reshape", "flatten", "unflatten", "unsqueeze", "split", "chunk", "get", "pop", "items", "size",
    "dim", "stride", "contiguous", "long", "numel", "kv_cache", "detach", "expand", "all_reduce", "all_gather", "sort",
    "topk", "unique", "gather",
)  # fmt: skip
"""Methods whose loss changes nothing on a CPU or merely breaks shapes."""

SWAPPED_IN = ("rotate", "attend", "cat", "stack", "minimum", "maximum", "where", "min", "max", "outer", "matmul")
"""Functions besides the module's own whose arguments are swapped."""

UNCHANGED_KEYWORDS = ("device", "strict", "prefix", "keepdim", "dim", "positions", "hidden_states")
"""Arguments whose loss changes nothing on a CPU, or is a call without what it needs."""

FLOAT_FACTOR = 1.1
"""By which floating-point constants grow."""

MOST = 30
"""Mutants by rule of one module, unless all are asked for."""

Found = Iterator[tuple[str, Edit]]


def generic_mutants(module: str) -> list[Mutant]:
    """All mutants by rule of one module of the baseline."""
    source = read_baseline(module)
    text = Text(source)
    mutants = []
    for name, function in functions_on_cpu(ast.parse(source)):
        for kind, edit in edits(function, text):
            mutant = edit.apply(source).decode()
            mutants.append(Mutant(module, kind, f"{name}: {described(source, edit)}", mutant, "generic"))
    return mutants


class Text:
    """A file's bytes, and where its nodes lie in them."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def start(self, node: ast.expr | ast.stmt) -> int:
        """First byte."""
        return self._lines[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr | ast.stmt) -> int:
        """Byte after the last."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.end_lineno - 1] + node.end_col_offset

    def of(self, node: ast.expr | ast.stmt) -> str:
        """Text of a node."""
        return self.source[self.start(node) : self.end(node)].decode()

    def replace(self, node: ast.expr | ast.stmt, text: str) -> Edit:
        """The edit that puts `text` in a node's place."""
        return Edit(self.start(node), self.end(node), text)

    def between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> Edit:
        """The edit of what is written between two operands."""
        start, end = self.end(left), self.start(right)
        return Edit(start, end, self.source[start:end].decode().replace(old, new, 1))


def edits(function: ast.FunctionDef, text: Text) -> Found:
    """Yield (kind, edit) for everything that the rules change in a function's body."""
    assigned = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
    for statement in _statements(function.body):
        yield from _statement_edits(statement, assigned, text)
        assigned |= _targets(statement)
        nodes = list(_expressions(statement))
        # What chooses a branch is made True and False already.
        tests = {id(node.test) for node in (statement, *nodes) if isinstance(node, ast.If | ast.IfExp)
                 if not _orders(node.test)}
        for node in nodes:
            if id(node) not in tests:
                yield from _expression_edits(node, text)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if is_docstring or isinstance(statement, ast.Raise | ast.Assert | ast.Delete | ast.FunctionDef):
            continue
        yield statement
        for name in ("body", "orelse"):
            if isinstance(statement, ast.If | ast.For | ast.With):
                yield from _statements(getattr(statement, name, []))


def _expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """Expressions of a statement itself, without those of the statements within it and of annotations."""
    waiting: list[ast.AST] = []
    for name, value in ast.iter_fields(statement):
        if name not in ("body", "orelse", "annotation", "type_comment", "targets", "target", "items"):
            waiting += value if isinstance(value, list) else [value]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.JoinedStr) or not isinstance(node, ast.AST) or _is_minus_number(node):
            continue
        if isinstance(node, ast.expr):
            yield node
        waiting += ast.iter_child_nodes(node)


def _orders(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)


def _is_minus_number(node: ast.AST) -> bool:
    """Such as the -1 that names the last dimension: whatever else stands there breaks shapes or names the same."""
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)


def _statement_edits(statement: ast.stmt, assigned: set[str], text: Text) -> Found:
    targets = _targets(statement)
    if _is_call(statement) or isinstance(statement, ast.AugAssign) or (targets and targets <= assigned):
        yield "dropped statement", text.replace(statement, "pass")
    elif isinstance(statement, ast.If) and not any(isinstance(part, ast.Raise) for part in statement.body):
        yield "wrong branch", text.replace(statement.test, "True")
        yield "wrong branch", text.replace(statement.test, "False")
    elif isinstance(statement, ast.Return) and isinstance(statement.value, ast.Tuple):
        first, second, *rest = map(text.of, statement.value.elts)
        yield "swapped results", text.replace(statement.value, "(" + ", ".join([second, first, *rest]) + ")")


def _is_call(statement: ast.stmt) -> bool:
    """Whether a statement is a call, other than one that checks a config."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and not (isinstance(call.func, ast.Name) and call.func.id == "check_choice")


def _targets(statement: ast.stmt) -> set[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
            if isinstance(node.ctx, ast.Store)}


def _expression_edits(node: ast.expr, text: Text) -> Found:
    if isinstance(node, ast.Constant):
        yield from _constant_edits(node, text)
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield "wrong comparison", text.between(node.left, node.comparators[0], *COMPARISONS[type(node.ops[0])])
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield "wrong arithmetic", text.between(node.left, node.right, *ARITHMETIC[type(node.op)])
    elif isinstance(node, ast.UnaryOp):
        yield "dropped sign", text.replace(node, text.of(node.operand))
    elif isinstance(node, ast.IfExp):
        yield "wrong branch", text.replace(node.test, "True")
        yield "wrong branch", text.replace(node.test, "False")
    elif isinstance(node, ast.BoolOp):
        for part in node.values:
            yield "dropped condition", text.replace(node, text.of(part))
    elif isinstance(node, ast.Call):
        yield from _call_edits(node, text)
    elif isinstance(node, ast.Subscript):
        yield from _slice_edits(node.slice, text)


def _constant_edits(node: ast.Constant, text: Text) -> Found:
    if isinstance(node.value, bool):
        yield "wrong flag", text.replace(node, str(not node.value))
    elif isinstance(node.value, int):
        yield "wrong constant", text.replace(node, str(node.value + 1))
    elif isinstance(node.value, float):
        yield "wrong constant", text.replace(node, repr(node.value * FLOAT_FACTOR if node.value else 1.0))


def _call_edits(call: ast.Call, text: Text) -> Found:
    function = call.func
    if isinstance(function, ast.Attribute):
        owner = text.of(function.value)
        if owner in ("torch", "F", "math"):
            if function.attr in FUNCTIONS:
                yield "dropped call", text.replace(call, text.of(call.args[0]))
        elif owner not in ("self", "super()") and function.attr not in UNCHANGED_CALLS:
            yield "dropped call", text.replace(call, owner)
    for index, keyword in enumerate(call.keywords):
        if keyword.arg is not None and keyword.arg not in UNCHANGED_KEYWORDS:
            kept = [f"{k.arg}={text.of(k.value)}" for n, k in enumerate(call.keywords) if n != index and k.arg]
            parts = [*map(text.of, call.args), *kept]
            yield "dropped argument", text.replace(call, f"{text.of(function)}({', '.join(parts)})")
    name = function.attr if isinstance(function, ast.Attribute) else text.of(function)
    is_own = text.of(function).startswith("self.") or (isinstance(function, ast.Name) and name[0] != name[0].upper())
    if not is_own and name not in SWAPPED_IN:
        return
    for left, right in zip(call.args, call.args[1:], strict=False):
        plain = not isinstance(left, ast.Constant | ast.Starred) and not isinstance(right, ast.Constant | ast.Starred)
        if plain and text.of(left) != text.of(right):
            between = text.source[text.end(left) : text.start(right)].decode()
            yield "swapped arguments", Edit(text.start(left), text.end(right), text.of(right) + between + text.of(left))


def _slice_edits(place: ast.expr, text: Text) -> Found:
    for part in place.elts if isinstance(place, ast.Tuple) else [place]:
        if isinstance(part, ast.Slice):
            if part.lower is not None:
                yield "wrong bound", text.replace(part.lower, f"{text.of(part.lower)} + 1")
            if part.upper is not None:
                yield "wrong bound", text.replace(part.upper, f"{text.of(part.upper)} - 1")


def thinned(mutants: list[Mutant], most: int = MOST) -> list[Mutant]:
    """At most so many, evenly over the file."""
    if len(mutants) <= most:
        return mutants
    return [mutants[number * len(mutants) // most] for number in range(most)]
