"""Figures that keep the book's contract, and one that breaks each of its rules."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pytest

from ugmm_tutorial.teaching import plotting
from ugmm_tutorial.teaching.figure_contract import broken_rules
from ugmm_tutorial.training.records import Record
from ugmm_tutorial.uncertainty import Reliability

mpl.use("Agg")


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        plotting.use_style()
        yield
    plt.close("all")


def sound():
    fig, ax = plt.subplots()
    ax.plot([0, 1], [0, 1], label="one")
    ax.plot([0, 1], [1, 0], "--", color="gray", label="other")
    ax.set(xlabel="time (s)", ylabel="loss (nats)")
    ax.legend()
    return fig, ax


def rules(fig):
    return broken_rules(fig, plotting.COLORS)


def test_a_sound_figure_breaks_nothing():
    assert rules(sound()[0]) == []


def test_pictures_of_the_package_break_nothing():
    rng = np.random.default_rng(0)
    plotting.neuron_schematic()
    plotting.broadcast_schematic()
    plotting.fused_schematic()
    plotting.mixture_density([0, 1], [1, 1], [0.5, 0.5])
    plotting.neuron_explorer([0, 1], [0, 1], [1, 1], [0.5, 0.5])
    plotting.image_grid(rng.random((4, 8, 8)), list("abcd"))
    binned = Reliability(np.array([5, 5]), np.array([0.5, 0.9]), np.array([0.6, 0.7]))
    plotting.reliability_diagram({"one": binned, "other": binned})
    summary = {"mean": 0.1, "half_width": 0.05}
    plotting.severity_curves({"one": [summary, summary], "other": [0.2, 0.3]}, ylabel="ECE (fraction)")
    plotting.heat_map(rng.random((3, 3)), label="share", xlabel="said", ylabel="label")
    grid = np.linspace(-1, 1, 9)
    plotting.response_surface(grid, grid, rng.random((9, 9)))
    metrics = tuple({"epoch": epoch, "test_loss": 1 / epoch} for epoch in (1, 2))
    runs = [Record({"seed": seed}, {}, {}, metrics, 1.0, {}) for seed in (0, 1)]
    plotting.learning_curves({"one": runs, "other": runs[:1]})
    figures = [plt.figure(number) for number in plt.get_fignums()]
    assert len(figures) == 11
    assert [rules(fig) for fig in figures] == [[]] * 11


BREAKING = {
    "x axis has no label": lambda fig, ax: ax.set_xlabel(""),
    "y axis has no label": lambda fig, ax: ax.set_ylabel(""),
    "is not of the palette": lambda fig, ax: ax.plot([0, 1], color="#ff0000"),
    "'jet' is none of": lambda fig, ax: ax.imshow(np.eye(3), cmap="jet"),
    "no legend shows them": lambda fig, ax: ax.get_legend().remove(),
    "letters of 5 points": lambda fig, ax: ax.text(0.5, 0.5, "small", fontsize=5),
    "hardly stands out": lambda fig, ax: ax.text(0.5, 0.5, "pale", color="#cccccc"),
    "background is not opaque": lambda fig, ax: fig.set_facecolor("none"),
    "colour bar has no label": lambda fig, ax: fig.colorbar(ax.imshow(np.eye(3), cmap="cividis")),
    "axes 1: colour #123abc": lambda fig, ax: ax.bar([0], [1], color="#123abc"),
}


@pytest.mark.parametrize("message", BREAKING)
def test_a_figure_that_breaks_a_rule_is_told_which(message):
    fig, ax = sound()
    BREAKING[message](fig, ax)
    assert any(message in sentence for sentence in rules(fig))


def test_shared_axes_need_one_label_and_axes_without_ticks_none():
    fig, (left, right) = plt.subplots(1, 2, sharey=True)
    left.set(xlabel="a", ylabel="both")
    right.set(xlabel="b", xticks=[])
    right.set_xlabel("")
    assert rules(fig) == []


SETUP = "import matplotlib.pyplot as plt\nfrom ugmm_tutorial.teaching import plotting\nplotting.use_style()"


@pytest.mark.slow
@pytest.mark.parametrize(("watched", "warned"), [("1", True), ("", False)])
def test_a_notebook_warns_of_its_figures_where_asked_to(monkeypatch, watched, warned, recwarn):
    """On standard error, which fails the build of the book."""
    monkeypatch.setenv("UGMM_CHECK_FIGURES", watched)
    figure = nbformat.v4.new_code_cell("plt.plot([0, 1]);")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SETUP), figure])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbclient.NotebookClient(notebook, timeout=600).execute()
    said = "".join(o.text for o in figure.outputs if o.get("name") == "stderr")
    assert ("x axis has no label" in said) == warned
    assert any("image/png" in o.get("data", {}) for o in figure.outputs)


def test_panels_of_a_notebook_all_have_the_numbers_of_their_shared_axis():
    drawing = nbformat.v4.new_code_cell("fig, axes = plt.subplots(1, 2, sharey=True)")
    asking = nbformat.v4.new_code_cell("print([ax.yaxis.get_tick_params()['labelleft'] for ax in axes])")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SETUP), drawing, asking])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbclient.NotebookClient(notebook, timeout=600).execute()
    assert asking.outputs[0].text == "[True, True]\n"
