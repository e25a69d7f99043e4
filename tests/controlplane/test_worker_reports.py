"""What a worker reports counts for its model, whichever manager started it; a trial's does not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from modelpool.catalog.database import Usage
from modelpool.catalog.model import Model, trial_id
from modelpool.observe.usage import UsageMeter
from modelpool.worker_reports import MODELS_REMEMBERED, WorkerReports
from modelpool_client import __version__
from modelpool_client.wire import Facts

SAID: Any = {"pool_id": "pool", "chat_error": "", "ended": None}


class Pool:
    """Has one worker, of which it may not know with which options it was started."""

    def __init__(self, model_id: str, *, is_adopted: bool) -> None:
        model = Model(model_id, "fake", "x")
        worker = SimpleNamespace(record=SimpleNamespace(secret="s"))
        started_with = None if is_adopted else model
        self.status = SimpleNamespace(worker=worker, model=model, started_with=started_with)

    def status_of_worker(self, worker_id: str) -> Any:
        return self.status

    def record_facts(self, worker_id: str, facts: Facts) -> None: ...


def saved_in(saved: list[Usage]) -> Any:
    async def add_usage(deltas: list[Usage]) -> None:
        saved.extend(deltas)

    return add_usage


@pytest.mark.parametrize("is_adopted", [False, True])
@pytest.mark.parametrize(("model_id", "counted"), [("m", 40), (trial_id("m", 1), 0)])
def test_tokens_are_counted(model_id: str, counted: int, is_adopted: bool) -> None:
    measured: list[Model] = []
    peaks: Any = SimpleNamespace(record=lambda model, facts: measured.append(model))
    usage = UsageMeter(lambda: 0.0)
    pool = Pool(model_id, is_adopted=is_adopted)
    reports = WorkerReports(cast(Any, pool), "pool", peaks, usage)
    for tokens in (10, 50):
        facts = cast(
            Facts,
            SimpleNamespace(
                pool_id="pool", tokens_total=tokens, version="", chat_error="", ended=None
            ),
        )
        reports._hear("w", b"Bearer s", facts)
    saved: list[Usage] = []
    store: Any = SimpleNamespace(add_usage=saved_in(saved))
    asyncio.run(usage.save(store))
    assert sum(each.tokens for each in saved) == counted
    assert bool(measured) is not is_adopted


def test_a_worker_of_another_version_is_told_of_once() -> None:
    said: list[str] = []
    nothing: Any = SimpleNamespace(record=lambda *_: None)
    pool = Pool("m", is_adopted=False)
    reports = WorkerReports(
        cast(Any, pool), "pool", nothing, UsageMeter(lambda: 0.0), lambda _, text: said.append(text)
    )
    for version in (__version__, "0.0.1", "0.0.1", __version__, "0.0.2"):
        facts = cast(
            Facts,
            SimpleNamespace(
                pool_id="pool", tokens_total=0, version=version, chat_error="", ended=None
            ),
        )
        reports._hear("w", b"Bearer s", facts)
    assert [text.split(",")[0] for text in said] == [
        "its worker is of modelpool 0.0.1",
        "its worker is of modelpool 0.0.2",
    ]


def test_of_many_models_that_came_and_went_few_are_remembered() -> None:
    nothing: Any = SimpleNamespace(record=lambda *_: None)
    pool = Pool("m", is_adopted=False)
    reports = WorkerReports(cast(Any, pool), "pool", nothing, UsageMeter(lambda: 0.0))
    facts = cast(
        Facts,
        SimpleNamespace(
            pool_id="pool", tokens_total=0, version="0.0.1", chat_error="none", ended=None
        ),
    )
    for n in range(2 * MODELS_REMEMBERED):
        pool.status.model = pool.status.started_with = Model(f"m{n}", "fake", "x")
        reports._hear("w", b"Bearer s", facts)
    assert len(reports._warned) == len(reports._mute) == MODELS_REMEMBERED
