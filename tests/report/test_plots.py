import re

import pytest

from nemo_distill.report.plots import MAX_POINTS, front, front_plot, line_plot, plotting_problems, thinned

LABELS = ("x", "y")


@pytest.mark.parametrize(
    ("points", "smaller_is_better", "names"),
    [
        ({"small": (1, 10), "large": (5, 20), "worse": (4, 9)}, (True, False), ["small", "large"]),
        ({"slow": (1, 20), "fast": (5, 10), "worse": (4, 9)}, (False, False), ["fast", "slow"]),
        ({"one": (1, 10), "other": (1, 11)}, (True, False), ["other"]),
        ({"one": (1, 10), "larger": (2, 10)}, (True, False), ["one"]),
        ({"small": (1, 60), "large": (5, 50), "worse": (4, 61)}, (True, True), ["small", "large"]),
    ],
)
def test_a_front_holds_what_nothing_else_beats(points, smaller_is_better, names):
    assert front(points, smaller_is_better) == names


def test_a_long_curve_is_thinned_to_means_of_neighbours():
    assert thinned([(1, 2.0), (2, 4.0)]) == [(1, 2.0), (2, 4.0)]
    points = thinned([(step, float(step % 2)) for step in range(2 * MAX_POINTS)])
    assert len(points) == MAX_POINTS and set(points) == {(2 * index + 1, 0.5) for index in range(MAX_POINTS)}


def test_a_plot_takes_the_pages_colours_and_gives_the_same_bytes_again():
    pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")
    points = {"$a_1$ <script>alert(1)</script>": (1000, 30.0), "b": (100, 20.0)}
    first, second = (front_plot("front", "Front", LABELS, points, (True, False)) for _ in range(2))
    assert first == second
    assert first.svg.startswith("<svg") and "currentColor" in first.svg and "#1d2733" not in first.svg
    assert "<script" not in first.svg and "$a_1$ &lt;script&gt;" in first.svg
    assert first.png.startswith(b"\x89PNG")


def test_each_line_has_its_name():
    pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")
    lines = {"slim": [(0.5, 20.0), (1.0, 21.0)], "wide": [(0.5, 22.0)], "_target_=Own": [(0.5, 23.0)]}
    plot = line_plot("sweep_model/size", "Sweep", LABELS, lines, marker="o")
    assert all(name in plot.svg for name in lines) and plot.name == "sweep_model_size"


def test_a_curve_of_one_point_is_seen():
    pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")
    one, two = (
        line_plot("curve", "Curve", LABELS, {"a": points}).svg for points in ([(1, 2.0)], [(1, 2.0), (2, 3.0)])
    )
    assert re.findall(r"<use [^>]*style=.fill: #5a9e00", one) and not re.findall(
        r"<use [^>]*style=.fill: #5a9e00", two
    )


def test_the_names_of_two_points_at_one_place_stand_apart():
    pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")
    points = {"hybrid": (1000, 30.0), "interpolation": (1001, 30.01), "small": (10, 20.0)}
    svg = front_plot("front", "Front", LABELS, points, (True, False)).svg
    places = {name: re.search(rf"<text ([^>]*)>{name}</text>", svg)[1] for name in points}
    anchors = {name: re.search(r"text-anchor: (\w+)", place)[1] for name, place in places.items()}
    heights = {name: float(re.search(r' y="(\S+)"', place)[1]) for name, place in places.items()}
    same_side = anchors["hybrid"] == anchors["interpolation"]
    assert abs(heights["hybrid"] - heights["interpolation"]) > 8 or not same_side


def test_a_missing_library_is_told_before_anything_is_drawn(monkeypatch):
    assert plotting_problems("report.py") == []
    monkeypatch.setattr("nemo_distill.report.plots.find_spec", lambda name: None)
    assert plotting_problems("report.py") == ["report.py needs matplotlib: pip install 'nemo_distill[plots]'."]
