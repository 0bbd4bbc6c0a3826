"""Which calls are checked: fresh seeds at the listed shape, shapes near it, hard values."""

import random
from dataclasses import dataclass

from fastkernels.bench.grade.edges import EDGES, FAR, can_be_far, edge_tokens, has_edges
from fastkernels.bench.grade.spoil import NAN
from fastkernels.manifest.context import PREFIX
from fastkernels.manifest.scenario import RANK_PART, Scenario

SMALL_TOKENS = (17, 63)
"""The odd count below a listed shape of more than 64 tokens lies between these; hard values are drawn at that count."""

FULL_TOKENS = {"cpu": 64, "cuda": 2048}
"""Up to this many tokens the listed shape is drawn twice and one token more once; above it each once, see `_near`."""

HARD = ("large", "tiny", "zeros", "ties", "mixed")
"""Hard draws of operators whose float inputs may have any magnitude."""

HARD_GENTLE = ("moderate", "tiny", "zeros", "ties", "mixed-gentle")
"""The same where inputs enter an exponential: attention."""

HARD_COMPOSED = ("moderate", "tiny", "zeros", "ties", "mixed-mild")
"""The same above level 1, where what enters the exponential was rounded before, and for sums over ranks."""

ORDERING = ("gating_output", "router_logits")
"""Inputs that are put in order, in which a NaN has no place."""

ATTENTION_VALUES = ("cu_seqlens", "seqused_k")
"""Inputs with these values are the lengths of sequences, and mark attention."""


@dataclass(frozen=True)
class Draw:
    """One call to check."""

    name: str
    """Such as `large@t33#5`: kind, tokens, place in the plan."""
    tokens: int
    """Token count of the call."""
    seed: int
    """Seed of its inputs."""
    hard: str
    """Kind of values: `normal`, one of HARD, HARD_GENTLE and HARD_COMPOSED, EDGES, FAR or NAN."""
    lengths_seed: int | None = None
    """Seed of the sequences' lengths where they are to be another draw's, and the work with them; None: `seed`."""

    def seed_of(self, values: str) -> int:
        """Seed of an input whose generator is `values`."""
        return self.lengths_seed if self.lengths_seed is not None and values in ATTENTION_VALUES else self.seed


def plan_draws(scenario: Scenario, seed: int, device: str) -> list[Draw]:
    """Return the calls to check, the normal ones of the listed shape first.

    The same for the same (scenario.shape_key, seed, device); without the seed neither the token counts nor the values
    can be known beforehand.
    """
    rng = random.Random(f"{seed}:{scenario.shape_key}:{device}")
    tokens = scenario.tokens
    odd = _odd_below(tokens, rng)
    kinds = [("normal", tokens)] * (2 if tokens <= FULL_TOKENS[device] else 1)
    kinds += [("normal", _near(tokens, device, rng)), ("normal", odd)]
    kinds += [("normal", 1)] * (tokens != 1)
    kinds += [(EDGES, edge_tokens(scenario, rng))] * has_edges(scenario)
    kinds += [(FAR, edge_tokens(scenario, rng))] * can_be_far(scenario)
    kinds += [(NAN, odd)] * _by_rows(scenario)
    kinds += [(kind, odd) for kind in _hard_kinds(scenario)]
    return [Draw(f"{kind}@t{count}#{number}", count, rng.getrandbits(63), kind)
            for number, (kind, count) in enumerate(kinds, start=1)]


def plan_few_draws(scenario: Scenario, seed: int, device: str) -> list[Draw]:
    """The same for a variant (`variants`): normal, large, tiny and mixed values."""
    rng = random.Random(f"{seed}:{scenario.shape_key}:{device}:few")
    kinds, count = ("normal", *(_hard_kinds(scenario)[i] for i in (0, 1, -1))), scenario.tokens
    return [Draw(f"{kind}@t{count}#{number}", count, rng.getrandbits(63), kind)
            for number, kind in enumerate(kinds, start=1)]


def _hard_kinds(scenario: Scenario) -> tuple[str, ...]:
    """Kinds of hard values for this operator."""
    attention = any(spec.values in ATTENTION_VALUES for spec in scenario.inputs)
    composed = scenario.level > 1 or scenario.ranks > 1
    return HARD_COMPOSED if composed else HARD_GENTLE if attention else HARD


def _by_rows(scenario: Scenario) -> bool:
    """Whether tokens have nothing to do with each other: no sequences, and nothing that is put in order."""
    values = {spec.values for spec in scenario.inputs}
    names = {spec.name.removeprefix(PREFIX) for spec in scenario.inputs}
    apart = not values & {*ATTENTION_VALUES, "routed", RANK_PART} and "slot_mapping" not in names
    rows = any(spec.values == "normal" and isinstance(spec.shape[0], str) for spec in scenario.inputs)
    return scenario.level <= 2 and apart and rows and not names & set(ORDERING)


def _odd_below(tokens: int, rng: random.Random) -> int:
    """A secret odd count below `tokens`, small where that is large; 3 or 5 where there is none above 1."""
    low, high = SMALL_TOKENS if tokens > 64 else (max(3, tokens // 2), tokens - 1)
    odd = [count for count in range(low, high + 1) if count % 2]
    return rng.choice(odd) if odd else 5 if tokens == 3 else 3


def _near(tokens: int, device: str, rng: random.Random) -> int:
    """One token more; for a listed shape too large to be drawn often, a secret odd count of a quarter to an eighth."""
    if tokens <= FULL_TOKENS[device]:
        return tokens + 1
    return rng.randrange(tokens // 8, tokens // 4) | 1
