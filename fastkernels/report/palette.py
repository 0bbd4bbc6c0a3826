"""The report's colours in both themes, and the classes that colour a heat map's cells."""

import math

Colour = str

THEMES: dict[str, dict[str, Colour]] = {
    "light": {
        "surface": "#ffffff", "raised": "#f5f7f9", "ink": "#1a1f24", "muted": "#55606b", "grid": "#e4e8ec",
        "axis": "#8b96a1", "baseline": "#77818c", "candidate": "#0b5fb5", "bad": "#a3195b", "bad-surface": "#fbe4ee",
        "good": "#0b5fb5", "link": "#0b5fb5",
    },
    "dark": {
        "surface": "#14181c", "raised": "#1c2227", "ink": "#e8ebee", "muted": "#a9b3bd", "grid": "#2c343b",
        "axis": "#6f7b86", "baseline": "#9da8b3", "candidate": "#62b0f7", "bad": "#ff9cc6", "bad-surface": "#4b1030",
        "good": "#62b0f7", "link": "#7dbdf9",
    },
}
"""CSS variables (`--surface` and so on) of each theme."""

EDGES = (1.03, 1.15, 1.4, 2.0, 4.0)
"""Speedups at which a cell's colour gets stronger; below 1, their inverses: the scale is symmetric in the logarithm."""

_HEAT: dict[str, dict[str, tuple[Colour, ...]]] = {
    "light": {
        "same": ("#eceff2",),
        "faster": ("#d9e8f6", "#b3d3ec", "#7cb6e0", "#3c8cc8", "#0d559c"),
        "slower": ("#fdebd3", "#fbd2a0", "#f5ab5c", "#dd7a1d", "#8f3f05"),
    },
    "dark": {
        "same": ("#2a3138",),
        "faster": ("#1b3a57", "#1d5180", "#2470b3", "#5aa2de", "#a9d3f8"),
        "slower": ("#47301a", "#6a4314", "#985a10", "#dc9141", "#fbcd96"),
    },
}
"""Blue for faster and orange for slower: told apart by all common kinds of colour blindness."""


def heat_class(speedup: float) -> str:
    """Name of the colour of a speedup: `h0` near 1, `f1` to `f5` for faster, `s1` to `s5` for slower."""
    if not speedup > 0:
        return "h0"
    strength = abs(math.log(speedup))
    step = sum(strength >= math.log(edge) for edge in EDGES)
    return "h0" if step == 0 else f"{'f' if speedup > 1 else 's'}{step}"


def legend() -> list[tuple[str, str]]:
    """Class and range of every colour, slowest first."""
    down = [(f"s{step}", f"≤ {1 / edge:.2f}") for step, edge in reversed(list(enumerate(EDGES, 1)))]
    up = [(f"f{step}", f"≥ {edge:.2f}") for step, edge in enumerate(EDGES, 1)]
    return [*down, ("h0", "1.00"), *up]


def stylesheet() -> str:
    """CSS variables and heat-map classes of the light theme, and of the dark one where the reader prefers it."""
    light, dark = (_rules(theme) for theme in ("light", "dark"))
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def variables(theme: str) -> str:
    """The theme's variables as CSS declarations."""
    return "; ".join(f"--{name}: {colour}" for name, colour in THEMES[theme].items())


def _rules(theme: str) -> str:
    heat = {"h0": _HEAT[theme]["same"][0]}
    for letter, side in (("f", "faster"), ("s", "slower")):
        heat |= {f"{letter}{step}": colour for step, colour in enumerate(_HEAT[theme][side], 1)}
    cells = "\n".join(f".{name} {{ background: {colour}; color: {readable_on(colour)} }}"
                      for name, colour in heat.items())
    return f":root {{ color-scheme: {theme}; {variables(theme)} }}\n{cells}"


def readable_on(background: Colour) -> Colour:
    """Near-black or white, whichever contrasts more with the background."""
    return max(("#0c0f12", "#ffffff"), key=lambda ink: contrast(ink, background))


def contrast(one: Colour, other: Colour) -> float:
    """Contrast of two `#rrggbb` colours as WCAG 2 defines it, 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Colour) -> float:
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
