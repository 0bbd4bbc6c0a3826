"""Compares float tensors with the oracle's, on the device and in chunks; nothing here waits for the device but `read`.

Rows are the last dimension. A tensor's numbers are gathered into one small tensor, so that a judge reads everything
with a single copy to the host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan, prod, sqrt

import torch

from fastkernels.bench.grade.tolerances import BASELINE_FACTOR, ROW_FACTOR, SCALE_FACTOR, Limits

CHUNK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Elements compared at once: a CPU's cache, or a bound on temporaries (256 MiB each)."""

MIN_ROW = 32
"""Rows of fewer elements are not judged by themselves: one of them may be small by chance."""


@dataclass(frozen=True)
class Numbers:
    """What the comparison of one tensor with the oracle gave."""

    shape: tuple[int, ...]
    """Its shape."""
    ratio: float
    """Largest |x - r| / (atol + rtol |r| + what is allowed besides); NaN or infinite where a value is not finite."""
    at: int
    """Flat index of that element."""
    expected: float
    """The oracle's value there."""
    got: float
    """The value there."""
    wrong: int
    """Elements with a ratio over 1."""
    max_abs: float
    """Largest |x - r|."""
    error: float
    """|x - r| (L2) over the whole tensor."""
    norm: float
    """|r| (L2) over the whole tensor."""
    row_ratio: float
    """Largest row error over what is allowed for the row; 0 where rows are not judged."""
    row: int
    """That row."""
    row_rel_l2: float
    """Its |x - r| / |r|."""
    rounding: float = 0.0
    """The largest error that the operator's error model allows an element for roundings; 0 without one."""
    constant: float = 0.0
    """L2 norm of what its model allows for constants; 0 without such."""

    @property
    def rel_l2(self) -> float:
        """|x - r| / |r| over the whole tensor; 0 where both are 0."""
        if self.norm == 0:
            return inf if self.error else self.error
        return self.error / self.norm

    @property
    def index(self) -> tuple[int, ...]:
        """Index of the worst element."""
        return unravel(self.at, self.shape)

    @property
    def row_index(self) -> tuple[int, ...]:
        """Index of the worst row, without the last dimension."""
        return unravel(self.row, self.shape[:-1])


FIELDS = 13
"""Numbers of one tensor as `_side` makes them."""


def gather(
    reference: torch.Tensor, baseline: torch.Tensor, got: torch.Tensor, limits: Limits, spread: float = 0.0,
    baseline_factor: float = BASELINE_FACTOR, rounding: torch.Tensor | None = None,
    constant: torch.Tensor | None = None,
) -> list[torch.Tensor]:  # fmt: skip
    """Numbers of `baseline` and of `got` against `reference`, as float64 vectors [chunks, FIELDS] each.

    All are of the same shape; `reference` is of the oracle's dtype. Rows of `got` are judged by the baseline's own, and
    elements may be off by `spread` times the root mean square of the baseline's error in their row besides, and by
    `rounding` and `constant`, of the same shape too. To a row the largest of `rounding` is allowed besides (many such
    errors average out, one may be most of the norm), or the norm of `constant`. A row of `baseline` may itself be off
    by `baseline_factor` floors.
    """
    width = reference.shape[-1] if reference.dim() else 1
    rows = prod(reference.shape[:-1]) if reference.dim() else 1
    r, b, c = (t.reshape(rows, width) for t in (reference, baseline, got))
    besides = [None if t is None else t.reshape(rows, width) for t in (rounding, constant)]
    step = max(1, CHUNK_ELEMENTS[reference.device.type] // max(1, width))
    sides: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for first in range(0, rows if width else 0, step):
        part = r[first:first + step]
        allowed = part.abs().mul_(limits.rtol).add_(limits.atol)
        norm = torch.linalg.vector_norm(part, dim=1)
        more = [None if t is None else t[first:first + step] for t in besides]
        for t in more:
            allowed = allowed if t is None else allowed.add_(t)
        rooms = (torch.zeros_like(norm) if more[0] is None else more[0].amax(dim=1),
                 torch.zeros_like(norm) if more[1] is None else torch.linalg.vector_norm(more[1], dim=1))
        slack = 2 * sqrt(width) * limits.tiny
        floor = norm * limits.row_floor
        base_error = None
        for side, x in zip(sides, (b, c), strict=True):
            piece = x[first:first + step]
            error = piece.to(part.dtype) - part
            error_norm = torch.linalg.vector_norm(error, dim=1)
            if base_error is None and spread:
                allowed += (error_norm * (spread / sqrt(max(1, width)))).unsqueeze(1)
            most = floor * baseline_factor if base_error is None else torch.maximum(floor, base_error * ROW_FACTOR)
            most = torch.maximum(most + rooms[0], rooms[1]) + slack
            side.append(_side(part, piece, error.abs_(), allowed, error_norm, norm, most, rooms, first))
            base_error = error_norm
    return [torch.stack(side) if side else torch.zeros(0, FIELDS, dtype=torch.float64, device=reference.device)
            for side in sides]


def _side(
    part: torch.Tensor, x: torch.Tensor, error: torch.Tensor, allowed: torch.Tensor, error_norm: torch.Tensor,
    norm: torch.Tensor, most: torch.Tensor, rooms: tuple[torch.Tensor, torch.Tensor],
    first: int,
) -> torch.Tensor:  # fmt: skip
    """The FIELDS numbers of one chunk, whose rows may be off by `most`; overwrites `error`."""
    width = part.shape[1]
    largest = error.amax()
    ratio = error.div_(allowed)
    wrong = torch.count_nonzero(~(ratio <= 1))
    by_row = ratio.amax(dim=1)
    row = by_row.argmax()
    column = ratio.index_select(0, row.view(1)).argmax()
    at = row * width + column
    row_ratio = error_norm / most
    worst_row = row_ratio.argmax()
    numbers = (
        by_row.amax(), at + first * width, part.reshape(-1).index_select(0, at.view(1)),
        x.reshape(-1).index_select(0, at.view(1)), wrong, largest, error_norm.double().square().sum(),
        norm.double().square().sum(), row_ratio.amax(), worst_row + first,
        error_norm.index_select(0, worst_row.view(1)) / norm.index_select(0, worst_row.view(1)),
        rooms[0].amax(), rooms[1].double().square().sum(),
    )  # fmt: skip
    return torch.stack([number.double().view(()) for number in numbers])


def read(rows: Sequence[Sequence[float]], shape: Sequence[int]) -> Numbers:
    """Numbers of one tensor from the host's copy of what `gather` made: a row of FIELDS for each chunk."""
    shape = tuple(shape)
    if not rows:
        return Numbers(shape, 0.0, 0, nan, nan, 0, 0.0, 0.0, 0.0, 0.0, 0, 0.0)
    worst = max(rows, key=lambda row: _order(row[0]))
    by_row = max(rows, key=lambda row: _order(row[8]))
    error, norm = sqrt(sum(row[6] for row in rows)), sqrt(sum(row[7] for row in rows))
    judged = bool(shape) and shape[-1] >= MIN_ROW
    return Numbers(
        shape=shape, ratio=worst[0], at=int(worst[1]), expected=worst[2], got=worst[3],
        wrong=int(sum(row[4] for row in rows)), max_abs=max((row[5] for row in rows), key=_order),
        error=error, norm=norm, row_ratio=by_row[8] if judged else 0.0, row=int(by_row[9]),
        row_rel_l2=by_row[10], rounding=max(row[11] for row in rows),
        constant=sqrt(sum(row[12] for row in rows)),
    )


def scale_ratio(limits: Limits, baseline: Numbers, got: Numbers) -> float:
    """Error norm of a whole tensor over what is allowed beside this baseline; over 1 breaks the scale-free rule."""
    slack = 2 * sqrt(max(1, prod(got.shape))) * limits.tiny
    usual = max(limits.floor * got.norm, SCALE_FACTOR * baseline.error) + got.rounding
    return got.error / (max(usual, got.constant) + slack)


def baseline_ratio(limits: Limits, baseline: Numbers, factor: float = BASELINE_FACTOR) -> float:
    """The baseline's own error norm over the most that a usable task has."""
    slack = 2 * sqrt(max(1, prod(baseline.shape))) * limits.tiny
    return baseline.error / (factor * limits.floor * baseline.norm + slack)


def finite(numbers: Numbers) -> bool:
    """Whether every value compared was finite."""
    return isfinite(numbers.ratio) and isfinite(numbers.error) and isfinite(numbers.norm)


def settle(
    reference: torch.Tensor, baseline: torch.Tensor, got: torch.Tensor, limits: Limits
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Take what is not finite out of the three tensors.

    Returns reference, baseline and got with zeros where NaN and infinities agree, and the masks of the elements where
    the baseline's and the candidate's do not. What is finite in the oracle and overflows the output's dtype is expected
    to be infinite; within rtol of the largest finite value both are right.
    """
    rounded = reference.to(got.dtype).to(reference.dtype)
    largest = torch.finfo(got.dtype).max
    edge = (reference.abs() >= largest * (1 - limits.rtol)) & reference.isfinite()
    wides = [x.to(reference.dtype) for x in (baseline, got)]
    hidden = ~rounded.isfinite()
    masks = []
    for wide in wides:
        near = edge & (wide.sign() == reference.sign()) & (wide.abs() >= largest * (1 - 2 * limits.rtol))
        agrees = (wide == rounded) | (wide.isnan() & rounded.isnan()) | near
        masks.append(~(wide.isfinite() & rounded.isfinite()) & ~agrees)
        hidden |= near | ~wide.isfinite()
    return [x.masked_fill(hidden, 0.0) for x in (reference, *wides)], masks[0], masks[1]


def unravel(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Index of the element at a flat place."""
    index = []
    for size in reversed(shape):
        flat, place = divmod(flat, size)
        index.append(place)
    return tuple(reversed(index))


def _order(value: float) -> float:
    """NaN counts as larger than everything."""
    return value if value == value else inf
