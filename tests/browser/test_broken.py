"""Break a measurement: the page computes what the package computes, and says what is proven and no more."""

import json
import math
import re
from itertools import chain, combinations

import broken_example
import numpy as np
import pytest
import torch

from ugmm_tutorial.robustness import bounds_if_changed

from .conftest import SITE

PAGE = "book/broken_example.html"
CONTENT = json.loads(broken_example.PATH.read_text(encoding="utf-8"))
NETWORKS = broken_example.networks(CONTENT)
FAULTS = [
    "ten standard deviations off",
    "three standard deviations off",
    "unit × 1000",
    "stuck at zero",
    "missing",
    "from other tumours",
]
# A tumour, and which of its measurements are broken.
CASES = [(0, [2, 13, 27]), (5, [0]), (17, [20, 22, 23, 27]), (44, [7, 1]), (170, [29, 3, 11, 12])]
READ = """root => {
    const texts = (selector) => [...root.querySelectorAll(selector)].map((node) => node.textContent);
    return {
        row: [...root.querySelectorAll("[data-k]")]
            .sort((a, b) => a.dataset.k - b.dataset.k).map((node) => Number(node.dataset.value)),
        percents: texts(".be-percent"), verdicts: texts(".be-verdict"), reaches: texts(".be-reach"),
        truth: texts(".be-truth strong")[0], all: texts(".be-all")[0],
        broken: [...root.querySelectorAll("[aria-pressed=true]")].map((node) => Number(node.dataset.k)),
    };
}"""


@pytest.fixture
def page(site, new_page):
    page = new_page(formulas=False)
    page.goto(f"{site}/{PAGE}")
    return page


@pytest.fixture(scope="module")
def model(site, context):
    """A function that calls one of the page's own functions."""
    page = context().new_page()
    page.goto(f"{site}/{PAGE}")
    yield lambda name, *given: page.evaluate(
        "([name, given]) => ugmmBroken[name](...given)", [name, [*given]]
    )
    page.close()


def leads(name, rows):
    """By the package: the score of malignant minus that of benign, (B,), for rows in their own units."""
    x = broken_example.scaled(CONTENT, torch.tensor(rows, dtype=torch.float64))
    x = x.nan_to_num(0.0) if name == "mlp" else x  # the median
    scores = NETWORKS[name](x).detach()
    return (scores[..., 0] - scores[..., 1]).numpy()


def lead_ends(low, high):
    """Ends of the lead, from ends (J,) of every mixture's output."""
    readout = NETWORKS["mixtures"][1]
    weight, bias = (parameter[0] - parameter[1] for parameter in (readout.weight, readout.bias))
    least, most = (torch.where(weight > 0, *ends) @ weight + bias for ends in ((low, high), (high, low)))
    return least.item(), most.item()


def move(page, name, value):
    page.locator(f"#be-{name}").evaluate(
        "(node, value) => { node.value = value; node.dispatchEvent(new Event('input')); }", value
    )


def seen_by_the_package(page):
    """Compare the page's numbers and verdicts with the package's for the row it shows, and return them."""
    seen = page.locator(".be-root").evaluate(READ)
    for place, name in enumerate(("mixtures", "mlp")):
        lead = leads(name, seen["row"])
        for sign, text in zip((1, -1), seen["percents"][2 * place : 2 * place + 2], strict=True):
            share = 1 / (1 + math.exp(-sign * min(max(lead, -99.0), 99.0)))
            number = float(text.strip("<> %\xa0"))
            limits = {">": (99.9, 100.0), "<": (0.0, 0.1)}.get(text[0], (number - 0.0501, number + 0.0501))
            assert limits[0] <= 100 * share <= limits[1]
        answer = CONTENT["classes"][0 if lead > 0 else 1]
        assert answer in seen["verdicts"][place]
        assert ("right" in seen["verdicts"][place]) == (answer == seen["truth"])
    return seen


@pytest.mark.parametrize("fault", FAULTS)
def test_answers_are_the_packages(fault, model):
    for row, broken in CASES:
        spoilt = model("spoilt", row, fault, broken)
        assert [k for k in range(30) if spoilt[k] == CONTENT["rows"][row][k]] == [
            k for k in range(30) if k not in broken
        ]
        for name in NETWORKS:
            np.testing.assert_allclose(model("lead", name, spoilt), leads(name, spoilt), rtol=1e-8, atol=1e-8)


def test_faults_are_what_they_are_called(model):
    row, k = 3, 4
    was = CONTENT["rows"][row][k]
    ten, three, unit, zero, missing, other = (model("spoilt", row, fault, [k])[k] for fault in FAULTS)
    assert abs(ten - was) == pytest.approx(10 * CONTENT["std"][k])
    assert abs(three - was) == pytest.approx(3 * CONTENT["std"][k])
    assert (unit, zero) == (pytest.approx(1000 * was), 0)
    assert math.isnan(missing)
    assert other in {one[k] for one in CONTENT["rows"]} - {was}


@pytest.mark.parametrize(("row", "broken"), CASES)
def test_bounds_are_what_broken_measurements_can_reach(row, broken, model):
    """Every neuron is least if all of them are far away, and greatest at its means, where none is missing."""
    layer = NETWORKS["mixtures"][0]
    x = broken_example.scaled(CONTENT, torch.tensor(CONTENT["rows"][row], dtype=torch.float64))
    tempting = x.repeat(layer.out_features, 1)
    tempting[:, broken] = layer.mean[:, broken].detach()
    reached = []
    for missing in chain.from_iterable(combinations(broken, m) for m in range(len(broken) + 1)):
        one = tempting.clone()
        one[:, missing] = math.nan
        reached.append(layer(one).detach().diagonal())
    x[broken] = 1e9
    ends = lead_ends(layer(x).detach(), torch.stack(reached).amax(dim=0))
    np.testing.assert_allclose(model("leadBounds", CONTENT["rows"][row], broken), ends, rtol=1e-8, atol=1e-8)


def test_bounds_hold_for_what_the_package_bounds_and_for_what_was_tried(model):
    for row, broken in CASES:
        rows = CONTENT["rows"][row]
        low, high = model("leadBounds", rows, broken)
        changed = torch.zeros(30, dtype=torch.bool)
        changed[broken] = True
        x = broken_example.scaled(CONTENT, torch.tensor(rows, dtype=torch.float64))
        least, most = lead_ends(*bounds_if_changed(NETWORKS["mixtures"][0], x, changed))
        assert low - 1e-6 <= least < most <= high + 1e-6
        tried = model("tried", "mixtures", rows, broken)
        assert low <= tried[0] < tried[1] <= high


def test_nothing_is_bounded_where_every_measurement_is_broken(model, page):
    assert model("leadBounds", CONTENT["rows"][0], list(range(30))) == [-math.inf, math.inf]
    move(page, "count", 30)
    page.get_by_label("fault").select_option("missing")
    seen = page.locator(".be-root").evaluate(READ)
    assert seen["verdicts"][0] == "says nothing: wrong ✗"
    assert seen["percents"][:2] == ["–", "–"]


@pytest.mark.parametrize("fault", FAULTS)
def test_page_shows_what_the_package_answers(fault, page):
    page.get_by_label("fault").select_option(fault)
    for tumour, count in ((1, 3), (40, 9), (171, 1)):
        move(page, "tumour", tumour)
        move(page, "count", count)
        seen = seen_by_the_package(page)
        assert len(seen["broken"]) == count
        assert seen["truth"] == CONTENT["classes"][CONTENT["y"][tumour - 1]]


def test_proven_is_said_only_where_the_bounds_have_one_sign(page, model):
    said = []
    for tumour in range(1, 30):
        move(page, "tumour", tumour)
        seen = seen_by_the_package(page)
        low, high = model("leadBounds", CONTENT["rows"][tumour - 1], seen["broken"])
        said.append("Proven" in seen["reaches"][0])
        assert said[-1] == (low > 1e-6 or high < -1e-6)
        assert "Nothing is proven" in seen["reaches"][1]
    assert 5 < sum(said) < 29


def test_totals_are_those_of_all_test_tumours(page, model):
    move(page, "count", 4)
    seen = page.locator(".be-root").evaluate(READ)
    spoilt = [model("spoilt", row, FAULTS[0], seen["broken"]) for row in range(171)]
    sign = 1 - 2 * np.array(CONTENT["y"])
    mixtures, mlp = ((sign * leads(name, spoilt) > 0).sum() for name in ("mixtures", "mlp"))
    x = broken_example.scaled(CONTENT, torch.tensor(spoilt, dtype=torch.float64))
    changed = torch.zeros(30, dtype=torch.bool)
    changed[seen["broken"]] = True
    bounds = bounds_if_changed(NETWORKS["mixtures"][0], x, changed)
    ends = [lead_ends(low, high) for low, high in zip(*bounds, strict=True)]
    proven = sum((low if s > 0 else -high) > 1e-6 for s, (low, high) in zip(sign, ends, strict=True))
    numbers = [int(word) for word in "".join(c if c.isdigit() else " " for c in seen["all"]).split()]
    assert numbers[0] == 171
    assert numbers[1] == mixtures
    assert 0 < numbers[2] <= proven  # gaps are covered as well
    assert numbers[3] == mlp


def test_ten_broken_measurements_leave_hardly_a_proof_and_most_answers_right(page):
    move(page, "count", 10)
    for fault in FAULTS:
        page.get_by_label("fault").select_option(fault)
        words = page.locator(".be-all").inner_text()
        right, proven = (int(n) for n in re.search(r"right for (\d+) \(proven for (\d+)\)", words).groups())
        assert right > 0.8 * 171
        assert proven < 0.1 * 171


def test_keyboard_moves_sliders_and_presses_measurements(page):
    for name, last in (("tumour", 171), ("broken", 30)):
        page.get_by_label(name, exact=True).focus()
        page.keyboard.press("End")
        assert page.get_by_label(name, exact=True).input_value() == str(last)
        page.keyboard.press("ArrowLeft")
        assert (
            page.get_by_label(name, exact=True).get_attribute("aria-valuetext").startswith(f"{last - 1} of")
        )
    page.get_by_role("button", name="Reset").press("Enter")
    before = seen_by_the_package(page)["broken"]
    radius = page.get_by_role("button", name="mean radius")
    assert "instead of" not in radius.get_attribute("aria-label")
    radius.press("Space")
    assert radius.get_attribute("aria-label") == "mean radius, broken: 53.26 instead of 17.08"
    assert set(seen_by_the_package(page)["broken"]) == {*before, 0}
    assert page.get_by_label("broken", exact=True).input_value() == "4"


def test_pressed_measurements_stay_broken_while_the_slider_moves(page):
    before = seen_by_the_package(page)["broken"]
    added, mended = next(k for k in range(30) if k not in before), before[0]
    page.locator(f"[data-k='{added}']").click()
    page.locator(f"[data-k='{mended}']").click()
    assert set(seen_by_the_package(page)["broken"]) == {*before, added} - {mended}
    move(page, "count", 12)
    grown = set(seen_by_the_package(page)["broken"])
    assert len(grown) == 12
    assert grown > {*before, added} - {mended}
    move(page, "count", 3)
    assert set(seen_by_the_package(page)["broken"]) == {*before, added} - {mended}
    page.get_by_role("button", name="Break others").click()
    assert set(seen_by_the_package(page)["broken"]) != {*before, added} - {mended}
    page.get_by_role("button", name="Reset").click()
    assert seen_by_the_package(page)["broken"] == before


def test_without_a_broken_measurement_there_is_no_range(page):
    move(page, "count", 0)
    assert seen_by_the_package(page)["reaches"] == ["Nothing is broken."] * 2
    assert not any(line.is_visible() for line in page.locator(".be-range").all())


def test_controls_are_large_enough_for_fingers_and_nothing_is_cut_off(site, new_page):
    page = new_page(width=390, formulas=False)
    page.goto(f"{site}/{PAGE}")
    for fault in ("unit × 1000", "missing"):
        page.get_by_label("fault").select_option(fault)
        move(page, "count", 30)
        for control in page.locator(".be-root button, .be-root input, .be-root select").all():
            box = control.bounding_box()
            assert min(box["width"], box["height"]) >= 24
        too_wide = (
            """nodes => nodes.filter((n) => n.scrollWidth > n.clientWidth + 1).map((n) => n.textContent)"""
        )
        assert page.locator(".be-measurements button, .be-measurements th").evaluate_all(too_wide) == []


def test_page_works_from_a_folder(site, new_page):
    page = new_page(formulas=False)
    page.goto((SITE / PAGE).as_uri())
    assert page.get_by_role("group", name="Ordinary MLP").is_visible()


def test_sentence_stands_in_on_paper_and_where_scripts_are_off(site, page, new_page):
    plain = new_page(scripts=False)
    plain.goto(f"{site}/{PAGE}")
    assert plain.locator(".be-still").is_visible()
    assert plain.locator("input[type=range]").count() == 0
    assert not page.locator(".be-still").is_visible()
    page.emulate_media(media="print")
    assert page.locator(".be-still").is_visible()
    assert not page.locator(".be-root").is_visible()
