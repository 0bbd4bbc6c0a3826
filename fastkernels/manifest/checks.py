"""What must hold between the values of a manifest: known names, possible shapes, arguments, unique addresses."""

import re
from collections.abc import Iterator, Mapping
from math import isfinite, prod
from typing import Any

from fastkernels.errors import did_you_mean, one_of
from fastkernels.manifest import context
from fastkernels.manifest.generators import GENERATORS, TENSOR_DTYPES
from fastkernels.manifest.scenario import RANK_PART, Dim, resolve_dim
from fastkernels.manifest.schema import SCHEMA_VERSION, EntryRow, InputRow, ManifestFile, OperatorRow, Problem

PHASES = ("decode", "prefill")
LEVELS = (1, 2, 3, 4)
SIZE_FORMS = "a number of at least 1 or an expression such as tokens, 4*tokens, tokens+1"
PLAIN = "a number, text, a truth value, null, or a list or mapping of these"
NO_NUMBER = "no number that a kernel can compute with; NaN and infinities are not allowed"

_USE = re.compile(r"^(?P<model>.+)-tp(?P<tp>\d+)$")
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
NAME_FORM = "a short name has lower-case letters, digits, '-' and '_' only"
_VARIANT = re.compile(r"^[a-z0-9_]*$")
_SIZE_KEY = re.compile(r"^num_|_size$|_dim$|_embeddings$|^top_k$")
MOST_NESTED = 8
"""Lists and mappings that a plain value may have within each other."""
REFERENCES = ("of", "beside", "correction")
"""Arguments of generators that name an earlier input."""
BOUNDARIES = ("cu_seqlens", "same_as")
"""Generators of what `longest` may be asked of."""
_NUMBER_TEXT = re.compile(r"^[+-]?\d+(\.\d*)?[eE][+-]?\d+$")


def problems(file: ManifestFile) -> Iterator[Problem]:
    """Yield everything that is wrong with a file whose keys and types are right."""
    if file.schema_version != SCHEMA_VERSION:
        yield "schema_version", f"{file.schema_version} is not {SCHEMA_VERSION}, the version that is read here"
    yield from _model_problems(file)
    addresses: dict[str, str] = {}
    for name, operator in file.operators.items():
        yield from _operator_problems(f"operators.{name}", name, operator)
        for index, entry in enumerate(operator.scenarios):
            path = f"operators.{name}.scenarios[{index}]"
            yield from _entry_problems(path, entry, file)
            yield from _duplicates(path, name, entry, addresses)


def split_use(use: str) -> tuple[str, int] | None:
    """Return (`llama31-8b`, 2) for `llama31-8b-tp2`, None for anything else."""
    match = _USE.match(use)
    return (match["model"], int(match["tp"])) if match else None


def _model_problems(file: ManifestFile) -> Iterator[Problem]:
    for name, model in file.models.items():
        if not MODEL_NAME.fullmatch(name):
            yield f"models.{name}", NAME_FORM
        for index, tp in enumerate(model.tp):
            if tp < 1 or tp in model.tp[:index]:
                yield f"models.{name}.tp[{index}]", f"{tp} is " + ("under 1" if tp < 1 else "given twice")


def _operator_problems(path: str, name: str, operator: OperatorRow) -> Iterator[Problem]:
    if not name.isidentifier():
        yield path, f"{name!r} is not a Python identifier"
    if operator.level not in LEVELS:
        yield f"{path}.level", one_of(operator.level, LEVELS)
    for key, text in (("module", operator.module), ("class", operator.class_name)):
        if text and not text.isidentifier():
            yield f"{path}.{key}", f"{text!r} is not a Python identifier"


def _entry_problems(path: str, entry: EntryRow, file: ManifestFile) -> Iterator[Problem]:
    for index, use in enumerate(entry.uses):
        yield from _use_problems(f"{path}.uses[{index}]", use, file)
    bad_tokens = [(index, count) for index, count in enumerate(entry.tokens) if count < 1]
    for index, count in bad_tokens:
        yield f"{path}.tokens[{index}]", f"{count} is not a token count of at least 1"
    if entry.phase and entry.phase not in PHASES:
        yield f"{path}.phase", one_of(entry.phase, PHASES)
    if not _VARIANT.match(entry.variant):
        yield f"{path}.variant", f"{entry.variant!r} is not lower-case letters, digits and '_' only"
    yield from _init_problems(f"{path}.init", entry.init)
    if entry.parameters < 0:
        yield f"{path}.parameters", f"{entry.parameters} is under 0"
    yield from _context_problems(f"{path}.context", entry)
    counts = [count for count in entry.tokens if count >= 1]
    earlier: dict[str, InputRow] = {}
    for name, spec in flattened(entry).items():
        section = "" if name.startswith(context.PREFIX) else "inputs."
        yield from _input_problems(f"{path}.{section}{name}", spec, counts, earlier)
        yield from _rank_problems(f"{path}.{section}{name}", spec, entry.uses)
        earlier[name] = spec


def flattened(entry: EntryRow) -> dict[str, InputRow]:
    """The context's values as `context.X`, then the inputs: the order in which they are drawn."""
    return {**{context.PREFIX + name: spec for name, spec in entry.context.items()}, **entry.inputs}


def _context_problems(path: str, entry: EntryRow) -> Iterator[Problem]:
    for name in entry.context:
        if name not in context.NAMES:
            yield f"{path}.{name}", f"context value {one_of(name, context.NAMES)}"
    if entry.context:
        yield from ((f"{path}.{name}", problem) for name, problem in context.problems(entry.context))
    for name in entry.inputs:
        if name.startswith(context.PREFIX):
            yield f"{path.removesuffix('context')}inputs.{name}", "values of the context stand in the section context"


def _use_problems(path: str, use: str, file: ManifestFile) -> Iterator[Problem]:
    parts = split_use(use)
    if parts is None:
        yield path, f"{use!r} is not of the form MODEL-tpN, such as llama31-8b-tp2"
        return
    name, tp = parts
    model = file.models.get(name)
    if model is None:
        yield path, f"model {one_of(name, file.models)}"
    elif tp not in model.tp:
        yield path, f"TP {one_of(tp, model.tp)}, the degrees of {name}"


def _init_problems(path: str, init: Mapping[str, Any]) -> Iterator[Problem]:
    for key, value in init.items():
        if key in ("dtype", "params_dtype") and value not in TENSOR_DTYPES:
            yield f"{path}.{key}", one_of(value, TENSOR_DTYPES)
        elif isinstance(value, str) and _NUMBER_TEXT.match(value):
            number = f"{float(value):.1e}"
            yield f"{path}.{key}", f"{value!r} is text in YAML 1.1; a number needs a point and a sign: {number}"
        elif isinstance(value, int) and not isinstance(value, bool) and value < 1 and _SIZE_KEY.search(key):
            yield f"{path}.{key}", f"{value} is not a size of at least 1"
        elif not _is_plain(value):
            yield f"{path}.{key}", f"{value!r} is not {PLAIN}"
        elif not _is_finite(value):
            yield f"{path}.{key}", f"{value!r} is or holds {NO_NUMBER}"


def _is_finite(value: object) -> bool:
    """False where a plain value is or holds a NaN or an infinity."""
    if isinstance(value, dict | list):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or isfinite(value)


def _is_plain(value: object, within: tuple[int, ...] = ()) -> bool:
    """Return whether JSON can hold a value; YAML also has dates, sets, keys of any type and loops."""
    if isinstance(value, dict | list):
        if id(value) in within or len(within) >= MOST_NESTED:
            return False
        if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
            return False
        items = value.values() if isinstance(value, dict) else value
        return all(_is_plain(item, (*within, id(value))) for item in items)
    return value is None or isinstance(value, bool | int | float | str)


def _input_problems(path: str, spec: InputRow, counts: list[int], earlier: Mapping[str, InputRow]) -> Iterator[Problem]:
    generator = GENERATORS.get(spec.values)
    if generator is None:
        yield f"{path}.values", one_of(spec.values, GENERATORS)
        return
    yield from _argument_problems(f"{path}.args", spec)
    if generator.from_context:
        yield from _batch_problems(path, spec, {name.removeprefix(context.PREFIX) for name in earlier})
    if not generator.tensor:
        for key in ("shape", "dtype", "strides"):
            if getattr(spec, key):
                yield f"{path}.{key}", f"{spec.values} makes no tensor and has none"
        yield from _reference_problems(path, spec, earlier)
        return
    if spec.dtype not in generator.dtypes:
        yield f"{path}.dtype", f"{one_of(spec.dtype, generator.dtypes)}" if spec.dtype else "missing"
    if not spec.shape:
        yield f"{path}.shape", "missing"
    sizes_right = True
    for index, dim in enumerate(spec.shape):
        problem = _size_problem(dim, counts)
        if problem:
            sizes_right = False
            yield f"{path}.shape[{index}]", problem
    if sizes_right and spec.shape:
        yield from _stride_problems(f"{path}.strides", spec, counts)
        yield from _fit_problems(path, spec, counts, earlier)


def _stride_problems(path: str, spec: InputRow, counts: list[int]) -> Iterator[Problem]:
    """Yield the first stride with which elements lie on each other; the last dimension's is 1."""
    if not spec.strides:
        return
    if len(spec.strides) != len(spec.shape):
        yield path, f"{spec.strides} are not the strides of {len(spec.shape)} dimensions"
        return
    if spec.strides[-1] != 1:
        yield f"{path}[{len(spec.strides) - 1}]", f"{spec.strides[-1]} is not 1: elements of a row lie together"
        return
    most = max(counts, default=1)
    for place in range(len(spec.shape) - 2, -1, -1):
        least = resolve_dim(spec.shape[place + 1], most) * spec.strides[place + 1]
        if spec.strides[place] < least:
            yield f"{path}[{place}]", f"{spec.strides[place]} is under {least}, the elements that lie within one step"
            return


def _rank_problems(path: str, spec: InputRow, uses: list[str]) -> Iterator[Problem]:
    """Yield the first use whose ranks are not those that share the sum."""
    ranks = spec.args.get("ranks")
    if spec.values == RANK_PART and ranks is not None:
        other = next((use for use in uses if (parts := split_use(use)) and parts[1] != ranks), None)
        if other:
            yield f"{path}.args.ranks", f"{ranks} is not the TP degree of {other}"


def _batch_problems(path: str, spec: InputRow, before: set[str]) -> Iterator[Problem]:
    """Yield what a generator that follows from the context's lengths misses before it."""
    groups = (("seqused_k", "block_table"), ("cu_seqlens_k", "cu_seqlens_q"))
    if not any(set(group) <= before for group in groups):
        yield f"{path}.values", (f"{spec.values} follows from seqused_k and block_table, or cu_seqlens_q and "
                                 "cu_seqlens_k, in the context before it")
    elif (spec.values == "batch_slots" and "pages" not in spec.args
          and "cu_seqlens_q" in before and "key_slots" not in before):
        yield f"{path}.args.pages", "missing; batch_slots needs it where the context has no key_slots before it"


def _argument_problems(path: str, spec: InputRow) -> Iterator[Problem]:
    generator = GENERATORS[spec.values]
    for name in generator.required:
        if name not in spec.args:
            yield f"{path}.{name}", f"missing; {spec.values} needs it"
    for name, value in spec.args.items():
        if name not in generator.arguments:
            known = ", ".join(generator.arguments)
            nearest = did_you_mean(name, generator.arguments)
            yield f"{path}.{name}", f"unknown argument; {spec.values} takes {known}{nearest}"
        elif name in ("std", "mean") and not _is_finite(value):
            yield f"{path}.{name}", f"{value!r} is {NO_NUMBER}"
        elif name == "std" and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            yield f"{path}.std", f"{value!r} is not a number over 0"
        elif name == "mean" and (isinstance(value, bool) or not isinstance(value, int | float)):
            yield f"{path}.mean", f"{value!r} is not a number"
        elif name in generator.sizes and (problem := _size_problem(value, [1])):
            yield f"{path}.{name}", problem
        elif not _is_plain(value):
            yield f"{path}.{name}", f"{value!r} is not {PLAIN}"
        elif not _is_finite(value):
            yield f"{path}.{name}", f"{value!r} is or holds {NO_NUMBER}"


def _size_problem(dim: object, counts: list[int]) -> str:
    if isinstance(dim, bool) or not isinstance(dim, int | str):
        return f"{dim!r} is not {SIZE_FORMS}"
    try:
        smallest = min((resolve_dim(dim, count) for count in counts or [1]), default=1)
    except ValueError:
        return f"{dim!r} is not {SIZE_FORMS}{did_you_mean(dim, ['tokens'])}"
    return "" if smallest >= 1 else f"{dim!r} is not {SIZE_FORMS}"


def _fit_problems(path: str, spec: InputRow, counts: list[int], earlier: Mapping[str, InputRow]) -> Iterator[Problem]:
    """Yield what the generator cannot do with this shape; sizes in `args` that are wrong themselves are left out."""
    yield from _reference_problems(path, spec, earlier)
    if spec.values == "cu_seqlens" and isinstance(spec.args.get("sequences"), int):
        sequences = spec.args["sequences"]
        if spec.shape != [sequences + 1]:
            yield f"{path}.shape", f"{spec.shape} is not [{sequences + 1}], the boundaries of {sequences} sequences"
    elif spec.values in ("slot_mapping", "block_table"):
        key = GENERATORS[spec.values].sizes[0]
        there: Dim = spec.args.get(key, 0)
        if _size_problem(there, [1]):
            return
        for count in counts:
            needed = prod(resolve_dim(dim, count) for dim in spec.shape)
            if resolve_dim(there, count) < needed:
                yield f"{path}.args.{key}", f"{there!r} is under the {needed} distinct values of {count} tokens"
                return


def _reference_problems(path: str, spec: InputRow, earlier: Mapping[str, InputRow]) -> Iterator[Problem]:
    """Yield arguments that name no earlier input, or one of another shape where it is copied."""
    for argument in REFERENCES:
        name = spec.args.get(argument)
        if name is None or argument not in GENERATORS[spec.values].arguments:
            continue
        other = earlier.get(name) if isinstance(name, str) else None
        if other is None:
            listed = ", ".join(earlier) or "none"
            yield f"{path}.args.{argument}", (f"{name!r} is no earlier input; those are {listed}"
                                              f"{did_you_mean(name, earlier)}")
        elif spec.values == "same_as" and (other.shape, other.dtype) != (spec.shape, spec.dtype):
            yield path, f"shape and dtype differ from those of {name}: {other.shape} {other.dtype}"
        elif spec.values == "longest" and other.values not in BOUNDARIES:
            yield f"{path}.args.of", f"{name} is {other.values}, not the boundaries of sequences ({BOUNDARIES[0]})"


def _duplicates(path: str, name: str, entry: EntryRow, addresses: dict[str, str]) -> Iterator[Problem]:
    for use in entry.uses:
        for count in entry.tokens:
            address = f"{name}[{use}-s{count}{'-' + entry.variant if entry.variant else ''}]"
            first = addresses.setdefault(address, path)
            if first != path:
                yield path, f"{address} is in {first} already"
                return
    if len(set(entry.uses)) < len(entry.uses) or len(set(entry.tokens)) < len(entry.tokens):
        key = "uses" if len(set(entry.uses)) < len(entry.uses) else "tokens"
        values = getattr(entry, key)
        twice = next(value for index, value in enumerate(values) if value in values[:index])
        yield f"{path}.{key}", f"{twice!r} is given twice"
