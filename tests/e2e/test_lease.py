"""Lease, grace and unload as they are seen from outside, with leases of seconds."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import httpx
import pytest

from e2e.conftest import Add, WithModels
from e2e.helpers import WAIT_SECONDS, alive, assert_error, chat, fake, until
from e2e.support import PoolProcess

pytestmark = pytest.mark.long

SECOND = 1 / 60
# For longer no request is held up on a busy machine; in minutes.
LONG = 5 * SECOND


def leased(own_pool: WithModels, ttl: float, grace: float, **options: Any) -> PoolProcess:
    """A pool with the model ``m``; lease and grace period in minutes."""
    pool = own_pool(fake("m", ttl_minutes=ttl, options=options))
    answer = pool.http.patch("/config", json={"grace_minutes": grace})
    assert answer.status_code == 200, answer.text
    return pool


def test_idle_goes_from_hot_to_cooling_to_cold_with_reasons(own_pool: WithModels) -> None:
    pool = leased(own_pool, 0.8 * SECOND, 10)
    view = pool.load("m")
    cooling = pool.wait_for("m", "COOLING")
    assert cooling["endpoint"] == view["endpoint"]
    assert cooling["ttl_remaining_minutes"] == 0
    # Only now, or it could have gone before anybody had looked.
    pool.http.patch("/config", json={"grace_minutes": 0.8 * SECOND}).raise_for_status()
    pool.wait_for("m", "COLD")
    story = pool.story("m")
    assert [name for name, _ in story] == [
        "model-loading",
        "model-loaded",
        "model-cooling",
        "model-unloading",
        "model-unloaded",
    ]
    assert all(reason for _, reason in story)
    assert "idle" in story[2][1]
    assert "grace" in story[3][1]
    assert not alive(view["worker_pid"])


@pytest.mark.parametrize("way", ["gateway", "port"])
def test_a_request_while_cooling_brings_it_back(own_pool: WithModels, way: str) -> None:
    pool = leased(own_pool, 0.5 * SECOND, 1)
    view = pool.load("m")
    pool.wait_for("m", "COOLING")
    url = pool.url if way == "gateway" else view["endpoint"]
    answer = httpx.post(
        f"{url}/v1/chat/completions", json=chat("m"), trust_env=False, verify=False, timeout=60
    )
    assert answer.status_code == 200
    until(lambda: "model-hot" in dict(pool.story("m")), "its return")
    assert "used while cooling" in dict(pool.story("m"))["model-hot"]
    assert pool.model("m")["worker_pid"] == view["worker_pid"]


def test_direct_traffic_alone_keeps_it_hot(own_pool: WithModels) -> None:
    pool = leased(own_pool, LONG, 0.2 * SECOND)
    view = pool.load("m")
    end = time.monotonic() + LONG / SECOND + 1
    with httpx.Client(
        base_url=view["endpoint"], trust_env=False, verify=False, timeout=60
    ) as worker:
        while time.monotonic() < end:
            assert worker.post("/v1/chat/completions", json=chat("m")).status_code == 200
            time.sleep(0.3)
    assert pool.model("m")["worker_pid"] == view["worker_pid"]
    assert [name for name, _ in pool.story("m")] == ["model-loading", "model-loaded"]
    pool.wait_for("m", "COLD")


def test_a_long_answer_outlasts_the_lease(own_pool: WithModels) -> None:
    pool = leased(own_pool, LONG, 0, tokens=120, tokens_per_second=20)
    view = pool.load("m")
    answer = httpx.post(
        f"{view['endpoint']}/v1/chat/completions",
        json=chat("m"),
        timeout=60,
        trust_env=False,
        verify=False,
    )
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 120
    pool.wait_for("m", "COLD")
    names = [name for name, _ in pool.story("m")]
    assert names.count("model-cooling") == 1, "it has not cooled in between"


def test_extend_is_granted_up_to_the_maximum(pool: PoolProcess, add: Add) -> None:
    m = add()
    pool.load(m)
    granted = pool.http.post(f"/models/{m}/extend-ttl", json={"minutes": 30}).json()
    assert granted["granted_minutes"] == pytest.approx(30, abs=0.1)
    assert not granted["capped"]
    capped = pool.http.post(f"/models/{m}/extend-ttl", json={"minutes": 600}).json()
    assert capped["capped"]
    assert capped["ttl_remaining_minutes"] == pytest.approx(60, abs=0.1)


def test_extend_needs_a_loaded_model(pool: PoolProcess, add: Add) -> None:
    answer = pool.http.post(f"/models/{add()}/extend-ttl", json={"minutes": 5})
    assert_error(answer, 409, "not_loaded")


def test_a_ttl_of_zero_is_for_ever(pool: PoolProcess, add: Add) -> None:
    view = pool.load(add(entry={"ttl_minutes": 0}))
    assert view["ttl_remaining_minutes"] == 0
    assert view["expires_at"] is None


@pytest.mark.parametrize("way", ["gateway", "port"])
def test_requests_that_are_refused_keep_nothing_loaded(own_pool: WithModels, way: str) -> None:
    pool = leased(own_pool, 0.5 * SECOND, SECOND)
    view = pool.load("m")
    url = pool.url if way == "gateway" else view["endpoint"]
    wrong = {"model": "m", "messages": "no list"}
    end = time.monotonic() + WAIT_SECONDS
    while pool.state_of("m") in ("HOT", "COOLING"):
        assert time.monotonic() < end, "they renew its lease"
        with contextlib.suppress(httpx.TransportError):  # it may leave just now
            answer = httpx.post(
                f"{url}/v1/chat/completions", json=wrong, trust_env=False, verify=False, timeout=60
            )
            assert answer.status_code in (400, 503), answer.text
        time.sleep(0.1)
    pool.wait_for("m", "COLD")
