"""The live example of broken inputs computes what the package computes, by mouse, keyboard and on a phone."""

import base64
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

PAGE = "book/11a_when_inputs_break.html"


@pytest.fixture
def page(site, new_page):
    page = new_page()
    page.goto(f"{site}/{PAGE}")
    return page


@pytest.fixture
def given(page):
    return json.loads(page.locator("script.broken-inputs").text_content())


def network(modules):
    """A network of the page, rebuilt from PyTorch's modules and the formula of the neuron."""

    def numbers(text, rows=None):
        values = torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy()).double()
        return values if rows is None else values.reshape(rows, -1)

    def mixture(part, width):
        mean, std, weight = (numbers(part[name]).reshape(-1, width) for name in ("mean", "std", "weight"))

        def forward(x):
            there = ~x.isnan()
            terms = weight.log() + torch.distributions.Normal(mean, std).log_prob(x.nan_to_num())
            return terms[:, there].logsumexp(dim=1) - weight[:, there].sum(dim=1).log()

        return forward

    def answer(x):
        for part in modules:
            if part["kind"] == "mixture":
                x = mixture(part, len(x))(x)
            elif part["kind"] == "norm":
                weight, bias = numbers(part["weight"]), numbers(part["bias"])
                x = nn.functional.layer_norm(x, x.shape, weight, bias, part["eps"])
            elif part["kind"] == "linear":
                bias = numbers(part["bias"])
                x = nn.functional.linear(x.nan_to_num(), numbers(part["weight"], len(bias)), bias)
            else:
                x = x.relu()
        return x.softmax(dim=0)

    return answer


FAULTS = {
    "gross": lambda value, deviation, sign: value + 10 * deviation * sign,
    "unit": lambda value, deviation, sign: 1000 * value,
    "stuck": lambda value, deviation, sign: 0.0,
    "missing": lambda value, deviation, sign: math.nan,
}


def expected(given, row, broken, fault):
    """What each network says, from the page's data."""
    x = list(given["rows"][row])
    for k in broken:
        x[k] = FAULTS[fault](x[k], given["deviation"][k], given["signs"][row][k])
    scaled = (torch.tensor(x) - torch.tensor(given["center"])) / torch.tensor(given["scale"])
    says = {}
    for name, modules in given["networks"].items():
        probability = network(modules)(scaled.double())
        best = int(probability.argmax())
        says[name] = (given["classes"][best], 100 * probability[best].item(), best == given["labels"][row])
    return says


def shown(page):
    says = {}
    for line in page.locator(".bi-answer").all():
        mark, rest = line.locator(".bi-says").inner_text().split(" ", 1)
        name, percent = rest.removesuffix(" %").rsplit(", ", 1)
        says[line.get_attribute("data-network")] = (name, float(percent), mark == "✓")
    return says


def check(page, given, row, broken, fault):
    wanted, found = expected(given, row, broken, fault), shown(page)
    assert found.keys() == wanted.keys()
    for name, (answer, percent, right) in wanted.items():
        assert found[name][0] == answer or abs(percent - 50.0) < 0.1
        assert found[name][1] == pytest.approx(percent, abs=0.06)
        assert found[name][2] == right or abs(percent - 50.0) < 0.1


def put(page, name, value):
    page.locator(f"#broken-{name}").evaluate(
        "(node, value) => { node.value = value; node.dispatchEvent(new Event('input')); }", str(value)
    )


def test_it_stands_in_the_place_of_the_figure_and_starts_whole(page, given):
    assert page.locator("#fig-broken").evaluate("node => node.className") == "broken-inputs-live"
    assert page.locator(".bi-input[aria-pressed=true]").count() == 0
    check(page, given, 0, [], "gross")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("row", "count"), [(0, 3), (5, 10), (2, 30)])
def test_answers_are_those_of_the_networks(page, given, fault, row, count):
    put(page, "row", row)
    put(page, "fault", fault)
    put(page, "count", count)
    broken = given["order"][row][:count]
    assert page.locator(".bi-input[aria-pressed=true]").count() == count
    if fault == "missing" and count == len(given["inputs"]):
        return  # nothing is left to compute from: the page says so, see below
    check(page, given, row, broken, fault)


def test_a_click_breaks_a_measurement_and_a_second_one_mends_it(page, given):
    button = page.locator(".bi-input").nth(7)
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("#broken-count").input_value() == "1"
    check(page, given, 0, [7], "gross")
    button.click()
    check(page, given, 0, [], "gross")


def test_keyboard_reaches_everything(page, given):
    page.locator("#broken-count").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    check(page, given, 0, given["order"][0][:2], "gross")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert page.locator("#broken-fault").input_value() == "missing"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator(".bi-input").first.get_attribute("aria-pressed") in ("true", "false")


def test_when_everything_is_missing_it_says_so(page, given):
    put(page, "fault", "missing")
    put(page, "count", len(given["inputs"]))
    assert "Nothing is left" in page.locator(".broken-inputs-live [data-result]").inner_text()


def test_the_sentence_says_what_is_proven(page, given):
    proven = given["proven"]
    for row in (proven.index(max(proven)), proven.index(min(proven))):
        put(page, "row", row)
        sentence = page.locator(".broken-inputs-live [data-result]").inner_text()
        assert ("Proven" in sentence) == (proven[row] > 0)
        assert proven[row] < 2 or f"any {proven[row]} measurements" in sentence


def test_a_phone_shows_it_without_scrolling_sideways(site, new_page):
    page = new_page(width=390)
    page.goto(f"{site}/{PAGE}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for button in page.locator(".bi-input").all():
        box = button.bounding_box()
        assert box["height"] >= 24
        assert box["x"] + box["width"] <= 390


def test_without_scripts_the_figure_stays(site, new_page):
    page = new_page(scripts=False)
    page.goto(f"{site}/{PAGE}")
    assert page.locator("#fig-broken img").is_visible()
