"""Pools of real processes for the tests of this folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from e2e.helpers import fake
from e2e.support import PoolProcess

MakePool = Callable[..., PoolProcess]
WithModels = Callable[..., PoolProcess]
Add = Callable[..., str]

_numbers = itertools.count(1)


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


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which packages are found by whatever is started."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture(scope="session")
def session_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    models = [
        fake("plain", aliases=["standing-in"], tags=["small"]),
        fake("org/slashed:7b", display_name="A name with / and :"),
    ]
    with PoolProcess(tmp_path_factory.mktemp("shared"), models, ports=20) as pool:
        yield pool


@pytest.fixture
def pool(session_pool: PoolProcess) -> Iterator[PoolProcess]:
    """One pool for every test that leaves it as it found it."""
    yield session_pool
    assert session_pool.answers()


@pytest.fixture
def with_models(pool: PoolProcess) -> Iterator[WithModels]:
    """The pool that others use, too, with these models until the test ends: for tests that neither
    stop it nor want a config of its own, as a start costs more than most of them."""
    with ExitStack() as stack:

        def register(*models: dict[str, Any]) -> PoolProcess:
            for entry in models:
                answer = pool.http.post("/models/register", json=entry)
                assert answer.status_code == 201, answer.text
                stack.callback(pool.http.delete, f"/models/{entry['model_id']}")
            return pool

        yield register


@pytest.fixture(scope="module")
def pool_keys() -> dict[str, Any]:
    """Keys of the config of the pool of ``own_pool``: a file that needs some says so."""
    return {}


@pytest.fixture(scope="module")
def pool_of_file(
    tmp_path_factory: pytest.TempPathFactory, pool_keys: dict[str, Any]
) -> Iterator[PoolProcess]:
    with PoolProcess(tmp_path_factory.mktemp("own"), ports=12, **pool_keys) as pool:
        yield pool


@pytest.fixture
def own_pool(pool_of_file: PoolProcess) -> Iterator[WithModels]:
    """A pool that only the tests of one file share, with these models, of which it knows nothing,
    until the test ends: for tests that stop it, kill it, or want a config of their own."""
    pool = pool_of_file
    pool.ensure_runs()

    def register(*models: dict[str, Any]) -> PoolProcess:
        answer = pool.http.post("/registry", json={"models": models})
        assert answer.status_code == 200, answer.text
        return pool

    yield register
    pool.ensure_runs()
    pool.delete_models()


@pytest.fixture
def add(pool: PoolProcess) -> Iterator[Add]:
    """Register a fake model of its own name with the given script; deleted after the test."""
    with ExitStack() as stack:

        def register(**script: Any) -> str:
            entry = script.pop("entry", {})
            model = f"m{next(_numbers)}"
            answer = pool.http.post("/models/register", json=fake(model, options=script, **entry))
            assert answer.status_code == 201, answer.text
            stack.callback(pool.http.delete, f"/models/{model}")
            return model

        yield register
