"""What can be wrong with a page in a browser: each function lists what it found, in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from chromium import SETTLED

# The theme's own furniture, around our content and the same on every page: its search and theme buttons are
# named by their icons only, and its sidebar is a scrolling region that cannot be focused.
THEME_PARTS = (".search-button-field", ".theme-switch-button", ".sidebar-primary-item")

# Most of axe's time goes into the colours of code. A block tells nothing new
# if all its kinds of tokens have been in earlier ones.
_MARK_REPEATED_CODE = """() => {
    const seen = new Set();
    for (const block of document.querySelectorAll("div.highlight")) {
        const place = block.closest("details, .admonition") ? "inside" : "open";
        const kinds = [...block.querySelectorAll("span")].map((token) => `${place} ${token.className}`);
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


def barriers(page) -> list[str]:
    """What axe-core calls serious or critical, outside of the theme's own parts."""
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate(_MARK_REPEATED_CODE)
    excluded = [[part] for part in (*THEME_PARTS, "[data-repeated]")]
    found = Axe().run(page, {"exclude": excluded}, {"resultTypes": ["violations"]}).response
    return [
        f"barrier: {violation['id']} at {node['target']}: {node['html'][:200]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
