"""What can be wrong with a page in a browser: each function lists what it found, in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from chromium import SETTLED

# The theme's own furniture, around our content and the same on every page: its search and theme buttons are
# named by their icons only, and its sidebar is a scrolling region that cannot be focused.
THEME_PARTS = (".search-button-field", ".theme-switch-button", ".sidebar-primary-item")

# Most of axe's time goes into the colours of thousands of words of code, cells of tables and formulas. An
# element tells nothing new if text of its colour and size has stood on the same backgrounds before: hide it.
_HIDE_REPEATED = """(themeParts) => {
    const seen = new Set(), hidden = [];  // hiding one at once would lay out the page anew for the next
    document.adoptedStyleSheets = [];
    const isRepeated = (node, behind) => {
        // What axe does not look at, closed solutions and the theme's parts, must not stand for the rest.
        if (!node.checkVisibility() || node.matches(themeParts)) return false;
        const style = getComputedStyle(node);
        const ground = `${behind} ${style.backgroundColor} ${style.backgroundImage} ${style.opacity}`;
        const look = [style.color, style.fontSize, style.fontWeight, ground].join();
        const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        let repeated = !hasText || seen.has(look);
        if (hasText) seen.add(look);
        for (const child of node.children)
            if (!isRepeated(child, ground)) repeated = false;
        if (repeated) hidden.push(node);
        return repeated;
    };
    isRepeated(document.body, "");
    document.querySelectorAll("[data-repeated]").forEach((node) => node.removeAttribute("data-repeated"));
    hidden.forEach((node) => node.setAttribute("data-repeated", ""));
    const sheet = new CSSStyleSheet();
    sheet.replaceSync("[data-repeated] { display: none !important; }");
    document.adoptedStyleSheets = [sheet];
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

    It leaves only one of each kind of text visible. ``colours_only`` is for a second theme, which changes
    nothing else.
    """
    found = [] if colours_only else _violations(page, {"rules": {"color-contrast": {"enabled": False}}})
    page.evaluate(_HIDE_REPEATED, ", ".join(THEME_PARTS))
    found += _violations(page, {"runOnly": ["color-contrast"]})
    return [
        f"barrier: {violation['id']} at {node['target']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def _violations(page, options: dict) -> list[dict]:
    from axe_playwright_python.sync_playwright import Axe

    # No rule in force needs the text of style sheets, which axe would ask the server for.
    options = {"resultTypes": ["violations"], "preload": False} | options
    return Axe().run(page, {"exclude": [[part] for part in THEME_PARTS]}, options).response["violations"]
