"""Lays out a sweep: many small calls at different token counts, as many as their measured cost allows.

Where the baseline treats each token by itself, all calls are made of the same few rows, and the candidate need only be
judged on those: whatever row a call has, its outputs have the bits that they had before, or are judged again. Where it
writes into memory that all calls share, rows are different ones. All others get a draw of their own.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fastkernels.bench.grade import CallOutcome, Draw, Judge, make_inputs
from fastkernels.bench.grade.effects import copies
from fastkernels.bench.grade.tree import tensors
from fastkernels.bench.isolate.bits import same_bits
from fastkernels.bench.isolate.sweep_calls import (
    Call,
    NotByRowsError,
    Plan,
    batch_of,
    input_bytes,
    joined_inputs,
    numbers_of,
    put_leaves,
    rows_a_token,
    taken,
)
from fastkernels.bench.isolate.sweep_counts import FEWEST_CALLS, MODULI, counts_of
from fastkernels.manifest import Scenario
from fastkernels.runtime.invoke import invoke

SWEEP_BYTES = {"cpu": 64 * 1024**2, "cuda": 2 * 1024**3}
"""Inputs and outputs of all calls together, and inputs of the rows that they are made of."""

SWEEP_S = {"cpu": 0.06, "cuda": 0.12}
"""Seconds (on a CPU of its processors) that the baseline's calls, and judging where it is expected, may take."""

AS_MANY_DRAWS = 2
"""Where judging one call takes long, a sweep may take as long as that many of them."""

AT_MOST = 4
"""Calls that take this many times as long as a sweep may are not even tried."""

BASE_ROWS = {"cpu": (33, 47), "cuda": (200, 255)}
"""The tokens that calls are made of, a number between these; fewer where they come with pages of a cache."""

FEWEST_ROWS = 9
SEQUENCES = 16
"""Calls of attention over prompts have up to this many of them."""

TRIAL = (3, 1, 4)
"""Token counts of the calls by which it is seen whether the baseline treats each token by itself."""


@dataclass
class Planner:
    """Plans the sweep of one scenario with its baseline and judge."""

    scenario: Scenario
    module: nn.Module
    judge: Judge
    device: torch.device
    seed: int

    def __post_init__(self) -> None:
        self.scenario = replace(self.scenario, golden=None)  # recorded values have one token count
        self._rng = random.Random(f"{self.seed}:{self.scenario.shape_key}:sweep")
        self._most_bytes, self._most_s = SWEEP_BYTES[self.device.type], SWEEP_S[self.device.type]

    def plan(self) -> Plan:
        """The sweep, or why there is none."""
        if self.scenario.level > 2:
            return Plan(why_not="layers are not swept: their parts are")
        one = self._inputs_of(self.scenario.with_tokens(1))
        call_s = min(self._seconds(lambda: invoke(self.module, copies(one))) for _ in range(2))
        if FEWEST_CALLS * call_s > AT_MOST * self._most_s:
            return self._too_long()
        try:
            return self._by_rows()
        except NotByRowsError:
            return self._alone()

    def _by_rows(self) -> Plan:
        cut = rows_a_token(self.scenario)
        size = self._base_rows()
        base = self._draw(size)
        shared = [name for name, value in base.items() if isinstance(value, torch.Tensor) and name not in cut]
        after = copies(base)
        with torch.inference_mode():
            outputs = invoke(self.module, after)
        writes = any(not same_bits(base[name], after[name]) for name in shared)
        stable = self._check(base, cut, outputs, after)
        call_s, row_s, judged_s = self._costs(base, cut, size, CallOutcome(outputs=outputs, inputs_after=after))
        moved = [*(base[name] for name in cut), *tensors(outputs).values()]
        row_bytes = sum(tensor.nbytes for tensor in moved) / size
        for modulus in MODULI[self.device.type]:
            counts = counts_of(modulus, self._rng)
            total = sum(counts)
            cost_s = len(counts) * call_s + total * row_s
            if writes:
                cost_s += judged_s * self._bytes(total) / self._bytes(size)
            elif not stable:
                cost_s += judged_s * total / size
            if cost_s > max(self._most_s, AS_MANY_DRAWS * judged_s) or total * row_bytes > self._most_bytes:
                continue
            if not writes or self._bytes(total) > self._most_bytes:
                return Plan(self._gathered(base, cut, counts, size), cut)
            if total <= self._most_rows():
                return Plan(self._chunks(self._draw(total), cut, counts), cut)
        return self._too_long()

    def _too_long(self) -> Plan:
        return Plan(why_not=f"{FEWEST_CALLS} calls and their judgement take longer than {self._most_s:g} s, or more "
                            f"memory than {self._most_bytes >> 20} MiB")

    def _base_rows(self) -> int:
        low, high = BASE_ROWS[self.device.type]
        size = self._rng.randint(low, high) | 1
        while size > FEWEST_ROWS and self._bytes(size) > self._most_bytes // 2:
            size -= 2
        if self._bytes(size) > self._most_bytes:
            raise NotByRowsError
        return size

    def _draw(self, tokens: int) -> dict[str, Any]:
        """Normal inputs; lengths of sequences have as many residues as can be, where nothing else follows from them."""
        draw = Draw(f"sweep@t{tokens}", tokens, self._rng.getrandbits(63), "normal")
        inputs = make_inputs(self.scenario, draw, self.device, self.module)
        for spec in self.scenario.inputs:
            if spec.values == "seqused_k" and not spec.name.startswith("context."):
                longest = int(self.scenario.with_tokens(tokens).resolved_args(spec)["max"])
                steps = torch.arange(tokens, device=self.device) * (longest // 3 * 2 + 1) + self._rng.randrange(longest)
                inputs[spec.name] = (1 + steps % longest).to(inputs[spec.name].dtype)
        return inputs

    def _check(self, base: Mapping[str, Any], cut: Mapping[str, int], outputs: Any, after: Mapping[str, Any]) -> bool:
        """Judge the baseline's own small calls on base rows as a candidate's: NotByRowsError where they are wrong.

        True where all have the very bits that the same rows have in the call with all of them.
        """
        calls = self._chunks(base, cut, TRIAL)
        found, left = [], []
        shared = {name: value for name, value in copies(base).items() if name not in cut}
        for call in calls:
            own = {**copies(call.inputs), **{name: shared[name] for name in shared if name in call.inputs
                                             and isinstance(shared[name], torch.Tensor)}}
            with torch.inference_mode():
                found.append(tensors(invoke(self.module, own)))
            left.append(own)
        count = sum(TRIAL)
        whole = tensors(outputs)
        try:
            joined = {name: torch.cat([one[name] for one in found]) for name in whole}
        except (KeyError, RuntimeError):  # another tree or other shapes
            raise NotByRowsError from None
        if any(tensor.shape[0] % count for tensor in joined.values()):
            raise NotByRowsError
        before = joined_inputs(self.scenario, calls, cut)
        left_rows = {name: torch.cat([one[name] for one in left]) if name in cut else left[-1][name] for name in before}
        finding = self.judge.judge(before, CallOutcome(put_leaves(outputs, iter(joined.values())), left_rows))
        if not finding.verdict.ok:
            raise NotByRowsError
        rows = [(tensor, whole[name]) for name, tensor in joined.items()]
        rows += [(left_rows[name], after[name]) for name in cut]
        return all(same_bits(part, tensor[:len(part)]) for part, tensor in rows)

    def _costs(self, base: Mapping[str, Any], cut: Mapping[str, int], size: int, outcome: CallOutcome
               ) -> tuple[float, float, float]:
        """Seconds of a call of one token, of each token more, and of judging a call on all base rows."""
        one = self._chunks(base, cut, (1,))[0].inputs
        small_s = min(self._seconds(lambda: invoke(self.module, copies(one))) for _ in range(2))
        large_s = min(self._seconds(lambda: invoke(self.module, copies(base))) for _ in range(2))
        judged_s = self._seconds(lambda: self.judge.judge(base, outcome))
        return small_s, max(0.0, large_s - small_s) / size, judged_s

    def _seconds(self, work: Callable[[], object]) -> float:
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        started = clock()
        with torch.inference_mode():
            work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return clock() - started

    def _chunks(self, pool: Mapping[str, Any], cut: Mapping[str, int], counts: Sequence[int]) -> list[Call]:
        """Calls on consecutive rows."""
        calls, start = [], 0
        for count in counts:
            own = {name: value[start * cut[name]:(start + count) * cut[name]] if name in cut else value
                   for name, value in pool.items()}
            calls.append(Call(count, {**own, **numbers_of(self.scenario, count)}))
            start += count
        return calls

    def _gathered(self, base: Mapping[str, Any], cut: Mapping[str, int], counts: list[int], size: int) -> list[Call]:
        """A call on all base rows, then calls on rows of theirs in any order."""
        generator = torch.Generator(self.device).manual_seed(self._rng.getrandbits(63))
        calls = [Call(size, {**base, **numbers_of(self.scenario, size)}, torch.arange(size, device=self.device))]
        for count in counts:
            orders = [torch.randperm(size, generator=generator, device=self.device) for _ in range(-(-count // size))]
            rows = torch.cat(orders)[:count]
            own = {name: taken(value, rows, cut[name]) if name in cut else value for name, value in base.items()}
            calls.append(Call(count, {**own, **numbers_of(self.scenario, count)}, rows))
        return calls

    def _most_rows(self) -> float:
        """Most tokens of one draw: each takes a slot of its own."""
        counted = [self.scenario.resolved_args(spec)["slots"] for spec in self.scenario.inputs
                   if spec.values == "slot_mapping" and isinstance(spec.args["slots"], int)]
        return min(counted, default=math.inf)

    def _alone(self) -> Plan:
        """Calls on draws of their own; attention over prompts gets another number of them in each."""
        cost_s = self._seconds(lambda: self._judged_alone(self._rng.randint(33, 63)))
        for modulus in MODULI[self.device.type]:
            counts = counts_of(modulus, self._rng)
            scenarios = [self._with_sequences(count) for count in counts]
            size = sum(input_bytes(scenario) for scenario in scenarios)
            if len(counts) * cost_s <= self._most_s * 2 and size <= self._most_bytes:
                return Plan([Call(each.tokens, self._inputs_of(each)) for each in scenarios])
        return self._too_long()

    def _judged_alone(self, tokens: int) -> None:
        inputs = self._inputs_of(self._with_sequences(tokens))
        after = copies(inputs)
        outputs = invoke(self.module, after)
        self.judge.judge(inputs, CallOutcome(outputs=outputs, inputs_after=after))

    def _inputs_of(self, scenario: Scenario) -> dict[str, Any]:
        draw = Draw("sweep", scenario.tokens, self._rng.getrandbits(63), "normal")
        return make_inputs(scenario, draw, self.device, self.module)

    def _with_sequences(self, count: int) -> Scenario:
        """The scenario at a count, and with a secret number of sequences where its prompts say how many there are."""
        scenario = self.scenario.with_tokens(count)
        if any(spec.name.startswith("context.") for spec in scenario.inputs):
            return scenario
        sequences = self._rng.randint(1, min(SEQUENCES, count))
        of = {spec.name for spec in scenario.inputs if spec.values == "cu_seqlens"}
        return replace(scenario, inputs=tuple(batch_of(spec, sequences, of) for spec in scenario.inputs))

    def _bytes(self, tokens: int) -> int:
        return input_bytes(self.scenario.with_tokens(tokens))
