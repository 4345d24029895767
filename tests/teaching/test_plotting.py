"""Figures show what they say: the right curves, labels and colours, in the axes they were given."""

import math

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from scipy.integrate import trapezoid
from scipy.stats import binomtest, norm

from ugmm_tutorial.functional import component_log_densities, responsibilities, ugmm_log_density
from ugmm_tutorial.teaching import plotting
from ugmm_tutorial.training import records
from ugmm_tutorial.uncertainty import Reliability

mpl.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _fresh_figures():
    with mpl.rc_context():
        yield
    plt.close("all")


def record(losses, seed=0):
    metrics = tuple({"epoch": n, "test_loss": loss} for n, loss in enumerate(losses, start=1))
    return records.Record({"seed": seed}, {}, {}, metrics, 1.0, {})


def binned():
    return Reliability(np.array([50, 50]), np.array([0.6, 0.9]), np.array([0.5, 1.0]))


def drawings():
    grid = np.linspace(-1, 1, 5)
    return {
        "neuron_schematic": lambda ax: plotting.neuron_schematic(2, ax),
        "broadcast_schematic": plotting.broadcast_schematic,
        "fused_schematic": plotting.fused_schematic,
        "mixture_density": lambda ax: plotting.mixture_density([0, 1], [1, 2], [0.5, 0.5], ax),
        "neuron_explorer": lambda ax: plotting.neuron_explorer([0, 3], [0, 1], [1, 2], [0.5, 0.5], ax),
        "response_surface": lambda ax: plotting.response_surface(grid, grid, np.outer(grid, grid), ax),
        "heat_map": lambda ax: plotting.heat_map(np.eye(2), ax, label="l", xlabel="x", ylabel="y"),
        "learning_curves": lambda ax: plotting.learning_curves({"a": [record([2.0, 1.0])]}, ax=ax),
        "reliability_diagram": lambda ax: plotting.reliability_diagram({"a": binned()}, ax),
        "severity_curves": lambda ax: plotting.severity_curves({"a": [0.1, 0.2]}, ax, ylabel="y"),
        "image_grid": lambda ax: plotting.image_grid(np.eye(4)[None], ["one"], ax),
    }


def test_every_public_drawing_is_tested_here():
    assert set(plotting.__all__) == set(drawings()) | {"COLORS", "use_style"}


@pytest.mark.parametrize("name", drawings())
def test_drawing_goes_into_the_given_axes_or_new_ones(name):
    ax = plt.subplots()[1]
    assert drawings()[name](ax) is ax
    assert ax.lines or ax.patches or ax.images or ax.collections
    other = drawings()[name](None)
    assert other is not ax
    assert other.figure is not ax.figure


@pytest.mark.parametrize("name", drawings())
def test_drawing_renders_without_a_warning(name):
    plotting.use_style()
    drawings()[name](None).figure.canvas.draw()


def test_schematic_has_a_circle_and_a_label_for_every_input():
    ax = plotting.neuron_schematic(num_inputs=11)
    texts = [text.get_text() for text in ax.texts]
    # In braces: without them only the first digit would be lowered.
    assert [f"$x_{{{k}}}$" for k in range(1, 12)] == [t for t in texts if t.startswith("$x_")]
    with pytest.raises(ValueError, match="num_inputs >= 1, got 0"):
        plotting.neuron_schematic(0)
    with pytest.raises(TypeError, match=r"num_inputs to be an integer, got 2\.5"):
        plotting.neuron_schematic(2.5)


def test_dashed_mixture_is_the_sum_of_the_components_and_has_area_one():
    ax = plotting.mixture_density([-2, 0.5, 3], [0.6, 1, 0.8], [0.3, 0.45, 0.25])
    *components, mixture = ax.lines
    assert mixture.get_linestyle() == "--"
    np.testing.assert_allclose(sum(line.get_ydata() for line in components), mixture.get_ydata())
    assert trapezoid(mixture.get_ydata(), mixture.get_xdata()) == pytest.approx(1, abs=1e-3)


def test_a_narrow_component_is_as_high_as_its_density_beside_a_wide_one():
    mean, std, weight = [0.3337, -1.0], [1e-3, 1.0], [0.5, 0.5]
    ax = plotting.mixture_density(mean, std, weight)
    for line, peak in zip(ax.lines, (0.5 * norm.pdf(0, 0, 1e-3), 0.5 * norm.pdf(0)), strict=False):
        assert line.get_ydata().max() == pytest.approx(peak, rel=1e-6)
    mixture = ax.lines[2]
    assert trapezoid(mixture.get_ydata(), mixture.get_xdata()) == pytest.approx(1, abs=1e-3)
    assert (np.diff(mixture.get_xdata()) > 0).all()
    shades = [band.get_facecolor()[0] for band in ax.collections]
    assert [mpl.colors.to_hex(shade) for shade in shades] == [c.lower() for c in plotting.COLORS[:2]]
    assert all(0 < shade[3] < 1 for shade in shades)


@pytest.mark.parametrize(
    ("mean", "std", "weight", "match"),
    [
        ([0.0, 1.0], [1.0], [0.5, 0.5], "one length, at least 1, got 2, 1 and 2"),
        ([], [], [], "one length, at least 1, got 0, 0 and 0"),
        ([0.0, 1.0], [1.0, 0.0], [0.5, 0.5], "finite numbers with std > 0"),
        ([np.nan, 1.0], [1.0, 1.0], [0.5, 0.5], "finite numbers with std > 0"),
        ([0.0, 1.0], [1.0, np.inf], [0.5, 0.5], "finite numbers with std > 0"),
    ],
)
def test_mixture_refuses_what_is_none(mean, std, weight, match):
    with pytest.raises(ValueError, match=match):
        plotting.mixture_density(mean, std, weight)


def test_learning_curve_is_the_mean_over_seeds_and_the_band_their_range():
    ax = plotting.learning_curves(
        {"net": [record([3.0, 1.0]), record([5.0, 2.0], seed=1)], "other": [record([1, 1])]}
    )
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [4.0, 1.5])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 1.0
    assert band[:, 1].max() == 5.0
    assert 0 < ax.collections[0].get_facecolor()[0, 3] < 1
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["net (2 seeds)", "other"]
    assert ax.get_ylabel() == "test loss (nats)"


def test_learning_curves_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"runs with records of one length, got \[1, 2\] for 'net'"):
        plotting.learning_curves({"net": [record([1.0]), record([1.0, 2.0])]})
    with pytest.raises(ValueError, match="one length"):
        plotting.learning_curves({"net": []})
    with pytest.raises(ValueError, match="at least one run, got none"):
        plotting.learning_curves({})


def test_reliability_diagram_shows_every_bin_with_its_interval_and_the_diagonal():
    ax = plotting.reliability_diagram({"net": binned(), "other": binned()})
    points = ax.lines[0]
    np.testing.assert_allclose(points.get_xdata(), [0.6, 0.9])
    np.testing.assert_allclose(points.get_ydata(), [0.5, 1.0])
    bars = [segment[:, 1] for segment in ax.collections[0].get_segments()]
    exact = [binomtest(k, 50).proportion_ci() for k in (25, 50)]
    np.testing.assert_allclose(bars, [[ci.low, ci.high] for ci in exact], rtol=1e-6)
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xlim()[0] < 0.5
    assert ax.get_xlim()[1] > 1.0
    diagonal = ax.lines[-1]
    np.testing.assert_allclose(diagonal.get_xdata(), ax.get_xlim())
    np.testing.assert_allclose(diagonal.get_xdata(), diagonal.get_ydata())
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["net (ECE 0.100)", "other (ECE 0.100)"]
    with pytest.raises(ValueError, match="at least one network"):
        plotting.reliability_diagram({})


def test_severity_curves_show_means_and_the_intervals_that_are_given():
    summaries = [{"mean": 1.0, "half_width": 0.5}, {"mean": 2.0, "half_width": None}]
    ax = plotting.severity_curves({"net": summaries, "other": [3.0, 4.0]}, ylabel="NLL (nats)")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1.0, 2.0])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [3.0, 4.0])
    np.testing.assert_allclose(ax.lines[1].get_xdata(), [0, 1])
    (band,) = ax.collections
    assert band.get_paths()[0].vertices[:, 1].min() == 0.5
    assert band.get_paths()[0].vertices[:, 1].max() == 2.0
    assert 0 < band.get_facecolor()[0, 3] < 1
    assert ax.get_ylabel() == "NLL (nats)"
    for wrong in ({}, {"a": [], "b": []}, {"a": [1.0], "b": [1.0, 2.0]}):
        with pytest.raises(ValueError, match="curves of one length"):
            plotting.severity_curves(wrong, ylabel="y")


def test_heat_map_has_its_rows_from_top_to_bottom_and_can_write_its_numbers():
    ax = plotting.heat_map([[0.25, 0.75], [1, 2]], label="l", xlabel="x", ylabel="y", annotate=True)
    (mesh,) = ax.collections
    np.testing.assert_allclose(mesh.get_array(), [[0.25, 0.75], [1, 2]])
    assert ax.yaxis_inverted()
    written = {text.get_text(): text.get_position() for text in ax.texts}
    for wrong, shape in (([], r"\(0,\)"), ([[], []], r"\(2, 0\)"), ([1.0, 2.0], r"\(2,\)")):
        with pytest.raises(ValueError, match=rf"values of shape \(rows, columns\), .* got {shape}"):
            plotting.heat_map(wrong, label="l", xlabel="x", ylabel="y")
    assert written == {"0.25": (0.5, 0.5), "0.75": (1.5, 0.5), "1.00": (0.5, 1.5), "2.00": (1.5, 1.5)}
    counts = [[math.nan, 3], [0, math.nan]]
    ax = plotting.heat_map(counts, label="l", xlabel="x", ylabel="y", annotate=True, numbers=".0f")
    assert [text.get_text() for text in ax.texts] == ["3", "0"]  # the others are blank


def test_response_surface_has_each_value_in_its_place_and_a_bar_that_says_which():
    x1, x2 = np.linspace(-1, 1, 6), np.linspace(0, 3, 8)
    ax = plotting.response_surface(x1, x2, x1 + 10 * x2[:, None], label="log-density (nats)")
    filled, lines = ax.collections
    assert filled.levels[0] <= -1
    assert filled.levels[-1] >= 31
    # Between the points of the grid contours are straight, and so is this function.
    for low, high, path in zip(filled.levels[:-1], filled.levels[1:], filled.get_paths(), strict=True):
        if len(path.vertices):
            value = path.vertices @ [1, 10]
            assert low - 1e-9 <= value.min() <= value.max() <= high + 1e-9
    assert sum(len(path.vertices) > 0 for path in filled.get_paths()) >= 5
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        np.testing.assert_allclose(path.vertices @ [1, 10], level, atol=1e-9)
    assert filled.colorbar.ax.get_ylabel() == "log-density (nats)"
    shades = filled.cmap(filled.norm(filled.levels))[:, :3].sum(axis=1)
    assert (np.diff(shades) <= 0).all()  # darker is higher
    assert (ax.get_xlim(), ax.get_ylim()) == ((-1, 1), (0, 3))


def test_image_grid_takes_both_shapes_and_refuses_others():
    images = np.random.default_rng(0).random((5, 1, 8, 8))
    assert len(plotting.image_grid(images, list("abcde"), columns=3).images) == 5
    assert len(plotting.image_grid(images[:, 0], list("abcde")).images) == 5
    for wrong, titles in ((images[:0], []), (images, ["too few"]), (np.eye(3), ["a"] * 3)):
        with pytest.raises(ValueError, match="expected images"):
            plotting.image_grid(wrong, titles)
    with pytest.raises(ValueError, match=r"expected images .* got \(2, 3, 8, 8\) and 2 titles"):
        plotting.image_grid(np.zeros((2, 3, 8, 8)), ["a", "b"])
    for columns in (0, -1):
        with pytest.raises(ValueError, match=f"columns >= 1, got {columns}"):
            plotting.image_grid(images, list("abcde"), columns=columns)


def test_images_stand_upright_one_beside_the_other_with_their_titles_above():
    images = np.random.default_rng(0).random((5, 6, 9))
    ax = plotting.image_grid(images, list("abcde"), columns=3)
    right, low = ax.get_xlim()[1], ax.get_ylim()[0]
    ends = []  # left, right, bottom, top of each; down is positive
    for shown, image, title in zip(ax.images, images, ax.texts, strict=True):
        np.testing.assert_allclose(shown.get_array(), image)
        assert shown.origin == "upper"
        left_end, right_end, bottom, top = shown.get_extent()
        assert (right_end - left_end, bottom - top) == pytest.approx((9, 6))
        assert 0 <= left_end < right_end <= right
        assert 0 <= top < bottom <= low
        assert title.get_position()[0] == pytest.approx((left_end + right_end) / 2)
        assert top - 1 < title.get_position()[1] <= top
        assert (title.get_ha(), title.get_va()) == ("center", "bottom")
        ends.append((left_end, right_end, bottom, top))
    assert ax.yaxis_inverted()
    assert [text.get_text() for text in ax.texts] == list("abcde")
    for number, (left_end, _, _, top) in enumerate(ends):
        if number % 3:
            assert left_end > ends[number - 1][1]
            assert top == ends[number - 1][3]
        else:
            assert left_end == ends[0][0]
            assert number == 0 or top > ends[number - 1][2]


def test_images_of_a_grid_share_one_scale_from_white_for_zero():
    def shades(images):
        ax = plotting.image_grid(images, ["t"] * len(images))
        return [i.cmap(i.norm(i.get_array()))[..., 0].ravel().tolist() for i in ax.images]

    zeros, ones, halves = shades(np.stack([np.full((1, 2), v) for v in (0.0, 1.0, 0.5)]))
    assert zeros == [1.0, 1.0]
    assert ones == [0.0, 0.0]
    assert halves == pytest.approx([0.5, 0.5], abs=0.01)
    below, zero, above = shades(np.array([-1.0, 0.0, 3.0]).reshape(3, 1, 1))
    assert (below, above) == ([1.0], [0.0])
    assert zero == pytest.approx([0.75], abs=0.01)
    assert shades(np.zeros((2, 1, 1))) == [[1.0], [1.0]]
    assert shades(np.array([5.0, 10.0]).reshape(2, 1, 1)) == [pytest.approx([0.5], abs=0.01), [0.0]]


def test_colors_differ_in_lightness_or_hue_for_every_pair():
    rgb = np.array([mpl.colors.to_rgb(color) for color in plotting.COLORS])
    gaps = np.linalg.norm(rgb[:, None] - rgb, axis=-1)[np.triu_indices(len(rgb), k=1)]
    assert gaps.min() > 0.25


def test_neuron_explorer_marks_each_component_at_its_own_input():
    x, mean, std, weight = [-1.5, 1.0, 2.0], [-2, 0.5, 3], [0.6, 1, 0.8], [0.3, 0.45, 0.25]
    parameters = (torch.tensor([mean]), torch.tensor([std]).log(), torch.tensor([weight]).log())
    ax = plotting.neuron_explorer(x, mean, std, weight)
    markers = ax.lines[4:]  # after three components and the mixture
    assert [line.get_xdata()[0] for line in markers] == x
    heights = component_log_densities(torch.tensor([x]), *parameters).exp().flatten()
    np.testing.assert_allclose([line.get_ydata()[0] for line in markers], heights, rtol=1e-5)
    stems = [lines for lines in ax.collections if isinstance(lines, LineCollection)]
    ends = [lines.get_segments()[0] for lines in stems]
    np.testing.assert_allclose(ends, [[[v, 0], [v, h]] for v, h in zip(x, heights, strict=True)], rtol=1e-5)
    for stem, curve in zip(stems, ax.lines, strict=False):
        assert mpl.colors.same_color(stem.get_color()[0], curve.get_color())
    assert [text.xy for text in ax.texts] == [(v, 0) for v in x]
    assert [text.get_text() for text in ax.texts] == ["$x_{1}$", "$x_{2}$", "$x_{3}$"]
    shares = responsibilities(torch.tensor([x]), *parameters).flatten().tolist()
    expected = [f"component {k}: $r_{{{k}}}$={share:.3f}" for k, share in enumerate(shares, start=1)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*expected, "mixture"]
    out = ugmm_log_density(torch.tensor([x]), *parameters).item()
    assert ax.get_title() == f"output {out:.3f} nats"


def test_the_marker_on_a_narrow_component_stands_inside_of_the_axes():
    ax = plotting.neuron_explorer([0.3337, 0.0], [0.3337, -1.0], [1e-3, 1.0], [0.5, 0.5])
    markers = ax.lines[3:]
    assert markers[0].get_ydata()[0] == pytest.approx(0.5 * norm.pdf(0, 0, 1e-3))
    assert all(0 < marker.get_ydata()[0] < ax.get_ylim()[1] for marker in markers)


def test_neuron_explorer_adds_to_what_its_axes_already_hold_and_takes_a_weight_of_zero():
    ax = plt.subplots()[1]
    ax.plot([0, 1], [0, 1], label="mine")
    plotting.neuron_explorer([0, 9e3], [0, 0], [1, 1], [0, 1], ax)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["mine", "component 1: $r_{1}$=0.000", "component 2: $r_{2}$=1.000", "mixture"]


@pytest.mark.parametrize(
    ("x", "std", "weight", "match"),
    [
        ([0.0], [1.0, 1.0], [0.5, 0.5], "got 1 for 2"),
        ([0.0, 0.0], [1.0, 0.0], [0.5, 0.5], "std > 0"),
        ([0.0, 0.0], [1.0, 1.0], [0.0, 0.0], "not all zero"),
        ([0.0, 0.0], [1.0, 1.0], [1.5, -0.5], "weights >= 0"),
    ],
)
def test_neuron_explorer_refuses_what_is_no_neuron(x, std, weight, match):
    with pytest.raises(ValueError, match=match):
        plotting.neuron_explorer(x, [0.0, 1.0], std, weight)
