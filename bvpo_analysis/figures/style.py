"""One style for every figure, and the ways a figure leaves the program: PDF + PNG + CSV, or SVG inside a page.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers; line styles and markers repeat what the
colours say. Figures are made without pyplot, so that drawing one changes no global state.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

INK, MUTED, RULE, PAPER = "#1b1f24", "#6a737d", "#d0d7de", "#fffffe"
"""Text and lines, secondary text, grid, background. In a page they follow the page (see :func:`to_svg`)."""
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
"""Okabe-Ito colours."""
SERIES: tuple[tuple[str, Any, str], ...] = (
    (BLUE, "-", "o"),
    (VERMILLION, "--", "s"),
    (GREEN, "-.", "^"),
    (PURPLE, ":", "D"),
    (ORANGE, (0, (6, 1, 1, 1, 1, 1)), "v"),
    (SKY, (0, (1, 1)), "P"),
)
"""Colour, line style and marker of the first, second, ... line."""

HATCHES = ("//////", "......")
"""Hatches of areas, which repeat what their colours say."""

NEURIPS_WIDTH, ICLR_WIDTH = 5.5, 5.5
"""Inches: the text of papers of one column."""
ICML_WIDTH, ICML_COLUMN = 6.75, 3.25
"""Inches: the text of papers of two columns, and one column of it."""
TEXT_WIDTH, SCREEN_WIDTH = NEURIPS_WIDTH, 4.4
"""Inches: the default width, and one whose labels can still be read on a phone."""
WEIGHT_LIMITS = (-0.25, 1.25)
"""Where weights are drawn. Mixing weights outside [0, 1] are never recommended; far ones are marked at the edge."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with Matplotlib, so that every machine draws the same
    "mathtext.fontset": "dejavusans",
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "hatch.linewidth": 0.4,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",  # a page draws the same on every device; the words are in <title> and <desc>
    "svg.hashsalt": "bvpo_analysis",
    "path.simplify": False,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """The style, for everything drawn inside the ``with`` block."""
    with mpl.rc_context(STYLE):
        yield


def new_figure(width: float = TEXT_WIDTH, height: float = 3.1) -> tuple[Figure, Axes]:
    """A figure of paper width with one Axes."""
    with paper_style():
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def rows_of(rows: pd.DataFrame | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as dicts with None for what is missing, whether they came as a DataFrame or as read from JSON.

    Example:
        >>> rows_of(pd.DataFrame({"a": [1.0, float("nan")]}))
        [{'a': 1.0}, {'a': None}]
    """
    records = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else [dict(row) for row in rows]
    return [{str(k): None if isinstance(v, float) and v != v else v for k, v in row.items()} for row in records]


def column(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """One column as floats, nan where it is null."""
    return [float("nan") if row.get(name) is None else float(row[name]) for row in rows]


def label_decades(ax: Axes) -> None:
    """Labels on a logarithmic y axis: powers of ten, or 1, 2 and 5 of each where there would be fewer than three.

    Example:
        >>> _, ax = new_figure()
        >>> _ = ax.plot([1, 2], [0.03, 0.3])
        >>> ax.set_yscale("log"); label_decades(ax)
        >>> [f"{tick:g}" for tick in ax.get_yticks() if 0.03 <= tick <= 0.3]
        ['0.05', '0.1', '0.2']
    """
    low, high = ax.get_ylim()
    if high < 100 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def symbols(text: str) -> str:
    r"""Plain-text symbols such as g_t as mathtext.

    Example:
        >>> print(symbols("g_t, one trace"))
        $g_\mathrm{t}$, one trace
    """
    return re.sub(r"\b([gb])_([tec])\b", r"$\1_\\mathrm{\2}$", text)


def is_bounded(low: float | None, high: float | None, confidence_set: str) -> bool:
    """Whether a confidence set of a weight bounds it on both sides."""
    return confidence_set == "interval" and low is not None and high is not None


def save_figure(figure: Figure, path_without_suffix: Path | str, data: pd.DataFrame) -> list[Path]:
    """Write FIGURE.pdf (embedded fonts), FIGURE.png (300 dpi) and FIGURE.csv, the numbers that are drawn.

    The files carry no dates and no version, so that equal numbers give equal files.

    Returns:
        The paths written.
    """
    base = Path(path_without_suffix)
    base.parent.mkdir(parents=True, exist_ok=True)
    pdf, png, csv = (base.with_name(base.name + suffix) for suffix in (".pdf", ".png", ".csv"))
    with paper_style():
        figure.savefig(pdf, metadata={"CreationDate": None, "Creator": None, "Producer": None})
        figure.set_layout_engine("none")  # the layout of the first file stays: both look alike, in less time
        figure.savefig(png, dpi=300, facecolor="white", metadata={"Software": None})
    data.to_csv(csv, index=False, lineterminator="\n")
    return [pdf, png, csv]


_THEMED = {
    INK: "currentColor",
    MUTED: "var(--muted, #6a737d)",
    RULE: "var(--rule, #d0d7de)",
    PAPER: "var(--paper, #fff)",
}


def to_svg(figure: Figure, name: str = "figure", title: str = "", description: str = "") -> str:
    """The figure as an ``<svg>`` element to put into a page, with a text alternative.

    The XML prolog, metadata and namespaces are removed (HTML does not need them), ink and grid follow the colours of
    the page, and ids begin with ``name``, so that several figures can share a page.

    Args:
        figure: the figure.
        name: prefix of its ids, unique in the page.
        title: short name of the figure, read out instead of it.
        description: what the figure shows, in words.
    """
    buffer = StringIO()
    with paper_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    targets = {a or b for a, b in used}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in targets else "", svg)
    svg = re.sub(r'href="#|url\(#', lambda m: m[0] + name + "-", svg)
    for colour, themed in _THEMED.items():
        svg = svg.replace(colour, themed)
    svg = re.sub(r'(<svg)([^>]*?) width="([\d.]+)pt"([^>]*?)>', r"\1\2\4>", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="([\d.]+)pt"', r"\1", svg, count=1)
    label = f'role="img" aria-labelledby="{name}-title {name}-desc"'
    words = f'<title id="{name}-title">{_escape(title)}</title><desc id="{name}-desc">{_escape(description)}</desc>'
    svg = re.sub(r"<svg([^>]*)>", lambda m: f"<svg {label}{m[1]}>{words}", svg, count=1)
    return re.sub(r"\n\s*", "\n", svg).strip()


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
