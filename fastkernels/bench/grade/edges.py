"""The batch of an edge draw: lengths, pages, slots and chunks that few batches have and any server can send.

Sequences that decode have 0 tokens, 1, less than a page, whole pages and, in a window, more than it; entries of the
page table past the last page or before the window hold any page of the cache, as stale ones do, and never one that it
has not: honest kernels gather whole rows and mask afterwards. Prompts come in several chunks, each with a length
and cached tokens of its own. Stores get padding. The caches are as small as that allows; their first and last page are
nobody's, so that what goes there by mistake is seen.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from fastkernels.manifest.context import PREFIX
from fastkernels.manifest.scenario import InputSpec, Scenario

EDGES = "edges"
"""Kind of the draw."""

FAR = "far"
"""The same in a cache past 2^31 elements (`fastkernels.bench.isolate.far`)."""

FIXED = "fixed"
"""Generator of inputs whose values are worked out here."""

PAGES_A_SEQUENCE = 12
"""A sequence has at most so many pages, but for those that fill a window."""

CHUNKS = 4
"""Prompts in the batch, where there are tokens for as many."""

DECODES = 6
"""Sequences that decode beside prompts: padding, one token, less than a page, whole pages, more than a window, any."""

SPARE = 4
"""Pages that are nobody's, the first and the last among them."""


def has_edges(scenario: Scenario) -> bool:
    """Whether this is attention over a cache or packed prompts, or a write into a cache."""
    names = {spec.name.removeprefix(PREFIX): spec.values for spec in scenario.inputs}
    caches = any(name.endswith("_cache") for name in names)
    decodes = {"seqused_k", "block_table"} <= set(names.values())
    packed = names.get("cu_seqlens_q") == "cu_seqlens" and {"key", "value", "cu_seqlens_k"} <= set(names)
    stores = names.get("slot_mapping") in ("slot_mapping", "batch_slots")
    return (caches and (decodes or stores)) or packed


def can_be_far(scenario: Scenario) -> bool:
    """Whether it has edges and a cache that may be large."""
    return scenario.level <= 2 and has_edges(scenario) and any(spec.name.endswith("_cache") for spec in scenario.inputs)


def edge_tokens(scenario: Scenario, rng: random.Random) -> int:
    """A secret odd count: one sequence for each length at least, tokens for several chunks where there are prompts."""
    prompts = any(spec.name.removeprefix(PREFIX) == "cu_seqlens_q" for spec in scenario.inputs)
    return rng.randrange(33, 64, 2) if prompts else rng.randrange(7, 16, 2)


def window_of(scenario: Scenario, module: nn.Module | None) -> int:
    """Keys of the sliding window, by the module's parts, else by the init arguments; 0 without one."""
    parts = () if module is None else module.modules()
    found = [getattr(part, "sliding_window", None) for part in parts] or [scenario.init.get("sliding_window")]
    return max((window for window in found if isinstance(window, int)), default=0)


def edge_scenario(scenario: Scenario, kind: str, seed: int, module: nn.Module | None) -> Scenario:
    """The scenario with the inputs of such a batch at its token count, the same for the same kind and seed."""
    rng = random.Random(f"{seed}:{kind}")
    specs = {spec.name: spec for spec in scenario.inputs}
    if PREFIX + "slot_mapping" in specs:
        return replace(scenario, inputs=tuple(_block(scenario, specs, rng, window_of(scenario, module)).values()))
    if "seqused_k" in specs:
        specs |= _decodes(scenario, specs, rng, window_of(scenario, module))
    elif "cu_seqlens_q" in specs:
        specs |= _prompts(scenario, specs, rng)
    else:
        specs |= _store(scenario, specs, rng)
    return replace(scenario, inputs=tuple(specs.values()))


def _decodes(
    scenario: Scenario, specs: Mapping[str, InputSpec], rng: random.Random, window: int
) -> dict[str, InputSpec]:
    count, width = scenario.resolved_shape(specs["block_table"])
    page_size = _page_size(specs)
    lengths = _lengths(rng, count, int(scenario.resolved_args(specs["seqused_k"])["max"]), page_size, window)
    pages = _Pages(rng, [_span(length, page_size, window) for length in lengths])
    return {**_fixed(specs["seqused_k"], lengths), **_fixed(specs["block_table"], pages.table(width)),
            **_caches(specs, pages.total)}  # fmt: skip


def _prompts(scenario: Scenario, specs: Mapping[str, InputSpec], rng: random.Random) -> dict[str, InputSpec]:
    new, keys = _chunks(rng, scenario.resolved_shape(specs["query"])[0], 16, 2**20)
    found = {**_fixed(specs["cu_seqlens_q"], _ends(new)), **_fixed(specs["cu_seqlens_k"], _ends(keys))}
    for name in ("key", "value"):
        found[name] = replace(specs[name], shape=(sum(keys), *specs[name].shape[1:]))
    for name, longest in (("max_seqlen_q", max(new)), ("max_seqlen_k", max(keys))):
        if name in specs:
            found |= _literal(name, longest)
    return found


def _store(scenario: Scenario, specs: Mapping[str, InputSpec], rng: random.Random) -> dict[str, InputSpec]:
    count, page_size = scenario.resolved_shape(specs["slot_mapping"])[0], _page_size(specs)
    total = -(-count // page_size) + PAGES_A_SEQUENCE
    slots = rng.sample(range(page_size, (total - 1) * page_size), count)
    for token in rng.sample(range(count), max(1, count // 4)):
        slots[token] = -1
    return {**_fixed(specs["slot_mapping"], slots), **_caches(specs, total)}


def _block(
    scenario: Scenario, specs: dict[str, InputSpec], rng: random.Random, window: int
) -> dict[str, InputSpec]:  # fmt: skip
    """All that the context holds: sequences that decode, and chunks of prompts behind them where it has any prompt."""
    own = {name.removeprefix(PREFIX): spec for name, spec in specs.items() if name.startswith(PREFIX)}
    rows, page_size = scenario.resolved_shape(own["slot_mapping"])[0], _page_size(own)
    prompts = "cu_seqlens_q" in own
    count = max(1, min(DECODES, rows - 3 * CHUNKS)) if prompts else rows
    most = _positions(scenario)
    if "seqused_k" in own:
        most = min(most, int(scenario.resolved_args(own["seqused_k"])["max"]))
    lengths = _lengths(rng, count, most, page_size, window)
    new, keys = _chunks(rng, rows - count, page_size, most) if prompts else ([], [])
    spans = [_span(length, page_size, window) for length in lengths]
    pages = _Pages(rng, [*spans, *((0, -(-length // page_size)) for length in keys)])
    width = max(max(end for _, end in spans), 1) + 2
    longest = page_size * width
    if "block_table" in own:
        width = scenario.resolved_shape(own["block_table"])[1]
        longest = scenario.resolved_args(own["max_seqlen_k"])["value"]
    slots = [pages.slot(i, length - 1, page_size) if length else -1 for i, length in enumerate(lengths)]
    known = [[pages.slot(count + i, at, page_size) for at in range(length)] for i, length in enumerate(keys)]
    slots += [slot for chunk, row in zip(new, known, strict=True) for slot in row[len(row) - chunk:]]
    found = {
        "block_table": _tensor("block_table", "int32", pages.table(width)[:count]),
        "seqused_k": _tensor("seqused_k", "int32", lengths),
        **_literal("num_decodes", count), **_literal("max_seqlen_k", longest),
    }
    if prompts:
        found |= {"cu_seqlens_q": _tensor("cu_seqlens_q", "int32", _ends(new)),
                  "cu_seqlens_k": _tensor("cu_seqlens_k", "int32", _ends(keys)),
                  **_literal("max_seqlen_q", max(new)), **_literal("prefill_max_seqlen_k", max(keys)),
                  "key_slots": _tensor("key_slots", "int64", [slot for row in known for slot in row])}
    found |= {"slot_mapping": _tensor("slot_mapping", "int64", slots), **_caches(own, pages.total)}
    context = {PREFIX + name: replace(spec, name=PREFIX + name) for name, spec in found.items()}
    return {**context, **{name: spec for name, spec in specs.items() if not name.startswith(PREFIX)}}


class _Pages:
    """Different pages for the sequences of a batch, of which each fills those from the first to the end of its span."""

    def __init__(self, rng: random.Random, spans: Sequence[tuple[int, int]]) -> None:
        needed = sum(end - first for first, end in spans)
        self.total = needed + SPARE
        order = rng.sample(range(1, self.total - 1), needed)
        self._rng, self._used = rng, order
        self._of: list[dict[int, int]] = []
        for first, end in spans:
            self._of.append(dict(zip(range(first, end), order, strict=False)))
            order = order[end - first:]

    def slot(self, sequence: int, at: int, page_size: int) -> int:
        """Where a sequence's token lies."""
        return self._of[sequence][at // page_size] * page_size + at % page_size

    def table(self, width: int) -> list[list[int]]:
        """The page table of all sequences; entries that must not be followed hold pages of others and of nobody."""
        others = [0, self.total - 1, *self._rng.choices(self._used or [0], k=3)]
        return [[pages.get(place, self._rng.choice(others)) for place in range(width)] for pages in self._of]


def _lengths(rng: random.Random, count: int, most: int, page_size: int, window: int) -> list[int]:
    """Lengths of sequences in any order; those that must be there come first where there are few."""
    longest = min(most, PAGES_A_SEQUENCE * page_size)
    wanted = [0, 1, rng.randint(1, max(1, page_size - 1)), page_size * rng.randint(1, max(1, longest // page_size))]
    if window:
        wanted.append(window + rng.randint(1, 3 * page_size))
    while len(wanted) < count:
        wanted.append(rng.randint(1, longest))
    lengths = [min(length, most) for length in wanted[:count]]
    rng.shuffle(lengths)
    return lengths


def _span(length: int, page_size: int, window: int) -> tuple[int, int]:
    """(first page that counts, end of pages) of a sequence of this length."""
    return (max(0, length - window) // page_size if window else 0), -(-length // page_size)


def _chunks(rng: random.Random, tokens: int, page_size: int, most: int) -> tuple[list[int], list[int]]:
    """New tokens and keys of each prompt: no two have as many of either, and one has no cached tokens.

    One brings a single token, and the keys of one fill whole pages.
    """
    count = max(1, min(CHUNKS, tokens // 4))
    new = [1, *_different(rng, tokens - 1, count - 1)] if count > 1 else [tokens]
    room = max(0, min(most, 2**20) - max(new))
    cached = rng.sample(range(1, max(count + 1, min(6 * page_size, room))), count - 1) if room > count else []
    cached = [*cached, *[0] * (count - len(cached))]
    rng.shuffle(new)
    order = rng.sample(range(count), count)
    cached = [cached[place] for place in order]
    whole = next((i for i, extra in enumerate(cached) if extra), None)
    if whole is not None:
        extra = cached[whole] + -(new[whole] + cached[whole]) % page_size
        while extra in cached[:whole] + cached[whole + 1:]:
            extra += page_size
        cached[whole] = min(extra, room)
    return new, [a + b for a, b in zip(new, cached, strict=True)]


def _different(rng: random.Random, total: int, parts: int) -> list[int]:
    """Different numbers over 1 that sum to `total`; as different as can be where that is small."""
    least = list(range(2, parts + 2))
    rest = total - sum(least)
    if rest < 0:
        return [total // parts + (i < total % parts) for i in range(parts)]
    steps = sorted(rng.randint(0, rest) for _ in range(parts - 1))
    shares = sorted(b - a for a, b in zip([0, *steps], [*steps, rest], strict=True))
    return [a + b for a, b in zip(least, shares, strict=True)]


def _positions(scenario: Scenario) -> int:
    """The longest context that the model has positions for, where its init arguments say so."""
    config = scenario.init.get("config")
    values = {**(config if isinstance(config, Mapping) else {}), **scenario.init}
    found = [value for key, value in values.items() if key.startswith("max_position") and isinstance(value, int)]
    return min(found, default=2**20)


def _page_size(specs: Mapping[str, InputSpec]) -> int:
    return next(int(spec.shape[1]) for name, spec in specs.items() if name.endswith("_cache"))


def _caches(specs: Mapping[str, InputSpec], pages: int) -> dict[str, InputSpec]:
    return {name: replace(spec, shape=(pages, *spec.shape[1:]))
            for name, spec in specs.items() if name.endswith("_cache")}  # fmt: skip


def _ends(lengths: Sequence[int]) -> list[int]:
    return [sum(lengths[:i]) for i in range(len(lengths) + 1)]


def _fixed(spec: InputSpec, data: list[Any]) -> dict[str, InputSpec]:
    return {spec.name: _tensor(spec.name, spec.dtype, data)}


def _tensor(name: str, dtype: str, data: list[Any]) -> InputSpec:
    shape = (len(data), len(data[0])) if data and isinstance(data[0], list) else (len(data),)
    return InputSpec(name, FIXED, shape, dtype, {"data": data})


def _literal(name: str, value: int) -> dict[str, InputSpec]:
    return {name: InputSpec(name, "literal", args={"value": value})}
