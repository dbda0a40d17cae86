"""Figures: one look, one scale, stable bytes, words beside the picture, colours that all can tell apart."""

import io
import itertools
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from manyheads import plots

NAMED = {plots.PAPER, plots.INK, plots.MUTED, plots.GRID, *plots.SERIES}
ALT = "A line that goes from zero to one and a grid of weights."


@pytest.fixture(autouse=True)
def style():
    plots.use_style()
    yield
    plt.close("all")


def everything():
    fig, (left, right) = plots.figure(ncols=2)
    plots.spread([1, 2, 3], [[0.1, 0.2], [0.3, 0.5], [0.6, 0.7]], left, label="one head")
    left.set(title="Accuracy", xlabel="heads $h$", ylabel="share")
    left.legend()
    plots.heatmap([[0.0, 1.0], [0.25, 0.75]], right, rows=["a", "b"], columns=["c", "d"], values=True)
    return fig


@pytest.fixture
def stored(monkeypatch):
    """What a notebook would store of a figure."""

    def show(fig):
        shown = []
        monkeypatch.setattr(plots, "show_bundle", lambda data, raw: shown.append(data) if raw else None)
        plots.display(fig, alt=ALT)
        (data,) = shown
        return data

    return show


# ---------------------------------------------------------------------- display


def test_a_figure_is_stored_as_drawing_picture_and_words_and_closed(stored):
    fig = everything()
    data = stored(fig)
    assert set(data) == {"image/svg+xml", "image/png", "text/plain"}
    assert data["text/plain"] == ALT
    assert ET.fromstring(data["image/svg+xml"]).tag.endswith("svg")
    picture = Image.open(io.BytesIO(data["image/png"]))
    assert picture.format == "PNG"
    assert picture.width > 600
    assert not plt.fignum_exists(fig.number)


def test_the_same_figure_has_the_same_bytes(stored):
    assert stored(everything()) == stored(everything())


def test_a_drawing_uses_only_the_named_colours(stored):
    svg = stored(everything())["image/svg+xml"]
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", svg)) <= NAMED
    assert not re.search(r"(?:fill|stroke):\s*(?!none|#|url)\w+", svg), "a colour by another name"
    assert {plots.PAPER, plots.INK, plots.MUTED, plots.GRID, plots.BLUE} <= set(re.findall(r"#\w{6}\b", svg))


def test_a_drawing_loads_nothing(stored):
    svg = stored(everything())["image/svg+xml"]
    assert "<text" not in svg, "words are outlines: no font of the reader's is needed"
    assert not re.search(r"""(?:href|src)=["'](?!#|data:)""", svg)
    assert "dc:date" not in svg


@pytest.mark.parametrize("alt", ["", "A figure", "one two three four"])
def test_a_figure_without_words_is_refused(alt):
    fig, _ = plots.figure()
    with pytest.raises(ValueError, match="five words or more"):
        plots.display(fig, alt=alt)


# ---------------------------------------------------------------------- style


def test_the_style_forgets_what_was_set_before():
    plots.use_style()
    wanted = dict(mpl.rcParams)
    mpl.rcParams.update({"lines.linewidth": 9, "axes.facecolor": "red", "font.size": 3})
    plots.use_style()
    assert dict(mpl.rcParams) == wanted


def luminance(colour):
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot([0.2126, 0.7152, 0.0722], channels)


def site(theme):
    """The colours that the site's stylesheet puts in place of a figure's."""
    css = (Path(__file__).parents[2] / "_static" / "site.css").read_text(encoding="utf-8")
    start = {"light": ":root {", "dark": ':root[data-theme="dark"] {'}[theme]
    block = css.partition(start)[2].partition("}")[0]
    return {name.upper(): colour for name, colour in re.findall(r"--mh-(\w+): (#\w{6});", block)}


def test_the_site_in_light_has_the_colours_of_the_stored_figures():
    names = ("PAPER", "INK", "MUTED", "GRID", "BLUE", "ORANGE", "GREEN", "PURPLE")
    assert site("light") == {name: getattr(plots, name) for name in names}
    assert site("dark").keys() == site("light").keys()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["INK", "MUTED", "BLUE", "ORANGE", "GREEN", "PURPLE"])
def test_words_and_lines_stand_out_from_the_paper(theme, name):
    """WCAG 2.2: 4.5 to 1 for words."""
    light, dark = sorted((luminance(site(theme)[each]) for each in (name, "PAPER")), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def seen_by(colour, blindness):
    """CIELAB of a colour as people without red, green or blue cones see it (Machado et al. 2009)."""
    sights = {
        "usual": np.eye(3),
        "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    }
    linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)])
    linear = np.clip(sights[blindness] @ linear, 0, 1)
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]] @ linear
    f = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 0.008856))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("blindness", ["usual", "protanopia", "deuteranopia", "tritanopia"])
def test_series_can_be_told_apart(theme, blindness):
    """By colour alone they differ by four times what the eye just notices; markers differ too."""
    series = [site(theme)[name] for name in ("BLUE", "ORANGE", "GREEN", "PURPLE")]
    for one, other in itertools.combinations(series, 2):
        difference = np.linalg.norm(seen_by(one, blindness) - seen_by(other, blindness))
        assert difference > 10, f"{one} and {other} look alike: {difference:.1f}"


def test_each_line_has_a_colour_and_a_marker_of_its_own():
    _, ax = plots.figure()
    lines = [ax.plot([0, 1])[0] for _ in plots.SERIES]
    assert [to_hex(line.get_color()) for line in lines] == list(plots.SERIES)
    assert [line.get_marker() for line in lines] == list(plots.MARKERS)
    assert len(set(plots.MARKERS)) == len(plots.SERIES)


# ---------------------------------------------------------------------- heatmap and spread


def test_weights_have_one_scale_whatever_they_are():
    for weights in ([[0.0, 0.1]], [[0.9, 1.0]]):
        (mesh,) = plots.heatmap(weights).collections
        assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 1)
        np.testing.assert_allclose(mesh.get_array().ravel(), np.ravel(weights))


def test_a_shade_is_one_colour_from_clear_to_solid():
    shade = plots.shades(plots.GREEN)
    assert {to_hex(shade(x)) for x in np.linspace(0, 1, 11)} == {plots.GREEN}
    opacity = [shade(x)[3] for x in np.linspace(0, 1, 11)]
    assert (opacity[0], opacity[-1]) == (0, 1)
    assert opacity == sorted(opacity)


def test_queries_go_down_and_keys_go_right_and_each_is_labelled():
    weights = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    ax = plots.heatmap(weights, rows=["q0", "q1"], columns=["k0", "k1", "k2"], values=True)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["k0", "k1", "k2"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["q0", "q1"]
    top, bottom = (ax.transData.transform((0.5, y))[1] for y in (0.5, 1.5))
    assert top > bottom  # the first query is on top
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(j + 0.5, i + 0.5): f"{weights[i, j]:.2f}" for i in range(2) for j in range(3)}


def test_tokens_are_text():
    tokens = ["$$", "$x_1$", "{", r"\frac", " $a", "%"]
    ax = plots.heatmap(np.eye(6), rows=tokens, columns=tokens[::-1])
    ax.figure.canvas.draw()  # a formula that can't be parsed would be found here
    for axis, labels in ((ax.yaxis, tokens), (ax.xaxis, tokens[::-1])):
        assert [label.get_text() for label in axis.get_ticklabels()] == labels
        assert not any(label.get_parse_math() for label in axis.get_ticklabels())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tensors_are_drawn_as_they_come_from_a_layer(dtype):
    weights = torch.eye(2, dtype=dtype, requires_grad=True)
    (mesh,) = plots.heatmap(weights).collections
    np.testing.assert_array_equal(mesh.get_array(), np.eye(2))
    _, dots = plots.spread(torch.tensor([3, 5]), weights).lines
    np.testing.assert_array_equal(dots.get_xydata(), [[3, 1], [3, 0], [5, 0], [5, 1]])


def test_the_readers_axes_come_back():
    fig, ax = plots.figure()
    assert plots.heatmap([[1.0]], ax) is ax
    assert plots.spread([1], [[1.0]], ax) is ax
    assert plt.get_fignums() == [fig.number]
    assert plots.heatmap([[1.0]]) is not ax
    assert plots.spread([1], [[1.0]]) is not ax


@pytest.mark.parametrize(
    ("weights", "labels", "message"),
    [
        ([[0.5, 1.1]], {}, "between 0 and 1, got 0.5 to 1.1"),
        ([[-0.1]], {}, "got -0.1"),
        ([[np.nan]], {}, "nan"),
        ([0.5], {}, r"shape \(query, key\).* got shape \(1,\)"),
        ([[]], {}, r"at least 1 each, got shape \(1, 0\)"),
        (np.ones((0, 3)), {}, r"at least 1 each, got shape \(0, 3\)"),
        ([[0.5, 0.5]], {"rows": ["a", "b"]}, "rows needs one label for each of the 1, got 2"),
        ([[0.5, 0.5]], {"columns": ["a"]}, "columns needs one label for each of the 2, got 1"),
    ],
)
def test_what_are_no_weights_says_so(weights, labels, message):
    with pytest.raises(ValueError, match=message):
        plots.heatmap(weights, **labels)


def test_every_seed_is_a_dot_and_the_line_is_their_mean():
    runs = np.array([[0.0, 1.0], [2.0, 4.0], [5.0, 5.5]])
    ax = plots.spread([1, 2, 4], runs, label="h", color=plots.ORANGE)
    mean, dots = ax.lines
    np.testing.assert_allclose(mean.get_xydata(), [[1, 0.5], [2, 3.0], [4, 5.25]])
    np.testing.assert_allclose(dots.get_xydata(), [[1, 0], [1, 1], [2, 2], [2, 4], [4, 5], [4, 5.5]])
    assert to_hex(mean.get_color()) == to_hex(dots.get_color()) == plots.ORANGE
    assert dots.get_linestyle() == "None"
    assert mean.get_label() == "h"
    assert ax.get_legend_handles_labels()[1] == ["h"]


@pytest.mark.parametrize("runs", [[1.0, 2.0], [[1.0, 2.0]], np.zeros((2, 2, 2))])
def test_runs_of_another_number_of_settings_say_so(runs):
    with pytest.raises(ValueError, match=r"shape \(setting, seed\) with 2 settings"):
        plots.spread([1, 2], runs)
