"""Lays text out in columns for a terminal, 120 characters wide at most."""

from collections.abc import Mapping, Sequence

from fastkernels.report.formats import clean

WIDTH = 120
"""Columns that a line may take."""
GAP = "  "
CUT = "..."


def columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], shrink: Mapping[str, int]
) -> list[str]:
    """Return the lines of a table, the header first.

    `right` names the columns that are set flush right. `shrink` names those that may be cut where a row is wider than
    WIDTH, with the least width of each, in the order in which they give way.
    """
    cells = [tuple(header), *([_one_line(cell) for cell in row] for row in rows)]
    widths = _fitted(header, [max(len(row[i]) for row in cells) for i in range(len(header))], shrink)
    return [GAP.join(_padded(cell, width, name in right) for cell, width, name in zip(row, widths, header, strict=True))
            .rstrip() for row in cells]


def _fitted(header: Sequence[str], widths: list[int], shrink: Mapping[str, int]) -> list[int]:
    over = sum(widths) + len(GAP) * (len(header) - 1) - WIDTH
    for name, least in shrink.items():
        at = header.index(name)
        given = max(0, min(over, widths[at] - least))
        widths[at] -= given
        over -= given
    return widths


def _padded(cell: str, width: int, flush_right: bool) -> str:
    shown = cell if len(cell) <= width else cell[:width - len(CUT)] + CUT
    return shown.rjust(width) if flush_right else shown.ljust(width)


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())
