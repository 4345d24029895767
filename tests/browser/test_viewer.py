"""The viewer of submodes shows what its page was given, for every neuron and digit."""

import base64
import json
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest

PAGE = "book/12_what_does_a_neuron_see.html"


@pytest.fixture
def page(site, new_page):
    page = new_page()
    page.goto(f"{site}/{PAGE}")
    return page


@pytest.fixture
def given(page):
    """The page's data, with shares (J, C, H * W)."""
    data = json.loads(page.locator("script.submodes").text_content())
    shape = (data["neurons"], data["classes"], -1)
    steps = np.frombuffer(base64.b64decode(data["shares"]), np.uint8).reshape(shape)
    return data | {"shares": steps / 255 * np.array(data["scale"])[:, None, None]}


def pixels(page, name):
    """What a canvas shows, (H * W, 3)."""
    values = page.locator(f"canvas[data-picture={name}]").evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    return np.array(values).reshape(-1, 4)[:, :3]


def choose(page, neuron, digit):
    for name, value in (("neuron", neuron), ("digit", digit)):
        page.locator(f"#viewer-{name}").evaluate(
            "(node, value) => { node.value = value; node.dispatchEvent(new Event('input')); }", value
        )


def expected(given, neuron, digit):
    """The sentence below the sliders, from the data."""
    shares, (_, width) = given["shares"][neuron, digit], given["size"]
    row, column = divmod(int(shares.argmax()), width)
    output = rounded(given["outputs"][neuron][digit], 3).replace("-", "−")
    effective = rounded(given["effective"][neuron][digit], 0)
    return (
        f"Neuron {neuron}, digit {digit}: mean output {output} nats. Its shares are spread over the "
        f"equivalent of {effective} of {shares.size} pixels; the largest, "
        f"{rounded(100 * shares.max(), 2)} %, belongs to the pixel in row {row}, column {column}."
    )


def rounded(value, places):
    """As JavaScript's toFixed: 682.5 becomes 683, where Python's format says 682."""
    return str(Decimal(float(value)).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP))


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [(682.5, 0, "683"), (-0.0625, 3, "-0.063"), (1.005, 2, "1.00"), (7.0, 0, "7")],
)
def test_numbers_are_rounded_as_the_page_rounds_them(new_page, value, places, text):
    assert rounded(value, places) == text
    assert new_page().evaluate("([value, places]) => value.toFixed(places)", [value, places]) == text


def test_it_stands_in_the_place_of_the_figure_and_starts_with_the_first_neuron(page, given):
    host = page.locator("#fig-submodes")
    assert host.evaluate("node => node.className") == "submode-viewer"
    assert not page.locator("figure:has-text('Submodes of')").first.is_visible()
    assert page.locator("[data-result]").inner_text() == expected(given, 0, 0)


@pytest.mark.parametrize(("neuron", "digit"), [(0, 9), (7, 3), (11, 0)])
def test_sentence_and_pictures_are_those_of_the_data(page, given, neuron, digit):
    choose(page, neuron, digit)
    assert page.locator("[data-result]").inner_text() == expected(given, neuron, digit)
    colors = {
        name: np.frombuffer(base64.b64decode(given["colors"][name]), np.uint8).reshape(256, 3)
        for name in ("shares", "differences")
    }
    shares = given["shares"][neuron]
    place = np.floor(255 * shares[digit] / given["scale"][neuron] + 0.5).astype(int)
    np.testing.assert_array_equal(pixels(page, "shares"), colors["shares"][place])
    added = shares - shares.mean(axis=0)
    most = abs(added).max()
    place = 255 * (added[digit] + most) / (2 * most)
    # Where a value lies between two colours, rounding may decide for either.
    near = [
        colors["differences"][np.clip(np.floor(place + 0.5 + d), 0, 255).astype(int)] for d in (-1e-6, 1e-6)
    ]
    shown = pixels(page, "difference")
    assert ((shown == near[0]).all(axis=1) | (shown == near[1]).all(axis=1)).all()
    images = np.frombuffer(base64.b64decode(given["images"]), np.uint8).reshape(given["classes"], -1)
    np.testing.assert_array_equal(pixels(page, "image"), 255 - np.repeat(images[digit][:, None], 3, axis=1))


def test_keyboard_moves_both_sliders_to_their_ends(page, given):
    for name, last in (("neuron", given["neurons"] - 1), ("digit", given["classes"] - 1)):
        slider = page.locator(f"#viewer-{name}")
        slider.focus()
        page.keyboard.press("ArrowRight")
        assert slider.input_value() == "1"
        page.keyboard.press("End")
        assert slider.input_value() == str(last)
    found = page.locator("[data-result]").inner_text()
    assert found == expected(given, given["neurons"] - 1, given["classes"] - 1)


def test_pictures_say_in_words_what_they_show(page):
    for canvas in page.locator(".submode-viewer canvas").all():
        assert len(canvas.get_attribute("aria-label").split()) >= 5


def test_without_scripts_the_figure_stays(site, new_page):
    page = new_page(scripts=False)
    page.goto(f"{site}/{PAGE}")
    assert page.locator("figure#fig-submodes img").is_visible()
    assert page.locator("script.submodes").count() == 1
