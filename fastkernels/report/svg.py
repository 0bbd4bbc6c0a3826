"""Draws with matplotlib into one SVG that serves both themes: its colours are CSS variables."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import StringIO
from typing import TYPE_CHECKING, Any

from fastkernels.report import palette
from fastkernels.report.formats import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
"""Fonts of page and plots: whatever the reader's system has, so that nothing is loaded."""
TEXT_PX = 12
SMALL_PX = 11
_SENTINELS = {name: f"#0100{i:02x}" for i, name in enumerate(palette.THEMES["light"], 1)}
"""Colours that stand for the variables while matplotlib draws."""
_NAMES = {sentinel: name for name, sentinel in _SENTINELS.items()}
_DECIMALS = re.compile(r"(\d\.\d)\d+")
_SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "font.family": ["DejaVu Sans"], "text.parse_math": False,
                             "path.simplify": False, "font.size": SMALL_PX, "axes.unicode_minus": False}


def colour(name: str) -> str:
    """The colour that becomes the variable `--name`."""
    return _SENTINELS[name]


@contextmanager
def drawing(salt: str) -> Iterator[None]:
    """Settings under which figures are made and rendered; `salt` keeps the ids of figures in one page apart."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
        matplotlib.rcParams.update({**_SETTINGS, "svg.hashsalt": salt})
        # Names may hold characters that matplotlib's font lacks; the reader's font draws them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def new_figure(width: int, height: int) -> "Figure":
    """An empty figure of that many pixels, without a background of its own."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    FigureCanvasSVG(figure)
    return figure


def new_axes(figure: "Figure", left: float, top: float, width: float, height: float) -> "Axes":
    """Axes at a place in pixels from the figure's top left corner, with thin muted lines."""
    full_width, full_height = figure.get_size_inches() * 72
    axes = figure.add_axes((left / full_width, 1 - (top + height) / full_height, width / full_width,
                            height / full_height), facecolor="none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=colour("axis"), linewidth=1)
    axes.tick_params(color=colour("axis"), labelcolor=colour("muted"), labelsize=SMALL_PX, length=3)
    axes.set_axisbelow(True)
    return axes


def set_ticks(axes: "Axes", which: str, ticks: dict[float, str], grid: bool = True) -> None:
    """Put labelled ticks at these places of the x or y axis."""
    from matplotlib.ticker import FixedFormatter, FixedLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FixedFormatter(list(ticks.values())))
    if grid:
        axis.grid(True, color=colour("grid"), linewidth=1)


def write(figure: "Figure", left: float, top: float, text: str, tone: str = "ink", **options: Any) -> None:
    """Write a text at a place in pixels from the figure's top left corner."""
    width, height = figure.get_size_inches() * 72
    figure.text(left / width, 1 - top / height, clean(text), color=colour(tone),
                **{"fontsize": TEXT_PX, "va": "baseline", **options})


def render(figure: "Figure", title: str) -> str:
    """The figure as a stand-alone SVG that follows the reader's theme; equal figures give equal text."""
    output = StringIO()
    figure.savefig(output, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    width, height = (round(side * 72) for side in figure.get_size_inches())
    return _head(width, height, title) + _body(output.getvalue()) + "</svg>\n"


def inline(svg: str) -> str:
    """A stand-alone SVG as it stands within the page, whose style sheet defines the colours."""
    without_style = re.sub(r"<style>.*?</style>\n<rect[^>]*/>\n", "", svg, count=1, flags=re.DOTALL)
    return without_style.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)


def _head(width: int, height: int, title: str) -> str:
    style = (f":root {{ {palette.variables('light')} }} "
             f"@media (prefers-color-scheme: dark) {{ :root {{ {palette.variables('dark')} }} }}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'role="img" font-family="{FONT}">\n<title>{_escaped(title)}</title>\n<style>{style}</style>\n'
            f'<rect width="{width}" height="{height}" fill="var(--surface)"/>\n')


def _body(svg: str) -> str:
    """What matplotlib drew, smaller: no header, ids that nothing refers to, comments or repeated styles."""
    inner = svg[svg.index("<defs>"):svg.rindex("</svg>")]
    inner = re.sub(r"<style.*?</style>|<!--.*?-->", "", inner, flags=re.DOTALL)
    inner = re.sub(r'<g id="[^"]*"/>', "", inner)
    inner = re.sub(r'<g id="[^"]*">', "<g>", inner).replace("<use xlink:href=", "<use href=")
    inner = re.sub(r' (style|d|x|y|transform)="([^"]*)"', _smaller, inner)
    return _shared_styles(re.sub(r">\s+<", "><", inner)) + "\n"


def _smaller(attribute: re.Match[str]) -> str:
    """An attribute with its colours as variables, without fonts, or with coordinates to a tenth of a pixel."""
    name, value = attribute.groups()
    if name == "style":
        return f' style="{_theme_style(value)}"'
    rounded = _DECIMALS.sub(r"\1", value)
    return f' {name}="{" ".join(rounded.split())}"'


@lru_cache(maxsize=1024)
def _theme_style(style: str) -> str:
    kept = [part for part in re.split(r";\s*", style) if part and not part.startswith("font-family")]
    text = "; ".join(part.replace("font: ", "font-size: ").split(" 'DejaVu")[0] for part in kept)
    return re.sub("#0100[0-9a-f]{2}", lambda m: f"var(--{_NAMES[m[0]]})", text)


def _shared_styles(inner: str) -> str:
    """Give a run of markers its style once, on their group."""
    return re.sub(r'<g( clip-path="[^"]*")?>(<use href="[^"]*" x="[^"]*" y="[^"]*") (style="[^"]*")/>(.*?)</g>',
                  lambda m: f"<g{m[1] or ''} {m[3]}>{m[2]}/>{m[4].replace(' ' + m[3], '')}</g>", inner)


def _escaped(text: str) -> str:
    return clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
