"""Candidate files to be filled in: a model's operators with class, signature, docstring and the shapes of its calls."""

import ast
import builtins
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastkernels.errors import CandidateError, SelectionError, did_you_mean, shown
from fastkernels.manifest import InputSpec, Manifest, ModelEntry, Scenario, Selection
from fastkernels.registry.classes import Found, definition, find_class, lineage
from fastkernels.registry.excerpt import FORWARDS, Excerpt, Import, Outline, defined, quoted, restricted
from fastkernels.registry.imports import bindings
from fastkernels.registry.operators import OperatorFile, baseline_root, operator_paths, read_operator
from fastkernels.registry.signatures import Signature
from fastkernels.registry.sources import TaskSources
from fastkernels.registry.tree import LEVELS, TaskTree, python_files

WIDTH = 112
"""Characters of a line of shapes, before its indentation."""


AS_SERVED = """Called as a server does: forward(input_ids, positions) gives the hidden states; logits_indices are the
rows of these that compute_logits is given next. Both outputs are compared."""
"""What the inputs of a whole model are."""


@dataclass(frozen=True)
class Stub:
    """One file to write."""

    path: Path
    """Where it belongs below a candidate directory: `L1/rms_norm.py`."""
    text: str
    """The file."""
    operators: tuple[str, ...]
    """Operators of the manifest whose classes it holds."""


def make_stubs(manifest: Manifest, model: str, targets: Iterable[str] = (), levels: Iterable[int] = (),
               baseline: Path | None = None) -> list[Stub]:
    """Return the stubs of one model's operators, by level and name.

    `model` is a short name, a Hugging Face id or the beginning of one that no other model shares. SelectionError for
    an unknown or ambiguous model, an unknown operator or level, and where together they leave nothing.
    """
    chosen = choose_model(manifest, model)
    scenarios = manifest.scenarios(
        Selection(models=(chosen.name,), targets=tuple(targets), levels=tuple(levels)))
    own = [scenario for scenario in scenarios if scenario.model == chosen.name]
    sources = TaskSources(TaskTree(baseline or baseline_root()))
    paths = operator_paths(sources.tasks.baseline)
    stubs = []
    for module in sorted({scenario.relative_module for scenario in own}):
        if module not in paths:
            raise CandidateError(f"{shown(manifest.path)}: the module {module.replace('.', '/')}.py is not part of "
                                 f"the baseline{did_you_mean(module, paths)}")
        operator = read_operator(sources, module, paths[module])
        stubs.append(_stub(operator, sources, [s for s in own if s.relative_module == module]))
    return stubs


def choose_model(manifest: Manifest, name: str) -> ModelEntry:
    """Return the one model that is called so or starts so; SelectionError with the nearest where there is none."""
    found = [model for model in manifest.models.values() if model.matches(name)]
    exact = [model for model in found if name.lower() in model.names()]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0]
    if found:
        names = ", ".join(model.name for model in found)
        raise SelectionError(f"{shown(manifest.path)}: model {name!r} is the beginning of {names}; name one of them")
    manifest.scenarios(Selection(models=(name,)))  # raises, with the nearest name
    raise AssertionError(name)


def write_stubs(stubs: Sequence[Stub], directory: Path) -> list[Path]:
    """Write the files and return their paths; all of them or, with a CandidateError, none."""
    paths = [directory / stub.path for stub in stubs]
    there = [shown(path) for path in paths if path.exists() or path.is_symlink()]
    if there:
        raise CandidateError(f"{len(there)} of {len(paths)} files exist already, so nothing was written: "
                             f"{', '.join(there)}; remove them or name another directory")
    written: list[Path] = []
    try:
        for path, stub in zip(paths, stubs, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:  # fails where another process was faster
                written.append(path)
                file.write(stub.text)
    except OSError as error:
        for done in written:
            done.unlink(missing_ok=True)
        raise CandidateError(f"{shown(path)}: cannot be written: {error.strerror or error}; nothing was left behind"
                             ) from error
    return written


def _stub(operator: OperatorFile, sources: TaskSources, scenarios: Sequence[Scenario]) -> Stub:
    by_class: dict[str, list[Scenario]] = {}
    for scenario in scenarios:
        by_class.setdefault(scenario.class_name, []).append(scenario)
    missing = sorted(set(by_class) - set(operator.classes))
    if missing:
        raise CandidateError(f"{shown(operator.path)}: class {missing[0]} of the manifest is not there"
                             f"{did_you_mean(missing[0], operator.classes)}")
    outlines = _outlines(operator, sources, {name: _shapes(found) for name, found in by_class.items()})
    source = sources.read(operator.path)
    body = Excerpt(source, outlines, _used_outside(operator, sources)).text()
    relative = Path(f"L{operator.level}") / f"{operator.name}.py"
    return Stub(relative, f"{quoted(_head(relative, scenarios[0]), '')}\n\n{body}",
                tuple(dict.fromkeys(s.op for s in scenarios)))


def _head(path: Path, scenario: Scenario) -> str:
    text = (f"The baseline builds it as written here; weights are loaded by name, so keep the names, shapes and dtypes "
            f"of parameters and buffers. What forward may do to its inputs, and what is measured: docs/correctness.md. "
            f"Grade it with: pytest --fk-target={scenario.op} --fk-model={scenario.model}, and "
            f"--fk-candidates=DIRECTORY where it does not lie in tasks/candidate.")
    return f"Candidate for {path.as_posix()}: fill in forward.\n\n" + textwrap.fill(
        text, WIDTH, break_on_hyphens=False, break_long_words=False)


def _outlines(operator: OperatorFile, sources: TaskSources, shapes: Mapping[str, str]) -> dict[str, Outline]:
    """The public classes, and what they derive from within the file."""
    outlines = {}
    for member in _families(operator, sources):
        if member.module == operator.module:
            public = member.node.name in operator.classes
            outlines[member.node.name] = _outline(member, public, shapes.get(member.node.name, ""), operator)
    return outlines


def _families(operator: OperatorFile, sources: TaskSources) -> Iterator[Found]:
    """The public classes and their bases in sight, this file's and others'."""
    for name in operator.classes:
        found = find_class(sources, operator.module, name)
        assert isinstance(found, Found)
        yield from (member for member in lineage(found) if isinstance(member, Found))


def _outline(found: Found, public: bool, shapes: str, operator: OperatorFile) -> Outline:
    text = inspect.cleandoc(ast.get_docstring(found.node) or "")
    doc = "\n\n".join(part for part in (text, shapes) if part)
    defined = definition(found, FORWARDS) if public else None
    if defined is None:
        return Outline(doc)
    owner, function = defined
    what = ast.get_docstring(function) if function.name == "forward" else None
    message = f'"L{operator.level}/{operator.name}.py: {found.node.name}.forward is still a stub"'
    lines = [*([quoted(what, "    ")] if what else []), f"    raise NotImplementedError({message})"]
    if owner.module != found.module:
        header, imports = _foreign_header(owner, function)
        return Outline(doc, "\n".join([header, *lines]), imports=imports)
    if owner is not found and owner.node.name in operator.classes:
        return Outline(doc)
    return Outline(doc, "\n".join([_header(found, function), *lines]), function)


def _header(found: Found, function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """`def forward(...) -> ...:` as the source has it, without its indentation."""
    source = found.sources.source(found.module)
    assert source is not None
    first = function.body[0]
    lines = source.data.decode().splitlines()[function.lineno - 1 : first.lineno]
    lines[-1] = lines[-1].encode()[: first.col_offset].decode()
    text = textwrap.dedent("\n".join(lines)).rstrip()
    return text.replace(f"def {function.name}(", "def forward(", 1)


def _foreign_header(owner: Found, function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, tuple[Import, ...]]:
    """Header of a method of another file and the imports for it; without annotations where names are not imported."""
    source = owner.sources.source(owner.module)
    assert source is not None
    parts = [function.args, *([function.returns] if function.returns else [])]
    names = {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}
    names -= set(dir(builtins))
    absolute = [s for s in source.tree.body if isinstance(s, Import) and not getattr(s, "level", 0)]
    imports = tuple(restricted(s, names) for s in absolute if names & set(defined(s)))
    if names <= {name for statement in imports for name in defined(statement)}:
        return _header(owner, function), imports
    parameters = str(Signature.of(function)).removeprefix("(")
    return f"def forward(self{', ' if parameters != ')' else ''}{parameters}:", ()


def _used_outside(operator: OperatorFile, sources: TaskSources) -> frozenset[str]:
    """Names that others take from this module and attributes that they use, its bases in other files among them."""
    used = {node.attr for member in _families(operator, sources) if member.module != operator.module
            for method in member.node.body if getattr(method, "name", "") not in FORWARDS
            for node in ast.walk(method) if isinstance(node, ast.Attribute)}
    module = operator.module
    root = sources.tasks.baseline
    for path in python_files(root):
        other = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        place, source = sources.place(other), sources.source(other)
        if place is None or source is None or module not in sources.imports(other).inside:
            continue
        taken = [b for b in bindings(source.tree, other, place.is_package) if b.is_relative and b.origin == module]
        if taken:
            used.update(bound.member for bound in taken)
            used.update(node.attr for node in ast.walk(source.tree) if isinstance(node, ast.Attribute))
    return frozenset(used)


def _shapes(scenarios: Sequence[Scenario]) -> str:
    """The calls that a model makes, equal ones in one paragraph."""
    calls: dict[str, list[Scenario]] = {}
    for scenario in scenarios:
        init = ", ".join(f"{key}={_plain(value)}" for key, value in scenario.init.items())
        lines = [f"  {_input(spec)}" for spec in scenario.inputs]
        key = "\n".join([*_wrapped(f"  init: {init or 'nothing'}"), *lines])
        calls.setdefault(f"{_variant(scenario)}\0{key}", []).append(scenario)
    first = scenarios[0]
    title = f"What {first.model} ({first.model_id}) calls it with; inputs are those of one rank:"
    parts = [title]
    if first.level == LEVELS.index("L4") + 1:
        parts.append(AS_SERVED)
    for call, found in calls.items():
        variant, _, key = call.partition("\0")
        tps = ", ".join(str(tp) for tp in dict.fromkeys(s.tp for s in found))
        parts.append("\n".join([*_wrapped(f"{variant}: TP {tps}; tokens {_tokens(found)}"), key]))
    return "\n\n".join(parts)


def _variant(scenario: Scenario) -> str:
    return f"{scenario.op}, {scenario.variant}" if scenario.variant else scenario.op


def _tokens(scenarios: Sequence[Scenario]) -> str:
    phases: dict[str, dict[int, None]] = {}
    for scenario in scenarios:
        phases.setdefault(scenario.phase, {})[scenario.tokens] = None
    return "; ".join(f"{', '.join(map(str, tokens))} ({phase})" for phase, tokens in phases.items())


def _input(spec: InputSpec) -> str:
    if "of" in spec.args and not spec.dtype:
        return f"{spec.name}: {spec.values} of {spec.args['of']}"
    if not spec.dtype:
        return f"{spec.name}: {_plain(spec.args.get('value'))}"
    strides = f", strides [{', '.join(map(str, spec.strides))}]" if spec.strides else ""
    return f"{spec.name}: [{', '.join(map(str, spec.shape))}] {spec.dtype}{strides}, {spec.values}"


def _plain(value: object) -> str:
    """A value as the manifest has it, without quotes around words."""
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, dict | list) else repr(value)


def _wrapped(line: str) -> Iterator[str]:
    yield from textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
