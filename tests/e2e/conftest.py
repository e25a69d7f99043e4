"""Pools of real processes for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from e2e.support import PoolProcess, fake

MakePool = Callable[..., PoolProcess]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    """Make and start a pool; it is ended and looked after at the end of the test."""
    with ExitStack() as stack:

        def make(*models: dict[str, Any], **keys: Any) -> PoolProcess:
            return stack.enter_context(PoolProcess(tmp_path, models, **keys))

        yield make


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    """One pool for the tests that leave it as they found it."""
    models = [
        fake("plain", aliases=["standing-in"], tags=["small"]),
        fake("org/slashed:7b", display_name="A name with / and :"),
        fake("other"),
    ]
    with PoolProcess(tmp_path_factory.mktemp("shared"), models, ports=12) as pool:
        yield pool
