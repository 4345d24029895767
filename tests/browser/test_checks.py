"""The inspections themselves: each finds what is wrong with a page on which all of it is wrong."""

import pytest
from chromium import served

from .inspect_page import barriers, broken_images, broken_mathematics, open_page, sideways_scroll

BROKEN = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>broken</title><link rel="icon" href="data:,">
<script src="https://outside.example/x.js"></script></head>
<body><h1>Broken</h1>
<script>console.error("on purpose"); missing.call();</script>
<img src="no-such-picture.png">
<div style="width: 3000px">wide</div>
<p style="color: #ccc; background: #fff">pale</p>
<span class="math">\\(x\\)</span>
<span class="math"><mjx-container><mjx-merror>y</mjx-merror></mjx-container></span>
<span class="math"><mjx-container><mjx-mtext style="color: red">\\z</mjx-mtext></mjx-container></span>
</body></html>"""
SOUND = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>sound</title><link rel="icon" href="data:,"></head>
<body><main><h1>Sound</h1><span class="math"><mjx-container>x</mjx-container></span>
<img src="dot.svg" alt="a dot"></main></body></html>"""
DOT = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle cx="4" cy="4" r="4"/></svg>'


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, text in (("broken.html", BROKEN), ("sound.html", SOUND), ("dot.svg", DOT)):
        (folder / name).write_text(text, encoding="utf-8")
    with served(folder) as address:
        yield address


@pytest.fixture
def broken(pages, new_page):
    page = new_page()
    return page, open_page(page, f"{pages}/broken.html", pages)


@pytest.mark.parametrize(
    "complaint",
    [
        "outside request: https://outside.example/x.js",
        "failed request: https://outside.example/x.js",
        "failed request: 404 ",
        "console: on purpose",
        "script error: missing is not defined",
    ],
)
def test_what_goes_wrong_while_loading_is_found(complaint, broken):
    assert any(line.startswith(complaint) for line in broken[1].complaints), broken[1].complaints


def test_what_is_wrong_with_the_page_is_found(broken):
    page, _ = broken
    assert [line.rpartition("/")[2] for line in broken_images(page)] == ["no-such-picture.png"]
    assert broken_mathematics(page) == [
        "mathematics not rendered: \\(x\\)",
        "mathematics in error: y",
        "mathematics in error: \\z",
    ]
    assert sideways_scroll(page)
    kinds = {line.split()[1] for line in barriers(page)}
    assert {"image-alt", "color-contrast"} <= kinds


@pytest.mark.parametrize(
    ("block", "pale"),
    [
        ("<p>text <code style='color: {}'>code</code></p>", "#ccc"),
        ("<table style='color: {}'><tr><td>cell</td></tr></table>", "#ccc"),
        ("<p style='background: {}'>text</p>", "#333"),
        ("<p style='background: {}'><b>text</b></p>", "#333"),
    ],
)
def test_pale_text_is_found_though_each_kind_is_looked_at_once(block, pale, pages, new_page):
    page = new_page()
    open_page(page, f"{pages}/sound.html", pages)
    add = "html => document.querySelector('main').innerHTML += html"
    page.evaluate(add, 5 * block.format("inherit"))
    assert barriers(page) == []
    assert not page.locator("main > :nth-last-child(1)").is_visible()
    page.evaluate(add, block.format(pale))
    assert [line.split()[1] for line in barriers(page)] == ["color-contrast"]


@pytest.mark.parametrize(
    "unseen", ["<details><p {}>text</p></details>", "<div class='sidebar-primary-item'><p {}>text</p></div>"]
)
def test_pale_text_is_found_behind_the_same_where_nobody_looks(unseen, pages, new_page):
    page = new_page()
    open_page(page, f"{pages}/sound.html", pages)
    html = unseen.format("style='color: #ccc'") + "<p style='color: #ccc'>text</p>"
    page.evaluate("html => document.querySelector('main').innerHTML += html", html)
    assert [line.split()[1] for line in barriers(page)] == ["color-contrast"]


def test_second_theme_is_asked_for_its_colours_only(broken):
    assert {line.split()[1] for line in barriers(broken[0], colours_only=True)} == {"color-contrast"}


def test_sound_page_is_left_alone(pages, new_page):
    page = new_page()
    assert not open_page(page, f"{pages}/sound.html", pages).complaints
    assert not broken_images(page) + broken_mathematics(page) + sideways_scroll(page) + barriers(page)
