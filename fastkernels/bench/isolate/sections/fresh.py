"""Fresh secret inputs for every set of a room, in each round: an answer kept from another call is wrong."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fastkernels.bench.isolate.sections.room import Room
from fastkernels.manifest import Scenario
from fastkernels.manifest.context import PREFIX

MASTERS = 8
"""Batches that are drawn where calls are no rows of one draw; the sets' floats differ besides."""

NOISE = 0.25
"""Floats of those sets are multiplied by 1 - NOISE to 1 + NOISE, drawn anew for each element and round."""

_ROWS = ("normal", "token_ids", "router_logits", "routed", "routing_weights", "positions", "literal")
"""Values of which each row stands alone, so that one draw of many tokens is many calls of few."""

_PRESCRIBED = ("routed", "router_logits")
"""Values that must stay as drawn: what an expert is chosen by."""

Draw = Callable[[int], Mapping[str, Any]]
"""Inputs at this many tokens, drawn anew."""


def is_rows(scenario: Scenario) -> bool:
    """Whether every tensor has a row for each token and rows say nothing of each other."""
    return all(spec.values in _ROWS and not spec.name.startswith(PREFIX) and _has_row_a_token(scenario, spec)
               for spec in scenario.inputs)


def prescribes(scenario: Scenario) -> bool:
    """Whether an input makes an expert be chosen, which other values would not."""
    return any(spec.values in _PRESCRIBED for spec in scenario.inputs)


def stays_as_drawn(scenario: Scenario) -> bool:
    """Whether sets cannot be made from others: inputs that prescribe something, or no floats to change."""
    return prescribes(scenario) or not any("float" in spec.dtype for spec in scenario.inputs if spec.dtype)


class FreshInputs:
    """Fills the rooms of both sides with the same values, round by round."""

    def __init__(self, scenario: Scenario, draw: Draw, rooms: Sequence[Room], written: Sequence[str]) -> None:
        """written: inputs that calls change, or that link them: a copy is kept of these."""
        self._scenario, self._draw, self._rooms = scenario, draw, rooms
        self._layout = rooms[0].layout
        self.narrow = self._layout.narrow
        self._rows = is_rows(scenario)
        self._masters: list[Mapping[str, Any]] = []
        self._written, self._kept = tuple(written), dict[str, torch.Tensor]()

    def renew(self) -> None:
        """Draw all sets anew into the first room."""
        if self._rows:
            self._as_rows()
        else:
            self._as_sets()
        for slot in self._layout.inputs:
            if slot.name in self._written:
                self._kept[slot.name] = self._rooms[0].stack(slot.name).clone()

    def hand_over(self) -> None:
        """Copy what was drawn into the second room."""
        for slot in self._layout.inputs:
            drawn = self._kept.get(slot.name)
            self._rooms[1].stack(slot.name).copy_(self._rooms[0].stack(slot.name) if drawn is None else drawn)

    def restore(self, room: Room) -> None:
        """Give a room back what its calls have written over."""
        for name, kept in self._kept.items():
            room.stack(name).copy_(kept)

    def before(self, number: int) -> dict[str, Any]:
        """Inputs of one call as they were before it, in memory of their own."""
        found = self._rooms[0].set_of(number)
        return {name: self._kept[name][number].clone() if name in self._kept
                else value.clone(memory_format=torch.preserve_format) if isinstance(value, torch.Tensor) else value
                for name, value in found.items()}

    def _as_rows(self) -> None:
        sets, tokens = self._layout.sets, self._scenario.tokens
        drawn = self._draw(sets * tokens)
        for slot in self._layout.inputs:
            self._rooms[0].stack(slot.name).copy_(drawn[slot.name].unflatten(0, (sets, tokens)))

    def _as_sets(self) -> None:
        redraw = stays_as_drawn(self._scenario)
        count = self._layout.sets if redraw else min(MASTERS, self._layout.sets)
        if redraw or not self._masters:
            self._masters = [self._draw(self._scenario.tokens) for _ in range(count)]
        for slot in self._layout.inputs:
            stack = self._rooms[0].stack(slot.name)
            for place, master in enumerate(self._masters):
                stack[place::count].copy_(master[slot.name])
            if not redraw and stack.is_floating_point():
                generator = torch.Generator(stack.device).manual_seed(secrets.randbits(63))
                stack.mul_(torch.empty(stack.shape, dtype=stack.dtype, device=stack.device).uniform_(
                    1 - NOISE, 1 + NOISE, generator=generator))


def _has_row_a_token(scenario: Scenario, spec: Any) -> bool:
    if not spec.dtype:
        return True
    once, twice = (tuple(scenario.with_tokens(count).resolved_shape(spec))
                   for count in (scenario.tokens, 2 * scenario.tokens))
    return bool(once) and once[0] == scenario.tokens and twice == (2 * once[0], *once[1:])
