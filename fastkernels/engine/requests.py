"""Random requests, and the forward passes in which a server that batches continuously computes them."""

import random
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass, field

PROMPT_TOKENS = 512
"""Most tokens of a prompt."""
OUTPUT_TOKENS = 16
"""Most tokens generated after it; half of them at least."""
PASS_TOKENS = 512
"""Most tokens of a pass; a prompt that does not fit is continued in the next one."""


@dataclass(frozen=True)
class Request:
    """One request."""

    prompt: list[int]
    """Token ids."""
    output_tokens: int
    """Tokens to generate, at least 1."""

    @property
    def total(self) -> int:
        """Tokens that are computed for it: all but the last one generated."""
        return len(self.prompt) + self.output_tokens - 1


@dataclass(frozen=True)
class Span:
    """The next tokens of one request in a pass."""

    request: int
    """Its place among the requests."""
    start: int
    """Tokens that were computed before."""
    count: int
    """Tokens that this pass computes."""


@dataclass(frozen=True)
class Pass:
    """One forward pass."""

    spans: list[Span]
    """Its tokens by request."""
    phase: str = field(init=False)
    """`decode`: one token of each; `prefill`: several of each; `mixed`."""

    def __post_init__(self) -> None:
        several = [span.count > 1 for span in self.spans]
        object.__setattr__(self, "phase", "prefill" if all(several) else "mixed" if any(several) else "decode")


def draw_requests(count: int, seed: int, vocab_size: int, max_positions: int) -> list[Request]:
    """Return `count` requests of random lengths and token ids, each within the model's positions."""
    rng = random.Random(seed)
    longest_output = max(1, min(OUTPUT_TOKENS, max_positions // 4))
    longest_prompt = max(1, min(PROMPT_TOKENS, max_positions - longest_output))
    found = []
    for _ in range(count):
        prompt = [rng.randrange(vocab_size) for _ in range(rng.randint(1, longest_prompt))]
        found.append(Request(prompt, rng.randint((longest_output + 1) // 2, longest_output)))
    return found


def plan_passes(requests: Many[Request], pass_tokens: int = PASS_TOKENS) -> Iterator[Pass]:
    """Yield the passes: those that decode go first, prompts fill the rest in order of arrival, in chunks."""
    computed = [0] * len(requests)
    while any(done < request.total for done, request in zip(computed, requests, strict=True)):
        room, spans = pass_tokens, []
        unfinished = [i for i, request in enumerate(requests) if computed[i] < request.total]
        for i in sorted(unfinished, key=lambda i: computed[i] < len(requests[i].prompt)):
            wanted = max(1, len(requests[i].prompt) - computed[i])
            count = min(wanted, room)
            if count:
                spans.append(Span(i, computed[i], count))
                room -= count
        for span in spans:
            computed[span.request] += span.count
        yield Pass(spans)


def kept_passes(passes: Many[Pass]) -> dict[int, str]:
    """Return which passes are recorded, and their names: the first and the last of each phase."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(passes):
        places.setdefault(one.phase, []).append(place)
    return {
        place: f"{phase}{number}"
        for phase, found in places.items()
        for number, place in enumerate(sorted({found[0], found[-1]}))
    }
