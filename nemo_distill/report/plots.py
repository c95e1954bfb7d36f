"""Draws plots as SVG, in the colors of the page, and as PNG. Needs the extra [plots]."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

INK = "#1d2733"  # replaced with the text color of the page
COLOURS = ("#5a9e00", "#2f7ed8", "#d9541e", "#8e5bd0", "#0f9b8e", "#b8860b", "#c2377e", "#6b7785")
DASHES = ("-", "--", ":")
WIDTH, HEIGHT, LEGEND_LINE = 6.4, 4.0, 0.2  # inches
LONG_NAME = 32  # characters; two longer names do not fit side by side
MAX_LABELS = 10  # plots with at most this many points have all points labeled
PLACES = [(x, y) for y in (5, -5, 16, -16) for x in (5, -5)]  # offsets of a label from its point, in points
MAX_POINTS = 300  # per line; longer lines are averaged
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nemo_distill",  # makes the output reproducible
    "text.parse_math": False,  # names may contain dollar signs
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.25,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
Point = tuple[Any, float]  # a number or a name, and a number


@dataclass(frozen=True)
class Plot:
    """A plot.

    Args:
        name: name of the PNG file, without the suffix; a slash in the name of a key or scalar has become `_`.
        title: the title above the plot.
        svg: an `<svg>` element.
        png: the content of the PNG file.
    """

    name: str
    title: str
    svg: str
    png: bytes


def plotting_problems(script: str) -> list[str]:
    """Returns a sentence if the package for plots is not installed. `script` is the command that needs it."""
    return [] if find_spec("matplotlib") else [f"{script} needs matplotlib: pip install 'nemo_distill[plots]'."]


def front(points: Mapping[str, Point], smaller_is_better: tuple[bool, bool]) -> list[str]:
    """Returns the names on the Pareto front, best x first: no other point is at least as good in both x and y.

    Args:
        points: the points by name.
        smaller_is_better: for x and for y.
    """
    signs = [1 if smaller else -1 for smaller in smaller_is_better]
    costs = {name: (signs[0] * x, signs[1] * y) for name, (x, y) in points.items()}
    best, names = float("inf"), []
    for name, (_, y) in sorted(costs.items(), key=lambda item: item[1]):
        if y < best:
            best = y
            names.append(name)
    return names


def front_plot(
    name: str, title: str, labels: tuple[str, str], points: Mapping[str, Point], smaller_is_better: tuple[bool, bool]
) -> Plot:
    """Plots systems by x, on a logarithmic axis, and quality. A line connects the points on the Pareto front.

    The points on the front are labeled. If there are few points, all are labeled.

    Args:
        name: see `Plot`.
        title: see `Plot`.
        labels: labels of both axes.
        points: the points by system name.
        smaller_is_better: for x and for y.
    """
    names = front(points, smaller_is_better)

    def draw(axes: Any) -> None:
        from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.plot(*zip(*(points[one] for one in names)), color=COLOURS[0], alpha=0.6)
        for one, (x, y) in points.items():
            axes.plot(x, y, "o", color=COLOURS[0 if one in names else -1])
        axes.margins(0.2)
        others = [one for one in points if one not in names and len(points) <= MAX_LABELS]
        _name_points(axes, {one: points[one] for one in (*names, *others)}, points.values())

    return _plot(name, title, labels, draw)


def _name_points(axes: Any, named: Mapping[str, Point], points: Iterable[Point]) -> None:
    """Puts each label where it covers the fewest other labels and points and stays inside the plot."""
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()  # computes the layout
    inside = axes.get_window_extent()
    taken = [Bbox([(x, y), (x, y)]).padded(4) for x, y in map(axes.transData.transform, points)]
    for name, point in named.items():
        texts = []
        for x, y in PLACES:
            alignment = {"ha": "left" if x > 0 else "right", "va": "bottom" if y > 0 else "top"}
            place = {"xytext": (x, y), "textcoords": "offset points", "fontsize": "small", **alignment}
            texts.append(axes.annotate(name, point, **place, in_layout=False))
        boxes = [text.get_window_extent() for text in texts]
        best = min(range(len(PLACES)), key=lambda place: _cover(boxes[place], taken, inside))
        taken.append(boxes[best])
        for text in texts[:best] + texts[best + 1 :]:
            text.remove()


def _cover(box: Any, taken: Sequence[Any], inside: Any) -> int:
    """Returns how many boxes a label would cover. Leaving the plot area counts as one."""
    return box.count_overlaps(taken) + (inside.count_contains(box.corners()) < 4)


def line_plot(
    name: str, title: str, labels: tuple[str, str], lines: Mapping[str, Sequence[Point]], marker: str = ""
) -> Plot:
    """Plots one line per name. `marker` is drawn at each point; by default only if a line has a single point."""

    columns = 1 if any(len(label) > LONG_NAME for label in lines) else 2

    def draw(axes: Any) -> None:
        for index, (label, points) in enumerate(lines.items()):
            dashes, colour = divmod(index, len(COLOURS))
            style = {"color": COLOURS[colour], "linestyle": DASHES[dashes % len(DASHES)]}
            style["marker"] = marker or ("o" if len(points) == 1 else "")
            shown = f" {label}" if label.startswith("_") else label  # matplotlib's legends leave out such names
            axes.plot(*zip(*thinned(points)), label=shown, **style)
        if len(lines) > 1:
            axes.figure.legend(loc="outside lower center", ncols=columns, fontsize="small", frameon=False)

    return _plot(name, title, labels, draw, LEGEND_LINE * len(lines) / columns)


def thinned(points: Sequence[Point]) -> list[Point]:
    """Returns at most `MAX_POINTS` points, each the mean of several neighbors."""
    width = -(-len(points) // MAX_POINTS)
    chunks = [points[start : start + width] for start in range(0, len(points), width)]
    return [(chunk[-1][0], sum(value for _, value in chunk) / len(chunk)) for chunk in chunks]


def _plot(name: str, title: str, labels: tuple[str, str], draw: Any, legend: float = 0.0) -> Plot:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    svg, png = io.StringIO(), io.BytesIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT + legend), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.grid(True)
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
        axes.set_title(title)
        figure.savefig(png, format="png", dpi=150)
    drawing = svg.getvalue()
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing[drawing.index("<svg") :], flags=re.DOTALL)
    return Plot(name.replace("/", "_"), title, drawing.replace(INK, "currentColor"), png.getvalue())
