"""Several models loaded as one: routes, over a pool that has no workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelpool.app import Running, running
from modelpool.config import PoolConfig
from support.in_process import client_of

Scene = Callable[[httpx.AsyncClient, Running], Awaitable[None]]


def play(folder: Path, scene: Scene, **keys: Any) -> None:
    async def known() -> frozenset[str]:
        return frozenset({"fake", "tgi"})

    async def main() -> None:
        config = PoolConfig(state_dir=folder / "state", memory_limit_mb=2500, **keys)
        async with running(config) as pool:
            pool.services.engines.names = known  # type: ignore[method-assign]
            async with client_of(pool.entry) as http:
                for name in "abc":
                    body = {"model_id": name, "engine": "fake", "source": "x", "memory_mb": 1000}
                    body |= {"aliases": [f"{name}{name}"]}
                    assert (await http.post("/models/register", json=body)).status_code == 201
                await scene(http, pool)

    asyncio.run(main())


async def plan(http: httpx.AsyncClient, *names: str) -> dict[str, Any]:
    answer = await http.post("/models/plan", json={"models": names})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_plan_changes_nothing(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        found = await plan(http, "a", "bb", "aa")
        assert (found["action"], found["reason"]) == ("start", "2 would start")
        steps = [(s["model_id"], s["action"], s["memory_mb"]) for s in found["steps"]]
        assert steps == [("a", "start", 1000), ("b", "start", 1000)]
        assert (found["evict"], found["memory"]["limit_mb"]) == ([], 2500)
        assert not pool.services.pool.holders

    play(tmp_path, scene)


def test_what_can_never_fit_is_refused_with_the_figures_of_each(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        found = await plan(http, "a", "b", "c")
        assert found["action"] == "refuse"
        why = "they need 3,000 MB together (a 1,000 MB, b 1,000 MB, c 1,000 MB)"
        assert found["reason"].startswith(why)
        assert [s["memory_mb"] for s in found["steps"]] == [1000] * 3
        refused = await http.post("/models/load?wait=5", json={"models": ["a", "b", "c"]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "cannot_fit")
        assert why in refused.json()["error"]["message"]
        assert not pool.services.pool.holders

    play(tmp_path, scene)


def test_an_engine_that_is_missing_is_said_of_its_model(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        bad = {"model_id": "bad", "engine": "tgi", "source": "bad"}
        assert (await http.post("/registry", json={"models": [bad]})).status_code == 200
        found = await plan(http, "a", "bad")
        assert found["reason"] == "1 would start, 1 could not be loaded"
        assert [s["action"] for s in found["steps"]] == ["refuse", "start"]
        assert "engine tgi cannot be used" in found["steps"][0]["reason"]
        answer = await http.post("/models/load", json={"models": ["bad"]})
        assert answer.status_code == 207
        (item,) = answer.json()["models"]
        assert (item["outcome"], item["error"]["code"]) == ("failed", "missing_dependency")

    play(tmp_path, scene)


WRONG: tuple[tuple[Any, int], ...] = (
    ({}, 400),
    ({"models": []}, 400),
    ({"models": "a"}, 400),
    ({"models": ["a", 1]}, 400),
    ({"models": ["a"], "ttl_minutes": 3}, 400),
    ({"models": ["a", "nope"]}, 404),
    ({"models": ["a", "b/../c"]}, 400),
)


@pytest.mark.parametrize("verb", ["load", "plan"])
def test_bad_input_changes_nothing(tmp_path: Path, verb: str) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        for body, status in WRONG:
            answer = await http.post(f"/models/{verb}", json=body)
            assert answer.status_code == status, (body, answer.text)
        get = await http.get(f"/models/{verb}")
        assert (get.status_code, get.headers["allow"]) == (405, "POST")
        assert not pool.services.pool.holders

    play(tmp_path, scene)
