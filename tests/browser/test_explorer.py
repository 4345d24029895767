"""The neuron explorer says what the package says, however its controls are moved."""

import math
import random

import numpy as np
import pytest
import torch

from ugmm_tutorial.functional import component_log_densities, responsibilities, ugmm_log_density

START = {
    "x": [-1.5, 1.0, 2.0],
    "mean": [-2.0, 0.5, 3.0],
    "std": [0.6, 1.0, 0.8],
    "weight": [0.30, 0.45, 0.25],
}
READ = """root => {
    const number = (text) => Number(
        text.replace("−∞", "-Infinity").replace("−", "-").replace("–", "NaN"));
    const cells = (name) => [...root.querySelectorAll(`[data-${name}]`)].map((c) => number(c.textContent));
    const values = {x: [], mean: [], std: [], weight: []};
    const shown = {x: [], mean: [], std: [], weight: []};
    for (const slider of root.querySelectorAll("input[type=range]")) {
        values[slider.dataset.name].push(Number(slider.value));
        shown[slider.dataset.name].push(number(slider.nextElementSibling.value));
    }
    const out = number(root.querySelector("[data-out]").value.match(/= (\\S+) nats/)[1]);
    return {values, shown, terms: cells("term"), responsibilities: cells("share"), out};
}"""


@pytest.fixture
def page(site, new_page):
    page = new_page()
    page.goto(f"{site}/book/explorer.html")
    return page


def slider(page, name, k):
    return page.locator(f"input[data-name={name}]").nth(k)


def move(page, name, k, value):
    slider(page, name, k).evaluate(
        "(node, value) => { node.value = value; node.dispatchEvent(new Event('input')); }", value
    )


def by_package(x, mean, std, weight):
    rows = [torch.tensor([row], dtype=torch.float64) for row in (x, mean, std, weight)]
    rows[2:] = rows[2].log(), rows[3].log()
    functions = (component_log_densities, responsibilities, ugmm_log_density)
    return [function(*rows).flatten().tolist() for function in functions]


def assert_shows_what_the_package_computes(page):
    """Compare all numbers on the page with the package's, and return them."""
    seen = page.locator(".ne-root").evaluate(READ)
    values = dict(seen["values"])
    total = sum(values["weight"])
    if total:
        values["weight"] = [weight / total for weight in values["weight"]]
        for name in values:
            np.testing.assert_allclose(seen["shown"][name], values[name], rtol=0, atol=0.00501)
    terms, shares, (out,) = by_package(**values)
    np.testing.assert_allclose(seen["terms"], terms, rtol=0, atol=0.000501)
    np.testing.assert_allclose(seen["responsibilities"], shares, rtol=0, atol=0.000501)
    np.testing.assert_allclose(seen["out"], out, rtol=0, atol=0.000501)
    return seen


def test_start_values(page):
    seen = assert_shows_what_the_package_computes(page)
    assert seen["values"] == START
    assert seen["out"] == -1.032


@pytest.mark.parametrize("name", START)
def test_keyboard_moves_every_kind_of_slider(page, name):
    step = {"x": 0.1, "mean": 0.1, "std": 0.05, "weight": 0.01}[name]
    for k, key, sign in ((0, "ArrowRight", 1), (2, "ArrowLeft", -1)):
        slider(page, name, k).focus()
        for _ in range(3):
            page.keyboard.press(key)
        seen = assert_shows_what_the_package_computes(page)
        assert seen["values"][name][k] == pytest.approx(START[name][k] + sign * 3 * step)
    for key, attribute in (("Home", "min"), ("End", "max")):
        page.keyboard.press(key)
        seen = assert_shows_what_the_package_computes(page)
        assert seen["values"][name][2] == float(slider(page, name, 2).get_attribute(attribute))


def test_random_positions_and_the_ends(page):
    dice = random.Random(0)
    ends = {"x": (-6, 6), "mean": (-4, 4), "std": (0.2, 3), "weight": (0, 1)}
    for round_number in range(8):
        for name, (low, high) in ends.items():
            for k in range(3):
                anywhere = round(dice.uniform(low, high), 1)
                move(page, name, k, dice.choice((low, high)) if round_number % 2 else anywhere)
        assert_shows_what_the_package_computes(page)


def test_all_weights_zero_is_said_and_leaves_nothing(page):
    for k in range(3):
        move(page, "weight", k, 0)
    seen = assert_shows_what_the_package_computes(page)
    assert seen["out"] == -math.inf
    assert "All weights are zero" in page.locator(".ne-note").inner_text()
    move(page, "weight", 1, 0.01)
    assert assert_shows_what_the_package_computes(page)["responsibilities"] == [0, 1, 0]


def test_arithmetic_is_the_packages_also_far_out(page):
    dice = random.Random(1)
    cases = [
        {
            "x": [dice.gauss(0, 3) for _ in range(size)],
            "mean": [dice.gauss(0, 3) for _ in range(size)],
            "std": [math.exp(dice.gauss(0, 1)) for _ in range(size)],
            "weight": [dice.random() for _ in range(size)],
        }
        for size in (1, 2, 3, 7)
        for _ in range(50)
    ]
    cases += [
        START | {"x": [1e3, -1e6, 1e8]},
        START | {"x": [1e3, 1.0, -1e100]},
        START | {"std": [1e-12, 1.0, 1e12]},
        START | {"x": START["mean"], "std": [1e-300, 1e-300, 1e-300]},
        START | {"weight": [0.0, 0.45, 0.25]},
        START | {"weight": [0.0, 0.0, 1e-300]},
        START | {"weight": [0.0, 0.0, 0.0]},
        START | {"weight": [3.0, 0.5, 7.0]},
    ]
    results = page.evaluate("cases => cases.map(window.ugmmExplorer.neuron)", cases)
    for case, result in zip(cases, results, strict=True):
        terms, shares, (out,) = by_package(**case)
        np.testing.assert_allclose(result["terms"], terms, rtol=1e-12, atol=1e-12, err_msg=str(case))
        np.testing.assert_allclose(result["responsibilities"], shares, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(result["out"], out, rtol=1e-12, atol=1e-12)


def test_tied_inputs_move_together_and_give_the_mixture(page):
    page.get_by_label("same value in all inputs").check()
    assert assert_shows_what_the_package_computes(page)["values"]["x"] == [-1.5] * 3
    move(page, "x", 2, 0.7)
    seen = assert_shows_what_the_package_computes(page)
    assert seen["values"]["x"] == [0.7] * 3
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor(START["weight"])),
        torch.distributions.Normal(torch.tensor(START["mean"]), torch.tensor(START["std"])),
    )
    assert seen["out"] == pytest.approx(mixture.log_prob(torch.tensor(0.7)).item(), abs=6e-4)
    page.get_by_label("same value in all inputs").uncheck()
    move(page, "x", 2, -3)
    assert assert_shows_what_the_package_computes(page)["values"]["x"] == [0.7, 0.7, -3]


def test_reset_brings_everything_back(page):
    page.get_by_label("same value in all inputs").check()
    for name in START:
        move(page, name, 1, 1)
    page.get_by_role("button", name="Reset").click()
    assert assert_shows_what_the_package_computes(page)["values"] == START
    assert not page.get_by_label("same value in all inputs").is_checked()


@pytest.mark.parametrize("width", [1280, 375])
def test_dragging_a_handle_moves_its_input_and_stops_at_the_ends(site, new_page, width):
    page = new_page(width=width)
    page.goto(f"{site}/book/explorer.html")
    handle = page.locator("[data-handle='1']")
    handle.scroll_into_view_if_needed()

    def middle():
        box = handle.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag_to(x):
        page.mouse.move(*middle())
        page.mouse.down()
        page.mouse.move(x, middle()[1], steps=4)
        page.mouse.up()
        return assert_shows_what_the_package_computes(page)["values"]["x"]

    target = middle()[0] + 60
    values = drag_to(target)
    assert values[1] > START["x"][1]
    assert [values[0], values[2]] == [START["x"][0], START["x"][2]]
    pixels_a_step = 2 if width > 700 else 1  # values are rounded to tenths
    assert middle()[0] == pytest.approx(target, abs=3 * pixels_a_step)
    assert drag_to(width - 1)[1] == 6
    assert drag_to(1)[1] == -6
    page.mouse.move(width / 2, middle()[1])
    assert assert_shows_what_the_package_computes(page)["values"]["x"][1] == -6


def test_controls_are_large_enough_for_fingers(site, new_page):
    page = new_page(width=375)
    page.goto(f"{site}/book/explorer.html")
    for control in page.locator(".ne-root input, .ne-root button, [data-handle]").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 24


def test_picture_describes_itself_and_keeps_up(page):
    picture = page.get_by_role("img", name="Three weighted bell curves")
    assert "component 1, mean −2.0, is read at −1.5" in picture.get_attribute("aria-label")
    move(page, "x", 0, 4)
    assert "is read at 4.0 and has responsibility 0.00" in picture.get_attribute("aria-label")


@pytest.mark.parametrize(("name", "figure"), [("explorer", "fig-explorer-page"), ("01_one_neuron", None)])
def test_picture_stands_in_where_scripts_are_off(name, figure, site, new_page):
    plain = new_page(scripts=False)
    plain.goto(f"{site}/book/{name}.html")
    picture = plain.locator(f"figure#{figure or 'fig-explorer'} img")
    assert picture.is_visible()
    assert plain.locator("input[type=range]").count() == 0

    source = picture.get_attribute("src")
    page = new_page()
    page.goto(f"{site}/book/{name}.html")
    assert page.locator("input[type=range]").count() == 12
    assert not page.locator(f'img[src="{source}"]').is_visible()
    # Links to the figure arrive where the explorer is.
    assert page.locator("#fig-explorer input[type=range]").count() == (12 if figure is None else 0)
