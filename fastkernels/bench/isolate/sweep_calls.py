"""Calls of a sweep: how inputs are cut into parts for each, and joined for one call that does the work of all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch

from fastkernels.bench.grade.draws import ATTENTION_VALUES
from fastkernels.manifest import InputSpec, Scenario


@dataclass(frozen=True)
class Call:
    """One call of a sweep."""

    count: int
    """Tokens."""
    inputs: dict[str, Any]
    """Its arguments; those that all calls share are the same tensors."""
    rows: torch.Tensor | None = None
    """int64 [count]: the base rows that it is made of; None where its rows are its own."""


@dataclass
class Plan:
    """A sweep before anything of it has run."""

    calls: list[Call] = field(default_factory=list)
    """In order; with base rows the first call has all of them, once each."""
    cut: dict[str, int] = field(default_factory=dict)
    """Inputs that have a part for each call, with their rows a token; all others are shared or plain numbers. Empty
    where calls have nothing to do with each other."""
    why_not: str = ""
    """Why there are no calls; empty where there are."""

    @property
    def counts(self) -> list[int]:
        """Token counts in order."""
        return [call.count for call in self.calls]


class NotByRowsError(Exception):
    """The baseline does not treat each token by itself."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute in one thread of a CPU: small calls take less of it, and a busy machine lengthens none."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rows_a_token(scenario: Scenario) -> dict[str, int]:
    """Inputs whose first dimension is a multiple of the token count, with that multiple.

    NotByRowsError where another one depends on the count in any way but a cache, which has pages for each token, or
    where the inputs hold sequences of several tokens.
    """
    found: dict[str, int] = {}
    one, two = scenario.with_tokens(1), scenario.with_tokens(2)
    for spec in scenario.inputs:
        if spec.values in ATTENTION_VALUES and spec.values != "seqused_k":
            raise NotByRowsError
        small, large = one.resolved_shape(spec), two.resolved_shape(spec)
        if spec.dtype and small != large and not spec.name.endswith("_cache"):
            if large[0] != 2 * small[0] or small[1:] != large[1:]:
                raise NotByRowsError
            found[spec.name] = small[0]
    if not found:
        raise NotByRowsError
    return found


def taken(tensor: torch.Tensor, rows: torch.Tensor, width: int) -> torch.Tensor:
    """The rows of these tokens, `width` for each, in memory of their own."""
    return tensor.view(-1, width, *tensor.shape[1:])[rows].flatten(0, 1)


def joined_inputs(scenario: Scenario, calls: list[Call], cut: Mapping[str, int]) -> dict[str, Any]:
    """The inputs of a single call that does the work of all of these."""
    joined = {name: torch.cat([call.inputs[name] for call in calls]) if name in cut else value
              for name, value in calls[0].inputs.items()}
    return {**joined, **numbers_of(scenario, sum(call.count for call in calls))}


def numbers_of(scenario: Scenario, count: int) -> dict[str, Any]:
    """The inputs that are no tensors, at this count."""
    scenario = scenario.with_tokens(count)
    return {spec.name: scenario.resolved_args(spec)["value"] for spec in scenario.inputs if spec.values == "literal"}


def put_leaves(tree: Any, leaves: Iterator[torch.Tensor]) -> Any:
    """The same tree with other tensors."""
    if isinstance(tree, tuple | list):
        return type(tree)(put_leaves(item, leaves) for item in tree)
    if isinstance(tree, dict):
        return {key: put_leaves(item, leaves) for key, item in tree.items()}
    return next(leaves) if isinstance(tree, torch.Tensor) else tree


def batch_of(spec: InputSpec, sequences: int, of: set[str]) -> InputSpec:
    """The input with this number of sequences where it holds their boundaries."""
    if spec.name in of:
        return replace(spec, shape=(sequences + 1,), args={**spec.args, "sequences": sequences})
    return replace(spec, shape=(sequences + 1,)) if spec.args.get("of") in of else spec


def input_bytes(scenario: Scenario) -> int:
    """Bytes of one set of inputs."""
    return sum(prod(scenario.resolved_shape(spec)) * getattr(torch, spec.dtype).itemsize
               for spec in scenario.inputs if spec.dtype)
