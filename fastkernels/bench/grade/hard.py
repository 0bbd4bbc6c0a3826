"""Hard values: what normal noise becomes in a draw of each kind."""

from collections.abc import Callable

import torch

Transform = Callable[[torch.Tensor, torch.Generator], torch.Tensor]

OUTLIER_SHARE = 256
"""One channel in this many is an outlier, at least one."""

STEPS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
"""Values of a draw with ties; exact in every float dtype."""

FIRST_ROW = tuple(step for step in STEPS if step)
"""What all of the first row may be. Were it always the same, a key written into the first row of a cache, where
padding goes by mistake, would not be seen: only these draws have padding."""

ROW_EXPONENTS = (-4.0, 1.5)
"""Powers of ten between which the rows of a mixed draw are scaled.

At 1000 a product over 16384 elements that nearly cancels is 1.6e-5 of the row's scale off in float32, more than 0.01.
"""

GENTLE_ROW_EXPONENTS = (-2.0, 0.5)
"""The same where the inputs enter an exponential."""

MILD_ROW_EXPONENTS = (-2.0, 0.0)
"""The same in blocks: rows and caches 3 times as large make scores of 10 and more, of which one rounding before them is
some per cent of a softmax weight (llama_attention, bf16: the baseline's own output was 1.6 % off)."""


def outliers(low: float, high: float) -> Transform:
    """A few channels, the same in each row, times a factor between low and high, as in real activations."""

    def transform(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        width = x.shape[-1] if x.dim() else 1
        channels = torch.randperm(width, generator=generator, device=x.device)[: max(1, width // OUTLIER_SHARE)]
        factors = torch.empty(channels.numel(), device=x.device).uniform_(low, high, generator=generator)
        scale = torch.ones(width, device=x.device).index_copy_(0, channels, factors)
        return x.mul_(scale.to(x.dtype).view((-1,) if x.dim() else ()))

    return transform


def row_scales(exponents: tuple[float, float]) -> Transform:
    """Each row (first dimension) times ten to a power between the two exponents."""

    def transform(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        rows = torch.empty((x.shape[0] if x.dim() else 1), device=x.device).uniform_(*exponents, generator=generator)
        return x.mul_((10.0**rows).to(x.dtype).view((-1,) + (1,) * (x.dim() - 1) if x.dim() else ()))

    return transform


def tiny(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A thousandth: mean squares of 1e-6, where an epsilon of 1e-5 or 1e-6 shows."""
    del generator
    return x.mul_(1e-3)


def zeros(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every other row zero, and about half of the elements of the others."""
    del generator
    x.clamp_(min=0.0)
    if x.dim():
        x[::2] = 0.0
    return x


def mark_rows(x: torch.Tensor) -> torch.Tensor:
    """The first element of every row (last dimension) 1: where a row of zeros belongs and is not written, it shows.

    All rows have the same, so that the scores of keys of zeros stay equal.
    """
    x[..., 0] = 1.0
    return x


def ties(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Few different values, and a first row of equal ones, another in each input."""
    steps = torch.tensor(STEPS, device=x.device).to(x.dtype)
    picked = torch.randint(0, len(STEPS), x.shape, generator=generator, device=x.device)
    x.copy_(steps[picked])
    if x.dim() and x.shape[0]:
        x[0] = torch.tensor(FIRST_ROW, device=x.device).to(x.dtype)[
            torch.randint(0, len(FIRST_ROW), (1,), generator=generator, device=x.device)]
    return x


TRANSFORMS: dict[str, Transform] = {
    "large": outliers(100.0, 1000.0),
    "moderate": outliers(2.0, 2.5),
    "tiny": tiny,
    "zeros": zeros,
    "ties": ties,
    "mixed": row_scales(ROW_EXPONENTS),
    "mixed-gentle": row_scales(GENTLE_ROW_EXPONENTS),
    "mixed-mild": row_scales(MILD_ROW_EXPONENTS),
}
"""Kinds of hard draw; `normal` is none."""

MIXED = ("mixed", "mixed-mild")
"""Those whose rows are of mixed scale, where inputs enter no exponential."""
