"""The first view of the page: how long it takes, and how much is fetched for it."""

from __future__ import annotations

from collections.abc import Iterator

from bench import browser
from bench import names as n
from bench.browser import FirstView
from bench.figures import Row
from bench.pool import BenchPool, fake_entry
from bench.stage import Stage

MODELS = 20
# Each is a page anew; they are short.
ROUNDS = 3


def run(stage: Stage) -> Iterator[Row]:
    """Open the page again and again, in a browser that runs but has kept nothing.

    Raises:
        BenchError: there is no browser, or the page shows nothing.
    """
    entries = [fake_entry(f"model-{number}") for number in range(MODELS)]
    pool = BenchPool(stage.folder, "view", entries, stand_in=True)
    with pool, browser.started() as chromium:
        browser.first_view(chromium, pool.port)  # of what is read from disk for the first time
        sizes: list[float] = []

        def measure() -> float:
            seen: FirstView = browser.first_view(chromium, pool.port)
            sizes.append(seen.size / 1000)
            return seen.milliseconds

        samples = stage.paired(n.FIRST_VIEW, {n.WEB_PAGE: measure}, ROUNDS * stage.rounds)
    yield samples.row((n.VIEW, n.FIRST_VIEW), n.WEB_PAGE, "ms")
    yield Row(n.VIEW, n.FETCHED, n.WEB_PAGE, "kB", tuple(sizes))
