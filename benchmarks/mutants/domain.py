"""Mutants written by hand, made from tables of (module, kind, old text, new text); the old text stands there once."""

from functools import cache

from benchmarks.mutants import domain_attention, domain_blocks, domain_l1, domain_triton
from benchmarks.mutants.mutant import Edit, Mutant, described, read_baseline

CPU = (
    *domain_l1.NORMS, *domain_l1.ACTIVATIONS, *domain_l1.ROTARY, *domain_l1.ROUTING, *domain_attention.STORES,
    *domain_attention.PREFILL, *domain_attention.DECODE, *domain_blocks.ATTENTION, *domain_blocks.LINEARS,
    *domain_blocks.LAYERS,
)  # fmt: skip
"""Changes of native paths, blocks and layers."""

CUDA = domain_triton.KERNELS
"""Changes of Triton kernels and their launches."""


@cache
def domain_mutants() -> tuple[Mutant, ...]:
    """All of them; ValueError that names every one whose old text is not found once."""
    mutants, wrong = [], []
    for cuda_only, rows in ((False, CPU), (True, CUDA)):
        for module, kind, old, new in rows:
            source = read_baseline(module)
            count = source.count(old.encode())
            if count != 1:
                wrong.append(f"{module}, {kind}: {old!r} stands there {count} times, not once")
                continue
            start = source.index(old.encode())
            edit = Edit(start, start + len(old.encode()), new)
            change = f"{kind}: {described(source, edit)}"
            mutants.append(Mutant(module, kind, change, edit.apply(source).decode(), "domain", cuda_only))
    if wrong:
        raise ValueError("mutants written by hand no longer apply:\n" + "\n".join(wrong))
    return tuple(mutants)
