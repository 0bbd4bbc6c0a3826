"""The form of a manifest file: keys and types; what the values mean together is checked in `checks`."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from fastkernels.errors import did_you_mean

SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or goes."""

Problem = tuple[str, str]
"""(key path such as `operators.rms_norm.scenarios[3].tokens[0]`, what is wrong and what is allowed)."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class InputRow(_Row):
    """One argument of `forward`."""

    shape: list[StrictInt | StrictStr] = []
    """Dimensions: numbers, or expressions in `tokens`; none for a literal."""
    dtype: StrictStr = ""
    """torch dtype name; none for a literal."""
    strides: list[StrictInt] = []
    """Elements between neighbours in each dimension, of a slice of a wider tensor; none where rows lie together."""
    values: StrictStr
    """Name of the generator that draws the values."""
    args: dict[StrictStr, Any] = Field(default_factory=dict)
    """The generator's arguments."""


class EntryRow(_Row):
    """One group of scenarios with equal shapes."""

    uses: list[StrictStr] = Field(min_length=1)
    """Models and TP degrees with these shapes: `llama31-8b-tp2`."""
    tokens: list[StrictInt] = Field(min_length=1)
    """Token counts; one scenario each."""
    phase: StrictStr = ""
    """`decode` or `prefill`; by default decode up to 128 tokens, else prefill."""
    variant: StrictStr = ""
    """Which use of the operator in the model this is; left out for its only one."""
    parameters: StrictInt = 0
    """Weights of the module at TP 1, for estimates of memory; left out where init tells (level 1)."""
    golden: StrictStr = ""
    """Name of the record of golden data that this entry is also graded on; left out for none."""
    init: dict[StrictStr, Any]
    """Keyword arguments of the class."""
    context: dict[StrictStr, InputRow] = Field(default_factory=dict)
    """What the forward context holds, by name (fastkernels.manifest.context); drawn before the inputs."""
    inputs: dict[StrictStr, InputRow] = Field(min_length=1)
    """Arguments of `forward` by name."""


class OperatorRow(_Row):
    """One operator."""

    level: StrictInt
    """1 kernel, 2 block, 3 decoder layer, 4 model."""
    module: StrictStr = ""
    """File stem below `tasks/baseline/L{level}/`; the operator's name where left out."""
    class_name: StrictStr = Field(alias="class", min_length=1)
    """Class in that file."""
    scenarios: list[EntryRow] = Field(min_length=1)
    """Its entries."""


class ModelRow(_Row):
    """One model."""

    id: StrictStr = Field(min_length=1)
    """Hugging Face id."""
    tp: list[StrictInt] = Field(min_length=1)
    """TP degrees that its dimensions allow."""


class GoldenRow(_Row):
    """Where the golden data of the entries is."""

    index: StrictStr = Field(min_length=1)
    """The JSON index, relative to the manifest."""
    sha256: StrictStr
    """SHA-256 of the index."""


class ManifestFile(_Row):
    """A whole manifest."""

    schema_version: StrictInt
    """Version of this form."""
    category: StrictStr = Field(min_length=1)
    """Category of every scenario, such as `llm`."""
    models: dict[StrictStr, ModelRow] = Field(min_length=1)
    """Models by short name."""
    golden: GoldenRow | None = None
    """Golden data; left out where no entry has any."""
    configs: dict[StrictStr, Any] = {}
    """Model configs that the `init` of entries refers to by YAML alias; nothing reads them here."""
    contexts: dict[StrictStr, Any] = {}
    """The same for the `context` of entries."""
    operators: dict[StrictStr, OperatorRow] = Field(min_length=1)
    """Operators by name."""


def parse(data: object) -> ManifestFile | list[Problem]:
    """Return the typed file, or what is wrong with its keys and types."""
    try:
        return ManifestFile.model_validate(data)
    except ValidationError as error:
        return list(_problems(error))


def key_path(parts: Sequence[int | str]) -> str:
    """Return `operators.rms_norm.scenarios[3]` for its parts."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


_EXPECTED = {
    "int_type": "a whole number",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_ROWS_BY_DEPTH: dict[int, type[_Row]] = {0: ManifestFile, 1: GoldenRow, 4: EntryRow, 6: InputRow}
"""Row type by the length of its key path; at length 2 it is a model's or an operator's."""


def _row_at(parts: Sequence[int | str]) -> type[_Row]:
    if len(parts) == 2:
        return ModelRow if parts[0] == "models" else OperatorRow
    return _ROWS_BY_DEPTH[len(parts)]


def _keys(row: type[_Row]) -> list[str]:
    return [info.alias or name for name, info in row.model_fields.items()]


def _problems(error: ValidationError) -> Iterator[Problem]:
    seen: set[str] = set()
    for detail in error.errors(include_url=False, include_context=True):
        # a dimension may be a number or text: pydantic reports both readings, below the dimension's own path
        parts = [part for part in detail["loc"] if part not in ("[key]", "int", "str")]
        path = key_path(parts)
        if path not in seen:
            seen.add(path)
            yield path, _problem(detail["type"], detail["input"], parts)


def _problem(kind: str, found: object, parts: Sequence[int | str]) -> str:
    if kind == "missing":
        return "missing"
    if kind == "extra_forbidden":
        keys = _keys(_row_at(parts[:-1]))
        return f"unknown key; allowed are {', '.join(keys)}{did_you_mean(parts[-1], keys)}"
    if kind in ("too_short", "string_too_short"):
        return f"{found!r} is empty; at least one is needed" if kind == "too_short" else "is empty"
    if len(parts) > 1 and parts[-2] == "shape":
        return f"{found!r} is not a number or an expression in tokens"
    return f"{found!r} is not {_EXPECTED.get(kind, kind)}"
