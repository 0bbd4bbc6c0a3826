"""One scenario: an operator, its init arguments and the inputs of one call, as a model at one TP degree makes it."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any

Dim = int | str
"""A dimension: a number, or an expression in the scenario's token count: `tokens`, `4*tokens`, `tokens+1`."""

RANK_PART = "rank_part"
"""Generator of inputs that each rank has a part of its own of; they make a scenario one of several ranks."""

_EXPRESSION = re.compile(r"^(?:(?P<factor>\d+)\*)?tokens(?:\+(?P<offset>\d+))?$")


@lru_cache(maxsize=1 << 16)
def resolve_dim(dim: Dim, tokens: int) -> int:
    """Return the number of elements that `dim` stands for at this token count; ValueError for anything else."""
    if isinstance(dim, int):
        return dim
    match = _EXPRESSION.match(dim)
    if not match:
        raise ValueError(f"{dim!r} is neither a number nor of the form 'tokens', '4*tokens', 'tokens+1'")
    return int(match["factor"] or 1) * tokens + int(match["offset"] or 0)


@dataclass(frozen=True)
class InputSpec:
    """One argument of `forward`."""

    name: str
    """Parameter name of `forward`, which is passed by name; `context.X` for what the forward context holds."""
    values: str
    """Name of the generator that draws it (`normal`, `positions`, `block_table`, `literal`, ...)."""
    shape: tuple[Dim, ...] = ()
    """Dimensions of the tensor; empty for a literal."""
    dtype: str = ""
    """torch dtype name (`bfloat16`, `int32`, ...); empty for a literal."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the generator; numbers may be expressions in `tokens`."""
    strides: tuple[int, ...] = ()
    """Elements between neighbours in each dimension, as the model passes a slice; empty: rows lie together."""


@dataclass(frozen=True)
class Scenario:
    """One operator x model x TP degree x token count, ready to grade."""

    op: str
    """Operator name: the manifest key."""
    module: str
    """File stem of the operator below `tasks/baseline/L{level}/` (mostly equal to `op`)."""
    class_name: str
    """Class in that file."""
    level: int
    """1 kernel, 2 block, 3 decoder layer, 4 model."""
    category: str
    """Category of the manifest, such as `llm`."""
    model: str
    """Short model name used in addresses, such as `llama31-8b`."""
    model_id: str
    """Hugging Face id, such as `meta-llama/Llama-3.1-8B-Instruct`."""
    tp: int
    """Tensor parallel degree whose per-rank shapes these are."""
    tokens: int
    """Tokens in the call: batch size in decode, prompt length in prefill."""
    phase: str
    """`decode` or `prefill`."""
    variant: str
    """Which use of the operator in the model (`qkv_proj`, `residual`, ...); empty for its only one."""
    init: Mapping[str, Any]
    """Keyword arguments of the class; `dtype` values are torch dtype names."""
    inputs: tuple[InputSpec, ...]
    """What the forward context holds, then the arguments of `forward`, in order of drawing."""
    parameters: int = 0
    """Weights of the module at TP 1, for estimates of memory; 0 where `init` tells (level 1)."""
    golden: Mapping[str, Any] | None = None
    """A recorded call that is drawn too (fastkernels.manifest.golden.attached); None for none."""

    @cached_property
    def id(self) -> str:
        """The address: `rms_norm[llama31-8b-tp1-s512]`, with `-variant` appended where there are several."""
        return f"{self.op}[{self.use}]"

    @cached_property
    def use(self) -> str:
        """The bracketed part of the address."""
        variant = f"-{self.variant}" if self.variant else ""
        return f"{self.model}-tp{self.tp}-s{self.tokens}{variant}"

    @property
    def rank(self) -> int:
        """The rank whose share is graded: 1, which has one before it and mostly others behind it; at TP 1 rank 0."""
        return min(1, self.tp - 1)

    @cached_property
    def ranks(self) -> int:
        """Ranks that it is graded on at once: those of its TP degree where they exchange something, else 1."""
        return next((int(spec.args["ranks"]) for spec in self.inputs if spec.values == RANK_PART), 1)

    @property
    def relative_module(self) -> str:
        """Module path below the task root: `L1.rms_norm`."""
        return f"L{self.level}.{self.module}"

    @cached_property
    def shape_key(self) -> str:
        """Equal for scenarios that are the same computation: those are graded once and reported for all."""
        inputs = [[i.name, i.values, [resolve_dim(d, self.tokens) for d in i.shape], i.dtype, self.resolved_args(i),
                   *([list(i.strides)] if i.strides else [])] for i in self.inputs]
        whole = [self.level, self.module, self.class_name, self.phase, dict(self.init), inputs]
        if self.level > 1:  # blocks take unsharded sizes and divide them themselves
            whole.append(self.tp)
        if self.golden is not None:
            whole.append({key: value for key, value in self.golden.items() if key != "file"})
        text = json.dumps(whole, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def resolved_args(self, spec: InputSpec) -> dict[str, Any]:
        """The generator arguments of one input with every expression in `tokens` replaced by its number."""
        return {key: resolve_dim(value, self.tokens) if isinstance(value, str) and _EXPRESSION.match(value) else value
                for key, value in spec.args.items()}

    def resolved_shape(self, spec: InputSpec) -> tuple[int, ...]:
        """The shape of one input in elements."""
        return tuple(resolve_dim(dim, self.tokens) for dim in spec.shape)

    def extent(self, spec: InputSpec) -> int:
        """Elements from the first to behind the last of one input, gaps between its rows among them."""
        shape = self.resolved_shape(spec)
        if not spec.strides:
            return prod(shape)
        return sum((size - 1) * stride for size, stride in zip(shape, spec.strides, strict=True)) + 1

    def with_tokens(self, tokens: int) -> "Scenario":
        """The same use at another token count: a shape near the listed one."""
        return replace(self, tokens=tokens)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that crosses to a worker process; `from_dict` reads it back."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("init", "inputs")}
        data["init"] = dict(self.init)
        data["inputs"] = [{"name": i.name, "values": i.values, "shape": list(i.shape), "dtype": i.dtype,
                           "args": dict(i.args), "strides": list(i.strides)} for i in self.inputs]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Scenario":
        """Build a scenario from `to_dict`'s data."""
        inputs = tuple(InputSpec(name=i["name"], values=i["values"], shape=tuple(i["shape"]), dtype=i["dtype"],
                                 args=i["args"], strides=tuple(i["strides"])) for i in data["inputs"])
        return cls(**{**data, "inputs": inputs})


@dataclass(frozen=True)
class Selection:
    """What to grade; an empty field means no restriction."""

    targets: tuple[str, ...] = ()
    """Operator names."""
    levels: tuple[int, ...] = ()
    """Levels 1 to 4."""
    models: tuple[str, ...] = ()
    """Prefixes of short model names or Hugging Face ids, upper and lower case alike."""
    tps: tuple[int, ...] = ()
    """Tensor parallel degrees."""
    seqlens: tuple[int, ...] = ()
    """Token counts."""
    categories: tuple[str, ...] = ()
    """Manifest categories."""
