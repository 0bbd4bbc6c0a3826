"""Which token counts a sweep calls a candidate with: one for each residue of a power of two; no torch."""

import random

MODULI = {"cpu": (64, 32, 16, 8), "cuda": (256, 128, 64, 32, 16, 8)}
"""A sweep covers every residue of the largest of these that it has time and memory for."""

FEWEST_CALLS = 8
"""Calls of the smallest sweep."""

FURTHER = 8
"""One count in about this many lies one or two times the modulus further on, so that no list of counts names all."""


def counts_of(modulus: int, rng: random.Random) -> list[int]:
    """One count over 0 for each residue of `modulus`, in no order; most are no larger than it."""
    counts = [residue + modulus * (rng.randint(1, 2) if rng.randrange(FURTHER) == 0 else 0)
              for residue in range(1, modulus + 1)]
    rng.shuffle(counts)
    return counts


def covered(counts: list[int]) -> int:
    """The largest power of two of which every residue is among these counts."""
    modulus = 1
    while len({count % (2 * modulus) for count in counts}) == 2 * modulus:
        modulus *= 2
    return modulus
