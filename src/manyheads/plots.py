"""Draws arrays on the reader's axes; colours have names that the site maps to light and dark."""

import io
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from IPython.display import display as show_bundle
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from PIL import Image

# The light theme's colours. The web book replaces each by a CSS variable that follows the reader's theme.
PAPER, INK, MUTED, GRID = "#fdfcfa", "#22262b", "#5d646c", "#d9d8d3"
BLUE, ORANGE, GREEN, PURPLE = "#0b62a8", "#b84e00", "#1a7554", "#8a2f6f"
SERIES = (BLUE, ORANGE, GREEN, PURPLE)
MARKERS = ("o", "s", "^", "D")
FONT = "Manyheads Sans"


def use_style() -> None:
    """Give every figure of the book one look, and stored figures the same bytes each time.

    Words are drawn as outlines of the book's own font, so formulas keep their shape wherever they are shown.
    """
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in sorted(str(path) for path in Path(__file__).with_name("fonts").glob("*.ttf")):
        if path not in known:
            font_manager.fontManager.addfont(path)
    mpl.rcParams.update(mpl.rcParamsDefault)
    mpl.rcParams.update({
        "axes.edgecolor": MUTED,
        "axes.facecolor": PAPER,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.labelcolor": INK,
        "axes.prop_cycle": cycler(color=SERIES, marker=MARKERS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": INK,
        "axes.titlelocation": "left",
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "figure.constrained_layout.use": True,
        "figure.facecolor": PAPER,
        "font.family": [FONT, "DejaVu Sans"],
        "font.size": 11,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "legend.labelcolor": INK,
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
        "mathtext.fontset": "custom",
        "mathtext.rm": FONT,
        "mathtext.it": f"{FONT}:italic",
        "mathtext.bf": f"{FONT}:bold",
        "mathtext.bfit": f"{FONT}:bold",
        "mathtext.cal": f"{FONT}:italic",
        "mathtext.sf": FONT,
        "mathtext.tt": "DejaVu Sans Mono",
        "mathtext.fallback": "stixsans",
        "savefig.facecolor": PAPER,
        "svg.fonttype": "path",
        "svg.hashsalt": "one head, many heads",
        "text.color": INK,
        "xtick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.color": MUTED,
        "ytick.labelcolor": INK,
    })  # fmt: skip


def figure(
    width: float = 6.4, height: float = 3.6, ncols: int = 1, nrows: int = 1, **options
) -> tuple[Figure, Any]:
    """Open a figure in the book's look.

    Parameters
    ----------
    width, height : float
        In inches; the page shows at most 7.2 of them side by side.
    ncols, nrows : int
        Number of panels.
    **options
        Handed to ``plt.subplots``, as ``sharey=True``.

    Returns
    -------
    figure, and one ``Axes`` or an array of them
    """
    return plt.subplots(nrows, ncols, figsize=(width, height), **options)


def display(fig: Figure, alt: str) -> None:
    """Show a figure in the page with its text alternative, and close it.

    It is stored as SVG for the web book, as PNG for where SVG is stripped, and as the alternative text.

    Parameters
    ----------
    fig : Figure
    alt : str
        What the figure shows, for somebody who can't see it, in a sentence or two.

    Raises
    ------
    ValueError
        If ``alt`` is too short to say what the figure shows.
    """
    if len(alt.split()) < 5:
        raise ValueError(f"alt must say what the figure shows, in five words or more, got {alt!r}")
    svg, png, small_png = io.StringIO(), io.BytesIO(), io.BytesIO()
    fig.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    fig.savefig(png, format="png", dpi=110, metadata={"Software": None})
    plt.close(fig)
    # 128 colours look the same in a plot, and take a third of the room.
    few_colours = Image.open(png).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    few_colours.save(small_png, "png", optimize=True)
    show_bundle(
        {"image/svg+xml": _compact(svg.getvalue()), "image/png": small_png.getvalue(), "text/plain": alt},
        raw=True,
    )


def _compact(svg: str) -> str:
    """Write a stored figure in half the room: short names, small numbers, nothing that isn't drawn."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(?<=[>;:]) ", "", re.sub(r"\s+", " ", svg))
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"\b([1-9]\d*\.\d\d)\d+", r"\1", svg)  # to 1/100 of a point
    svg = re.sub(FONT.replace(" ", "") + r"-(\w)\w*-", r"\1", svg)  # a glyph's name, as R41
    same_style = r'<g([^>]*)>(<use [^>]*?( style="[^"]*")/>(?:<use [^>]*?\3/>)*)</g>'
    svg = re.sub(same_style, lambda g: f"<g{g[1]}{g[3]}>{g[2].replace(g[3], '')}</g>", svg)
    svg = re.sub(r'(<use [^>]*)transform="translate\((\S+) 0\)"', r'\1x="\2"', svg)
    svg = re.sub(r'd="([^".]*)" transform="scale\(0\.015625\)"', _small_steps, svg)
    return svg.replace('"', "'")  # which JSON needn't escape


def _small_steps(glyph: re.Match) -> str:
    """Write a glyph's outline by steps from point to point, on a grid eight times as coarse."""
    steps, here, start = [], (0, 0), (0, 0)
    for command, numbers in re.findall(r"([MLQCz])([^MLQCz]*)", glyph[1]):
        points = [round(int(number) / 8) for number in numbers.split()]
        steps += [command.lower(), " ".join(str(p - here[i % 2]) for i, p in enumerate(points))]
        here = tuple(points[-2:]) if points else start
        start = here if command == "M" else start
    return f'd="{"".join(steps).replace(" -", "-")}" transform="scale(0.125)"'


def shades(color: str = BLUE) -> ListedColormap:
    """Make a map from 0 to 1 that is one colour, from clear to solid: it reads on light and dark paper.

    Parameters
    ----------
    color : str
        One of this module's colours.

    Returns
    -------
    ListedColormap
    """
    steps = np.linspace(0, 1, 101)[:, None]
    return ListedColormap(np.hstack([np.tile(to_rgb(color), (101, 1)), steps]))


def heatmap(
    weights: np.ndarray,
    ax: Axes | None = None,
    *,
    rows: list[str] | None = None,
    columns: list[str] | None = None,
    values: bool = False,
    color: str = BLUE,
) -> Axes:
    """Draw attention weights on the one scale of the book: clear is 0, solid is 1.

    Parameters
    ----------
    weights : array or tensor of shape (query, key)
        Between 0 and 1; of any precision, with gradients or without.
    ax : Axes, optional
        Where to draw; a new figure if left out.
    rows, columns : list of str, optional
        Labels of the queries and of the keys, drawn as they are written: tokens as ``$$`` are no formulas.
    values : bool
        Whether to write each weight into its cell.
    color : str
        One of this module's colours.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If a weight isn't between 0 and 1, there is none, or the labels don't match the shape.
    """
    weights = _array(weights)
    if weights.ndim != 2 or 0 in weights.shape:
        raise ValueError(f"weights must have shape (query, key), at least 1 each, got shape {weights.shape}")
    if not ((weights >= -1e-6) & (weights <= 1 + 1e-6)).all():
        raise ValueError(f"weights must lie between 0 and 1, got {weights.min()} to {weights.max()}")
    for name, labels, n in (("rows", rows, weights.shape[0]), ("columns", columns, weights.shape[1])):
        if labels is not None and len(labels) != n:
            raise ValueError(f"{name} needs one label for each of the {n}, got {len(labels)}")
    ax = figure()[1] if ax is None else ax
    mesh = ax.pcolormesh(weights, cmap=shades(color), vmin=0, vmax=1, edgecolor=GRID, linewidth=0.4)
    mesh.set_antialiased(True)
    ax.invert_yaxis()
    ax.set_aspect("equal")
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for axis, labels in ((ax.xaxis, columns), (ax.yaxis, rows)):
        axis.set_ticks([])
        if labels is not None:
            axis.set_ticks(np.arange(len(labels)) + 0.5, labels, parse_math=False)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    if values:
        for (i, j), weight in np.ndenumerate(weights):
            shade = PAPER if weight > 0.75 else INK
            ax.text(j + 0.5, i + 0.5, f"{weight:.2f}", ha="center", va="center", color=shade, fontsize=9)
    return ax


def spread(
    x: np.ndarray, runs: np.ndarray, ax: Axes | None = None, *, label: str | None = None, **line
) -> Axes:
    """Draw the mean over seeds as a line and every seed as a dot, so that nothing hides in an average.

    Parameters
    ----------
    x : array or tensor of shape (setting,)
    runs : array or tensor of shape (setting, seed)
    ax : Axes, optional
        Where to draw; a new figure if left out.
    label : str, optional
        Name of the line in a legend.
    **line
        Handed to ``ax.plot``, as ``color`` and ``linestyle``.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If ``x`` and ``runs`` differ in their number of settings.
    """
    x, runs = _array(x), _array(runs)
    if runs.ndim != 2 or len(runs) != len(x):
        raise ValueError(f"runs must have shape (setting, seed) with {len(x)} settings, got {runs.shape}")
    ax = figure()[1] if ax is None else ax
    (mean,) = ax.plot(x, runs.mean(1), label=label, **line)
    ax.plot(
        np.repeat(x, runs.shape[1]), runs.ravel(), linestyle="none", marker=".", markersize=4,
        color=mean.get_color(), alpha=0.5,
    )  # fmt: skip
    return ax


def _array(values) -> np.ndarray:
    if hasattr(values, "detach"):  # a tensor of torch, maybe with gradients or in bfloat16
        values = values.detach().double().cpu()
    return np.asarray(values, dtype=float)
