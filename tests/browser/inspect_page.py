"""What can be wrong with a page in a browser: each function lists what it found, in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from chromium import SETTLED

# The theme's own furniture, around our content and the same on every page: its search and theme buttons are
# named by their icons only, and its sidebar is a scrolling region that cannot be focused.
THEME_PARTS = (".search-button-field", ".theme-switch-button", ".sidebar-primary-item")

# Most of axe's time goes into colours: of code, of long tables, of signatures. Such a block tells nothing new
# if all its kinds of elements have been in earlier ones.
_MARK_REPEATED = """() => {
    const seen = new Set();
    for (const block of document.querySelectorAll("div.highlight, tbody > tr, dt.sig, dl.field-list")) {
        const place = block.closest("details, .admonition") ? "inside" : "open";
        const row = block.tagName === "TR" ? block.rowIndex % 2 : 0;  // rows are striped
        const formula = (node) => node.parentElement.closest("mjx-container");
        const kinds = [block, ...block.querySelectorAll("*")].filter((node) => !formula(node)).map(
            (node) => [place, row, node.tagName, node.className, node.getAttribute("style")].join(" "));
        block.toggleAttribute("data-repeated", kinds.every((kind) => seen.has(kind)));
        kinds.forEach((kind) => seen.add(kind));
    }
}"""


@dataclass
class Log:
    """What a page asked for and complained of while it loaded."""

    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def open_page(page, url: str, site: str) -> Log:
    """Open ``url`` and wait for its images and formulas; ``site`` is where all it loads has to lie."""
    log = Log()

    def asked(request):
        if not request.url.startswith(("data:", "blob:")):
            log.requested.append(request.url)
            if not request.url.startswith(site):
                log.complaints.append(f"outside request: {request.url}")

    def answered(response):
        if response.status >= 400:
            log.complaints.append(f"failed request: {response.status} {response.url}")

    def said(message):
        if message.type in ("error", "warning"):
            log.complaints.append(f"console: {message.text}")

    page.on("request", asked)
    page.on("response", answered)
    page.on("requestfailed", lambda request: log.complaints.append(f"failed request: {request.url}"))
    page.on("console", said)
    page.on("pageerror", lambda error: log.complaints.append(f"script error: {error}"))
    page.goto(url, wait_until="load")
    page.evaluate(SETTLED)
    return log


def broken_images(page) -> list[str]:
    """Images that did not load."""
    return page.evaluate(
        "[...document.images].filter((i) => !(i.complete && i.naturalWidth)).map((i) => `image: ${i.src}`)"
    )


def broken_mathematics(page) -> list[str]:
    """Formulas that are not rendered, or in which MathJax shows an error or an unknown macro in red."""
    return page.evaluate(
        """() => [
            ...[...document.querySelectorAll(".math")]
                .filter((node) => !node.querySelector("mjx-container"))
                .map((node) => `mathematics not rendered: ${node.textContent}`),
            ...[...document.querySelectorAll("mjx-merror, mjx-mtext")]
                .filter((node) => node.tagName === "MJX-MERROR"
                    || getComputedStyle(node).color === "rgb(255, 0, 0)")
                .map((node) => `mathematics in error: ${node.parentElement.textContent}`),
        ]"""
    )


def sideways_scroll(page) -> list[str]:
    """Whether the page is wider than its window."""
    wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return [f"sideways scroll: {wide} px in a window of {window} px"] if wide > window else []


def barriers(page, *, colours_only: bool = False) -> list[str]:
    """What axe-core calls serious or critical, outside of the theme's own parts.

    ``colours_only`` is for a second theme, which changes nothing else.
    """
    page.evaluate(_MARK_REPEATED)
    ours = [[part] for part in THEME_PARTS]
    colours = ["color-contrast"]
    found = _violations(page, [*ours, ["[data-repeated]"]], {"runOnly": colours})
    if not colours_only:
        found += _violations(page, ours, {"rules": {rule: {"enabled": False} for rule in colours}})
    return [
        f"barrier: {violation['id']} at {node['target']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def _violations(page, excluded: list[list[str]], options: dict) -> list[dict]:
    from axe_playwright_python.sync_playwright import Axe

    # No rule in force needs the text of style sheets, which axe would ask the server for.
    options = {"resultTypes": ["violations"], "preload": False} | options
    return Axe().run(page, {"exclude": excluded}, options).response["violations"]
