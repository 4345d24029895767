"""The viewer's data are the responsibilities it was given, and its grid draws them."""

import base64
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ugmm_tutorial.teaching.viewer import SubmodeViewer

J, C, H, W = 3, 4, 5, 6


@pytest.fixture
def given():
    draw = np.random.default_rng(0)
    shares = draw.dirichlet(np.full(H * W, 0.3), size=(J, C))
    return shares, draw.normal(size=(J, C)), draw.random((C, H * W))


@pytest.fixture
def viewer(given):
    return SubmodeViewer(*given, height=H)


def decoded(text, *shape):
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)


def test_page_is_given_the_shares_within_half_a_step_of_their_scale(given, viewer):
    html = viewer._repr_html_()
    data = json.loads(re.fullmatch(r"<script [^>]*>(.*)</script>", html)[1])
    scale = np.array(data["scale"])
    np.testing.assert_allclose(scale, given[0].max(axis=(1, 2)), rtol=1e-5)
    found = decoded(data["shares"], J, C, H * W) / 255 * scale[:, None, None]
    assert (abs(found - given[0]) <= 0.501 * scale[:, None, None] / 255 + 1e-9).all()
    images = decoded(data["images"], C, H * W) / 255
    np.testing.assert_allclose(images, given[2] / given[2].max(), atol=0.51 / 255)
    np.testing.assert_allclose(data["outputs"], given[1], atol=5.1e-5)
    assert (data["neurons"], data["classes"], data["size"]) == (J, C, [H, W])


def test_effective_number_of_pixels_is_that_of_equal_shares_and_of_one():
    shares = np.zeros((1, 2, 4))
    shares[0, 0], shares[0, 1, 2] = 0.25, 1.0
    found = SubmodeViewer(shares, np.zeros((1, 2)), np.ones((2, 4))).data()
    assert found["effective"] == [[4.0, 1.0]]


def test_shares_that_do_not_sum_to_one_are_counted_by_their_proportions():
    shares = np.full((1, 1, 4), 0.1)
    assert SubmodeViewer(shares, [[0.0]], np.ones((1, 4))).data()["effective"] == [[4.0]]


def test_colors_are_those_of_the_named_maps(viewer):
    colors = viewer.data()["colors"]
    for name, table in (("cividis", colors["shares"]), ("RdBu_r", colors["differences"])):
        rgb = np.round(255 * plt.get_cmap(name)(np.arange(256))[:, :3])
        np.testing.assert_array_equal(decoded(table, 256, 3), rgb)


def test_differences_are_to_the_mean_over_classes(given, viewer):
    added = viewer.differences(1)
    assert added.shape == (C, H, W)
    np.testing.assert_allclose(added.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(added[2].ravel(), given[0][1, 2] - given[0][1].mean(axis=0))


def test_images_may_come_in_rows_and_columns_and_are_square_otherwise(given):
    shares, outputs, images = given
    shaped = SubmodeViewer(shares.reshape(J, C, H, W), outputs, images.reshape(C, H, W))
    assert shaped.data() == SubmodeViewer(*given, height=H).data()
    square = SubmodeViewer(np.ones((2, 3, 16)), np.zeros((2, 3)), np.ones((3, 16)))
    assert square.data()["size"] == [4, 4]
    assert repr(square) == "SubmodeViewer(2 neurons, 3 classes, 4 x 4 pixels)"


def test_a_neuron_without_shares_and_black_images_are_shown_empty():
    data = SubmodeViewer(np.zeros((1, 1, 4)), [[0.0]], np.zeros((1, 4))).data()
    assert not decoded(data["shares"], 4).any()
    assert not decoded(data["images"], 4).any()


def test_grid_draws_a_mean_and_every_class_for_each_neuron(viewer):
    ax = viewer.grid([2, 0])
    assert len(ax.images) == 2 * (1 + C)
    np.testing.assert_allclose(ax.images[0].get_array(), viewer.shares[2].mean(axis=0))
    np.testing.assert_allclose(ax.images[1 + C + 3].get_array(), viewer.differences(0)[2])
    words = {text.get_text() for text in ax.texts}
    assert {"neuron 2", "neuron 0", "mean", "0", "3"} <= words
    low, high = ax.images[1].get_clim()
    assert low == -high == -abs(viewer.differences(2)).max()
    plt.close(ax.figure)


def test_grid_draws_into_the_axes_it_is_given(viewer):
    fig, ax = plt.subplots()
    assert viewer.grid([1], ax=ax) is ax
    plt.close(fig)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 4), (3,), (4,)), r"expected submodes \(J, C, pixels\)"),
        (((3, 4, 9), (4, 3), (4, 9)), r"outputs \(J, C\), got \(3, 4, 9\) and \(4, 3\)"),
        (((3, 4, 9), (3, 4), (4, 8)), r"mean image for each class, \(4, 9\), got \(4, 8\)"),
        (((3, 4, 10), (3, 4), (4, 10)), "height that divides 10 pixels, got 3"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        SubmodeViewer(*(np.ones(shape) for shape in shapes))


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_what_is_no_responsibility_is_refused(bad):
    shares = np.full((1, 1, 4), 0.25)
    shares[0, 0, 1] = bad
    with pytest.raises(ValueError, match="finite and not negative"):
        SubmodeViewer(shares, [[0.0]], np.ones((1, 4)))


def test_grid_of_no_neuron_is_refused(viewer):
    with pytest.raises(ValueError, match="at least one neuron"):
        viewer.grid([])
    with pytest.raises(IndexError):
        viewer.grid([J])
