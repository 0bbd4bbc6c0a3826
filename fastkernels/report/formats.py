"""How the report writes numbers: times, rates, ratios and counts, each short enough for a table cell."""

import math
import re

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_RATES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def seconds(value: float) -> str:
    """Write a time with three digits and its unit: `12.3 µs`."""
    return _scaled(value, _TIMES, " ")


def rate(value: float, unit: str) -> str:
    """Write a rate or a size with an SI prefix: `4.24 TB/s`."""
    return f"{_scaled(value, _RATES, ' ')}{unit}"


def ratio(value: float) -> str:
    """Two decimals, fewer from 10 on; `inf` and `NaN` as such."""
    if not math.isfinite(value):
        return digits(value)
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def digits(value: float) -> str:
    """Three digits, such as an error ratio's: `0.203`, `1.5e-05`, `inf`, `NaN`."""
    return "NaN" if math.isnan(value) else f"{value:.3g}"


def percent(share: float) -> str:
    """A share as per cent, two digits at least: `0.31 %`, `87 %`."""
    return f"{100 * share:.2g} %" if 100 * share < 10 else f"{100 * share:.0f} %"


def signed_percent(change: float) -> str:
    """A change as per cent with its sign: `+5.0 %`, `-12.3 %`, `+140 %`."""
    return f"{100 * change:+.1f} %" if abs(100 * change) < 99.95 else f"{100 * change:+.0f} %"


def limit_percent(limit: float) -> str:
    """A limit as its option was written: `3 %`, `0.5 %`."""
    return f"{100 * limit:.4g} %"


def plural(count: int, noun: str) -> str:
    """`1 shape`, `2 shapes`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def clean(text: str) -> str:
    """Replace what neither HTML nor UTF-8 can hold (control characters but tab and newline, lone surrogates)."""
    return _CONTROL.sub("\ufffd", text)


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of a text longer than `limit` characters, and say how much."""
    if len(text) <= limit:
        return text
    head, tail = limit // 3, limit - limit // 3
    return f"{text[:head]}\n[... {len(text) - limit:,} characters cut; the results file has them ...]\n{text[-tail:]}"


def _scaled(value: float, units: tuple[tuple[float, str], ...], space: str) -> str:
    if not math.isfinite(value):
        return f"{digits(value)} {units[0][1]}"
    scale, unit = next((pair for pair in units if abs(value) >= pair[0] * 0.9995), units[-1])
    number = value / scale
    return f"{number:.3g}{space}{unit}" if abs(number) < 999.5 else f"{number:.0f}{space}{unit}"
