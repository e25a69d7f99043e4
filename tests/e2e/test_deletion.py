"""A busy model is deleted: its work ends, and its id is taken until its worker is gone."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from e2e.helpers import (
    WAIT_SECONDS,
    assert_error,
    chat,
    fake,
    in_background,
    result,
    standing_still,
    until,
    until_busy,
)
from e2e.support import FAST, PoolProcess


@pytest.fixture
def patient(pool: PoolProcess) -> Iterator[PoolProcess]:
    """Whose models have as long to end their work as the test may take."""
    name = "graceful_shutdown_seconds"
    pool.http.patch("/config", json={name: WAIT_SECONDS}).raise_for_status()
    yield pool
    pool.http.patch("/config", json={name: FAST[name]}).raise_for_status()


def test_an_id_is_free_again_when_its_worker_is_gone(patient: PoolProcess) -> None:
    pool = patient
    entry = fake("leaving")
    assert pool.http.post("/models/register", json=entry).status_code == 201
    pool.load("leaving")
    with standing_still(pool, "leaving"):
        asked = in_background(
            lambda: httpx.post(f"{pool.url}/v1/chat/completions", json=chat("leaving"), timeout=60)
        )
        until_busy(pool, "leaving")
        deleted = in_background(lambda: httpx.delete(f"{pool.url}/models/leaving", timeout=60))
        until(lambda: pool.http.get("/models/leaving").status_code == 404, "the entry to go")
        again = pool.http.post("/models/register", json=entry)
        assert_error(again, 409, "being_deleted", "model_id")
    assert result(asked).status_code == 200
    assert result(deleted).status_code == 200
    assert pool.http.post("/models/register", json=entry).status_code == 201
    assert pool.model("leaving")["state"] == "COLD"
    assert pool.http.delete("/models/leaving").status_code == 200
