"""The built book in a headless browser. This machine serves it, and the browser can reach nothing else."""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # The browser can reach only the server below, so that nothing depends on a network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

#: A function to call in a page. It resolves when the formulas are rendered and the images are loaded.
SETTLED = """async () => {
    if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
    const images = [...document.images];
    images.forEach((image) => (image.loading = "eager"));
    await Promise.all(images.map((image) => image.decode().catch(() => {})));
}"""


class BrowserMissingError(RuntimeError):
    """There is no Chromium. The message says how to name one."""


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve this folder in a thread, and give its address."""
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def launch(driver):
    """Start the system's Chromium (or the one that CHROMIUM names) with Playwright's ``driver``.

    Raises:
        BrowserMissingError: there is none.
    """
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    path = found or driver.chromium.executable_path
    if not Path(path).exists():
        raise BrowserMissingError("Chromium is missing: install it, or name its program in CHROMIUM")
    return driver.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
