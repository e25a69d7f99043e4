"""The page in a headless Chromium, as somebody who has never been there gets it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from bench.figures import BenchError
from bench.messages import HOST

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
HINT = "apt-get install chromium, pip install playwright"
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
WAIT_MS = 30_000
# The first frame in which a model can be loaded.
WATCH = """
new MutationObserver((_, observer) => {
  if (!document.querySelector('button[aria-label^="Load "]')) return;
  observer.disconnect();
  requestAnimationFrame(() => { window.firstViewAt = performance.now(); });
}).observe(document, { childList: true, subtree: true });
"""
# Of all that was fetched, with its heads; what is fetched for the charts comes last.
WEIGH = """() => performance.getEntries().reduce((sum, e) => sum + (e.transferSize ?? 0), 0)"""


class FirstView(NamedTuple):
    """Milliseconds from the click to the first model, and bytes of all that is fetched."""

    milliseconds: float
    size: int


@contextmanager
def started() -> Iterator[Browser]:
    """A browser.

    Raises:
        BenchError: there is none.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        raise BenchError(f"no headless browser is there: {HINT}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS])
        try:
            yield browser
        finally:
            browser.close()


def first_view(browser: Browser, port: int) -> FirstView:
    """Open the page of the pool on that port, with nothing kept from before.

    Raises:
        BenchError: no model is shown.
    """
    from playwright.sync_api import Error

    context = browser.new_context()
    try:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.add_init_script(WATCH)
        page.goto(f"http://{HOST}:{port}/")
        page.locator('button[aria-label^="Load "]').first.wait_for()
        page.locator("canvas").first.wait_for()  # long after the frame that was noted
        return FirstView(float(page.evaluate("firstViewAt")), int(page.evaluate(WEIGH)))
    except Error as e:
        raise BenchError(f"the page shows no model: {e.message.splitlines()[0]}") from None
    finally:
        context.close()
