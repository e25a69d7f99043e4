"""For all tests: property tests draw the same examples everywhere, or a failure could not be met
again; the long random runs are ``make simulate`` and ``make chaos``."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.examples import examples

settings.register_profile(
    "steady", max_examples=examples(100), derandomize=True, deadline=None, database=None
)
settings.load_profile("steady")

# What is imported and collected stays to the end: no garbage is looked for in it, now or later.
gc.disable()

# A shell has what it starts in the background ignore it, and with us whatever a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# There, tests start processes and wait for them most of the time; elsewhere they compute.
WAITING = ("e2e", "worker", "chaos", "pulling", "discovery")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests wait among those whose tests compute, from the first to the last, so that
    processes that run side by side neither all wait nor all want the processor."""
    files = list(dict.fromkeys(item.path for item in items))
    kinds: dict[bool, list[Path]] = {True: [], False: []}
    for path in files:
        folders = path.relative_to(Path(__file__).parent).parts
        kinds[not set(WAITING).isdisjoint(folders)].append(path)
    place = {path: n / len(kind) for kind in kinds.values() for n, path in enumerate(kind)}
    # Those that take long come first, or one process would be at its last when the others are done.
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: (item.path not in long, place[item.path]))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """What a file leaves open fails its last test, not one of another file."""
    yield
    gc.collect()
    gc.freeze()  # or the next file would have it looked at, too
