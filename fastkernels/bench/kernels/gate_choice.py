"""Which deployment gates the words of `--fk-gates` stand for."""

from collections.abc import Sequence

from fastkernels.errors import one_of
from fastkernels.results import Gate

AUTO, ALL, NONE = "auto", "all", "none"
"""Words that stand for several gates; each stands alone."""

AUTO_GATES = (Gate.STRIDED,)
"""What runs unasked: it costs one more call and its judgement, a tenth of the draws."""


def chosen_gates(words: Sequence[str]) -> tuple[Gate, ...]:
    """The gates that these words stand for, in the order in which they run; ValueError for a wrong word.

    No words: AUTO_GATES.
    """
    for word in words:
        if word in (AUTO, ALL, NONE) and len(words) > 1:
            raise ValueError(f"{word!r} stands alone, not with {', '.join(w for w in words if w != word) or word}")
        if word not in (AUTO, ALL, NONE, *Gate):
            raise ValueError(one_of(word, (AUTO, ALL, NONE, *map(str, Gate))))
    if not words or words[0] == AUTO:
        return AUTO_GATES
    return tuple(gate for gate in Gate if words[0] == ALL or gate in words)
