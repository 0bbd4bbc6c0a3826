"""Hard values: what normal noise becomes in a draw of each kind."""

from collections.abc import Callable

import torch

Transform = Callable[[torch.Tensor, torch.Generator, float], torch.Tensor]
"""(noise, generator, its standard deviation) -> the noise, changed in place."""

OUTLIER_SHARE = 256
"""One channel in this many is an outlier, at least one."""

RAISED_ROWS = 4
"""Rows in which outliers are raised to a stated size. A few suffice, and leave the rest as real activations are."""

LARGE = (1e3, 4e3)
"""Sizes to which outliers of a large draw are raised, in standard deviations; 4e3 is also what chance makes of many.

A factor alone promises nothing: of 128 channels one is an outlier, and in 5 rows none may pass 256 (8.5 % of gradings).
"""

MODERATE = (4.0, 6.0)
"""The same of a moderate draw."""

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


def outliers(low: float, high: float, raised: tuple[float, float]) -> Transform:
    """A few channels, the same in each row, times a factor between low and high, as in real activations.

    In some rows they are of a size between the two of `raised` at least, of either sign from two rows on, and so is one
    element of another channel. A row is the last dimension.
    """

    def transform(x: torch.Tensor, generator: torch.Generator, spread: float) -> torch.Tensor:
        rows = x.view(-1, x.shape[-1] if x.dim() else 1)
        width = rows.shape[1]
        order = torch.randperm(width, generator=generator, device=x.device)
        count = max(1, width // OUTLIER_SHARE)
        factors = torch.empty(count, device=x.device).uniform_(low, high, generator=generator)
        rows.mul_(torch.ones(width, device=x.device).index_copy_(0, order[:count], factors).to(x.dtype))
        if rows.numel():
            _raise(rows, order[:count], order[count:count + 1], raised, spread, generator)
        return x

    return transform


def _raise(
    rows: torch.Tensor, channels: torch.Tensor, alone: torch.Tensor, raised: tuple[float, float], spread: float,
    generator: torch.Generator,
) -> None:  # fmt: skip
    """Raise these channels in RAISED_ROWS rows, fewer where one could stay as it is, and `alone` in one; in place."""
    some = min(RAISED_ROWS, max(2, len(rows) - 1))
    picked = torch.randperm(len(rows), generator=generator, device=rows.device)[:some].unsqueeze(1)
    for place, columns in ((picked, channels), (picked[-1:], alone)):
        found = rows[place, columns].float()
        least = torch.empty_like(found).uniform_(*raised, generator=generator) * spread
        parity = torch.arange(len(place), device=rows.device).unsqueeze(1) + torch.arange(
            len(columns), device=rows.device) + torch.randint(0, 2, (1,), generator=generator, device=rows.device)
        signs = 1.0 - 2.0 * ((parity % 2 if len(place) > 1 else found < 0.0).float())
        rows[place, columns] = (found.abs().maximum(least) * signs).to(rows.dtype)


def row_scales(exponents: tuple[float, float]) -> Transform:
    """Each row (first dimension) times ten to a power between the two exponents, from 2 rows on to those as well."""

    def transform(x: torch.Tensor, generator: torch.Generator, spread: float) -> torch.Tensor:
        del spread
        rows = torch.empty((x.shape[0] if x.dim() else 1), device=x.device).uniform_(*exponents, generator=generator)
        if len(rows) > 1:
            ends = torch.randperm(len(rows), generator=generator, device=x.device)[:2]
            rows[ends] = torch.tensor(exponents, device=x.device)
        return x.mul_((10.0**rows).to(x.dtype).view((-1,) + (1,) * (x.dim() - 1) if x.dim() else ()))

    return transform


def tiny(x: torch.Tensor, generator: torch.Generator, spread: float) -> torch.Tensor:
    """A thousandth: mean squares of 1e-6, where an epsilon of 1e-5 or 1e-6 shows."""
    del generator, spread
    return x.mul_(1e-3)


def zeros(x: torch.Tensor, generator: torch.Generator, spread: float) -> torch.Tensor:
    """Every other row zero, and about half of the elements of the others."""
    del generator, spread
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


def ties(x: torch.Tensor, generator: torch.Generator, spread: float) -> torch.Tensor:
    """Few different values, and a first row of equal ones, another in each input as a rule."""
    del spread
    steps = torch.tensor(STEPS, device=x.device).to(x.dtype)
    picked = torch.randint(0, len(STEPS), x.shape, generator=generator, device=x.device)
    x.copy_(steps[picked])
    if x.dim() and x.shape[0]:
        x[0] = torch.tensor(FIRST_ROW, device=x.device).to(x.dtype)[
            torch.randint(0, len(FIRST_ROW), (1,), generator=generator, device=x.device)]
    return x


TRANSFORMS: dict[str, Transform] = {
    "large": outliers(100.0, 1000.0, LARGE),
    "moderate": outliers(2.0, 2.5, MODERATE),
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
