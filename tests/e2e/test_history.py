"""The past of a model outlives its manager, even one that is killed."""

from __future__ import annotations

from typing import Any

from e2e.conftest import MakePool, WithModels
from e2e.helpers import assert_error, fake, until
from e2e.support import PoolProcess
from e2e.test_poolctl import document, out


def history(pool: PoolProcess, model: str, query: str = "") -> list[dict[str, Any]]:
    answer = pool.http.get(f"/models/{model}/history{query}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["events"])


def test_it_survives_sigkill(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"), fake("org/other:7b"))
    view = pool.load("m")
    pool.load("org/other:7b")
    seen = pool.events()[-1]["id"]
    written = "SELECT 1 FROM events WHERE model_id IN ('m', 'org/other:7b')"
    until(lambda: len(pool.stored(written)) == 4, "what was told of the loads to be written")
    pool.kill()
    pool.start()
    told = history(pool, "m")
    assert [e["event"] for e in told] == ["model-adopted", "model-loaded", "model-loading"]
    loaded = told[1]
    assert (loaded["state"], loaded["port"], loaded["reason"]) == ("HOT", view["port"], "loaded")
    assert told[0]["lasted_seconds"] is None
    assert told[1]["lasted_seconds"] > 0
    assert len(history(pool, "org/other:7b")) == 3
    resumed = pool.events(seen)
    (place,) = (n for n, e in enumerate(resumed) if e["event"] == "gap")
    assert "without a word" in resumed[place]["reason"]
    former = seen.rpartition("-")[0]
    assert all(e["id"].startswith(former) for e in resumed[:place])
    assert not any(e["id"].startswith(former) for e in resumed[place + 1 :])
    assert [e["event"] for e in resumed].count("initialized") == 1


def test_pages_and_poolctl(with_models: WithModels) -> None:
    pool = with_models(fake("m", aliases=["short"]))
    for _ in range(2):
        pool.load("m")
        pool.http.post("/models/m/unload", json={})
    whole = history(pool, "short")
    assert len(whole) == 9
    first = pool.http.get("/models/m/history?limit=3").json()
    rest = history(pool, "m", f"?before={first['next_before']}")
    assert first["events"] + rest == whole
    assert pool.http.get("/models/m/history?limit=9").json()["next_before"] is not None
    assert pool.http.get("/models/m/history?limit=10").json()["next_before"] is None
    assert_error(pool.http.get("/models/m/history?limit=0"), 400, "invalid_request", "limit")
    assert_error(pool.http.get("/models/m/history?before=x"), 400, "invalid_request", "before")
    assert_error(pool.http.get("/models/nope/history"), 404, "model_not_found")
    text = out(pool, "history", "m", "--limit", "3")
    assert text.count("unload") == 2
    assert "still" in text
    assert document(pool, "history", "m", "-n", "2")["events"] == whole[:2]


def test_a_deleted_model_leaves_nothing_behind(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.http.post("/models/register", json=fake("gone"))
    assert pool.ask("gone")
    assert len(history(pool, "gone")) >= 3
    assert 'model="gone"' in pool.http.get("/metrics").text
    assert pool.http.delete("/models/gone").status_code == 200
    assert 'model="gone"' not in pool.http.get("/metrics").text
    statistics = pool.http.get("/statistics").json()
    assert "gone" not in statistics["models"]
    assert statistics["total_requests"] == 1, "the pool has answered it all the same"
    pool.http.post("/models/register", json=fake("gone"))
    assert [e["event"] for e in history(pool, "gone")] == ["model-registered"]
    assert "model-deleted" in [e["event"] for e in pool.events()]


def test_a_plan_changes_nothing(make_pool: MakePool) -> None:
    def plan(model: str) -> dict[str, Any]:
        answer = pool.http.get(f"/models/{model}/plan")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def said() -> list[Any]:
        models = pool.http.get("/models").json()["models"]
        shown = ("model_id", "state", "reason", "since", "port", "generation", "waiting")
        health = pool.http.get("/health").json()
        moves = ("uptime_seconds", "host_available_mb")
        counted = {name: value for name, value in health.items() if name not in moves}
        return [*([m[key] for key in shown] for m in models), counted]

    slow = {"load_seconds": 20, "load_steps": 100}
    pool = make_pool(
        fake("a", memory_mb=60),
        fake("b", memory_mb=60),
        fake("big", memory_mb=1000),
        fake("slow", memory_mb=1, options=slow),
        memory_limit_mb=100,
    )
    assert (plan("a")["action"], plan("a")["port"]) == ("start", pool.ports[0])
    pool.load("a")
    before = said()
    assert plan("a")["action"] == "loaded"
    # A model that was just loaded is no victim for as long as its load took.
    start = until(lambda: (p := plan("b"))["action"] == "start" and p, "a to be evictable")
    assert (start["action"], [e["model_id"] for e in start["evict"]]) == ("start", ["a"])
    assert (start["evict"][0]["memory_mb"], "idle" in start["evict"][0]["reason"]) == (60, True)
    assert (start["needs"]["memory_mb"], start["memory"]["free_mb"]) == (60, 40)
    refused = plan("big")
    assert (refused["action"], "1,000 MB" in refused["reason"]) == ("refuse", True)
    assert said() == before, "nothing moved"
    pool.http.post("/models/slow/load", json={})
    until(lambda: pool.model("slow")["engine_pid"], "its engine")
    assert plan("slow")["action"] == "join"
    assert "a (60 MB)" in out(pool, "plan", "load", "b")
    assert document(pool, "plan", "load", "b")["action"] == "start"
    pool.http.post("/models/slow/unload", json={})
    pool.http.patch("/config", json={"min_residency_seconds": 3600})
    wait = plan("b")
    assert (wait["action"], wait["waits_for"]) == ("wait", ["a"])
    assert wait["until"] > "2020"
    assert_error(pool.http.get("/models/nope/plan"), 404, "model_not_found")
