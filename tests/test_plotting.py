"""Figures show what they say: the right curves, labels and colours, in the axes they were given."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from ugmm_tutorial import plotting, records
from ugmm_tutorial.functional import component_log_densities, responsibilities, ugmm_log_density
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
    ax = plotting.neuron_schematic(num_inputs=4)
    texts = [text.get_text() for text in ax.texts]
    assert [f"$x_{k}$" for k in range(1, 5)] == [t for t in texts if t.startswith("$x_")]
    with pytest.raises(ValueError, match="num_inputs >= 1, got 0"):
        plotting.neuron_schematic(0)


def test_dashed_mixture_is_the_sum_of_the_components_and_has_area_one():
    ax = plotting.mixture_density([-2, 0.5, 3], [0.6, 1, 0.8], [0.3, 0.45, 0.25])
    *components, mixture = ax.lines
    assert mixture.get_linestyle() == "--"
    np.testing.assert_allclose(sum(line.get_ydata() for line in components), mixture.get_ydata())
    assert np.trapezoid(mixture.get_ydata(), mixture.get_xdata()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("std", "weight"), [([1.0], [0.5, 0.5]), ([1.0, 0.0], [0.5, 0.5])])
def test_mixture_refuses_lengths_and_deviations_that_cannot_be(std, weight):
    with pytest.raises(ValueError, match="one length with std > 0"):
        plotting.mixture_density([0.0, 1.0], std, weight)


def test_learning_curve_is_the_mean_over_seeds_and_the_band_their_range():
    ax = plotting.learning_curves(
        {"net": [record([3.0, 1.0]), record([5.0, 2.0], seed=1)], "other": [record([1, 1])]}
    )
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [4.0, 1.5])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 1.0
    assert band[:, 1].max() == 5.0
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["net (2 seeds)", "other"]
    assert ax.get_ylabel() == "test loss (nats)"


def test_learning_curves_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"one length for 'net', got \[1, 2\]"):
        plotting.learning_curves({"net": [record([1.0]), record([1.0, 2.0])]})
    with pytest.raises(ValueError, match="one length"):
        plotting.learning_curves({"net": []})


def test_reliability_diagram_shows_every_bin_with_its_interval_and_the_diagonal():
    ax = plotting.reliability_diagram({"net": binned(), "other": binned()})
    points = ax.lines[0]
    np.testing.assert_allclose(points.get_xdata(), [0.6, 0.9])
    np.testing.assert_allclose(points.get_ydata(), [0.5, 1.0])
    bars = [segment[:, 1] for segment in ax.collections[0].get_segments()]
    exact = [binomtest(k, 50).proportion_ci() for k in (25, 50)]
    np.testing.assert_allclose(bars, [[ci.low, ci.high] for ci in exact], rtol=1e-6)
    diagonal = ax.lines[-1]
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
    assert ax.get_ylabel() == "NLL (nats)"
    for wrong in ({}, {"a": [], "b": []}, {"a": [1.0], "b": [1.0, 2.0]}):
        with pytest.raises(ValueError, match="curves of one length"):
            plotting.severity_curves(wrong, ylabel="y")


def test_heat_map_can_write_its_numbers():
    ax = plotting.heat_map([[0.25, 0.75]], label="l", xlabel="x", ylabel="y", annotate=True)
    assert [text.get_text() for text in ax.texts] == ["0.25", "0.75"]


def test_image_grid_takes_both_shapes_and_refuses_others():
    images = np.random.default_rng(0).random((5, 1, 8, 8))
    assert len(plotting.image_grid(images, list("abcde"), columns=3).images) == 5
    assert len(plotting.image_grid(images[:, 0], list("abcde")).images) == 5
    for wrong, titles in ((images[:0], []), (images, ["too few"]), (np.eye(3), ["a"] * 3)):
        with pytest.raises(ValueError, match="expected images"):
            plotting.image_grid(wrong, titles)


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
    shares = responsibilities(torch.tensor([x]), *parameters).flatten().tolist()
    expected = [f"component {k}: $r_{{{k}}}$={share:.3f}" for k, share in enumerate(shares, start=1)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*expected, "mixture"]
    out = ugmm_log_density(torch.tensor([x]), *parameters).item()
    assert ax.get_title() == f"output {out:.3f} nats"


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
