"""One sequence of tokens, how far it is computed, and where its keys and values lie."""

from dataclasses import dataclass, field


@dataclass
class Sequence:
    """A prompt and what was generated after it."""

    tokens: list[int]
    """Prompt and generated tokens."""
    computed: int = 0
    """Leading tokens whose keys and values are in the cache."""
    pages: list[int] = field(default_factory=list)
    """Pages of the cache, in order."""

    @property
    def pending(self) -> int:
        """Tokens that are not computed yet."""
        return len(self.tokens) - self.computed


@dataclass(frozen=True)
class Chunk:
    """The next tokens of a sequence that one forward pass computes."""

    sequence: Sequence
    """The sequence."""
    count: int
    """Tokens, at least 1 and at most `sequence.pending`."""

    @property
    def end(self) -> int:
        """Tokens that are computed afterwards."""
        return self.sequence.computed + self.count
