"""The config file is read again: by SIGHUP, by the route, by poolctl; only what changed counts."""

from __future__ import annotations

import json
import signal
from typing import Any

import httpx

from e2e.conftest import MakePool
from e2e.helpers import (
    alive,
    assert_error,
    chat,
    fake,
    result,
    streaming,
    until,
)
from e2e.support import PoolProcess
from e2e.test_poolctl import document, out


def rewrite(pool: PoolProcess, models: list[dict[str, Any]] | None = None, **keys: Any) -> None:
    said = json.loads(pool.config.read_text())
    said |= keys | ({} if models is None else {"models": models})
    pool.config.write_text(json.dumps(said))


def reload(pool: PoolProcess) -> dict[str, Any]:
    answer = pool.http.post("/config/reload", json={})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_only_what_changed_is_touched(make_pool: MakePool) -> None:
    pool = make_pool(fake("stays"), fake("changes"), fake("goes"), default_ttl_minutes=10)
    stays, changes = pool.load("stays"), pool.load("changes")
    pool.load("goes")
    models = [fake("stays"), fake("changes", options={"tokens": 2}), fake("new")]
    rewrite(pool, models, default_ttl_minutes=20, max_body_mb=1)
    done = reload(pool)
    assert done == {
        "file": str(pool.config),
        "changed": {"default_ttl_minutes": 20},
        "needs_restart": {"max_body_mb": 1},
        "models": {"added": ["new"], "updated": ["changes"], "removed": ["goes"]},
    }
    for before in (stays, changes):
        assert pool.model(before["model_id"])["worker_pid"] == before["worker_pid"]
    assert pool.model("stays")["ttl_remaining_minutes"] > 15
    assert pool.http.get("/models/goes").status_code == 404
    assert pool.ask("new") == "hello there"
    assert [p.pid for p in pool.fronts("goes")] == []
    changed = [e for e in pool.events() if "POST /config/reload" in e["reason"]]
    assert [e["event"] for e in changed] == [
        "config-changed",
        "model-registered",
        "model-updated",
        "model-deleted",
    ]
    assert "pool.json has changed" in changed[1]["reason"]
    assert reload(pool)["changed"] == {}
    assert reload(pool)["needs_restart"] == {"max_body_mb": 1}, "still, until the restart"


def test_a_removed_model_ends_its_work_first(make_pool: MakePool) -> None:
    pool = make_pool(fake("m", options={"tokens": 30, "tokens_per_second": 20}))
    view = pool.load("m")
    task = streaming(view["endpoint"], chat("m"))
    rewrite(pool, [])
    assert reload(pool)["models"]["removed"] == ["m"]
    assert result(task).is_done
    assert not alive(view["worker_pid"])


def test_by_signal_and_by_poolctl(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"))
    rewrite(pool, grace_minutes=3)
    assert pool.process is not None
    pool.process.send_signal(signal.SIGHUP)
    until(lambda: pool.http.get("/config").json()["grace_minutes"] == 3, "the new value")
    assert ("config-changed", "SIGHUP") in [(e["event"], e["reason"]) for e in pool.events()]
    rewrite(pool, [fake("m"), fake("n")], grace_minutes=4)
    text = out(pool, "config", "reload")
    assert "grace_minutes" in text
    assert "models added" in text
    assert document(pool, "config", "reload")["changed"] == {}


def test_what_was_set_at_run_time_stays_until_the_file_says_otherwise(make_pool: MakePool) -> None:
    pool = make_pool(default_ttl_minutes=10, max_ttl_minutes=60)
    pool.http.patch("/config", json={"default_ttl_minutes": 30, "max_ttl_minutes": 40})
    rewrite(pool, grace_minutes=3)
    assert reload(pool)["changed"] == {"grace_minutes": 3}
    assert pool.http.get("/config").json()["default_ttl_minutes"] == 30
    rewrite(pool, default_ttl_minutes=12)
    assert reload(pool)["changed"] == {"default_ttl_minutes": 12}
    rewrite(pool, default_ttl_minutes=50)
    text = assert_error(pool.http.post("/config/reload", json={}), 400, "invalid_request")
    assert "between 0 and 40" in text, "it contradicts what was set at run time"
    assert pool.http.get("/config").json()["default_ttl_minutes"] == 12


def test_what_running_workers_are_told_of_a_change(make_pool: MakePool) -> None:
    options = {"tokens": 60, "tokens_per_second": 20}
    pool = make_pool(fake("m", options=options), graceful_shutdown_seconds=1)
    view = pool.load("m")
    rewrite(pool, [fake("m", options=options, aliases=["nick"])], graceful_shutdown_seconds=30)
    reload(pool)
    task = streaming(pool.url, chat("nick"))
    models = f"{view['endpoint']}/v1/models"
    until(
        lambda: "nick" in httpx.get(models, trust_env=False, verify=False, timeout=60).text,
        "the alias on its own port",
    )
    assert pool.http.post("/models/m/unload?wait=60", json={}).status_code == 200
    assert result(task).is_done, "the new time to end in counts"


def test_a_bad_file_changes_nothing_and_says_everything(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"))
    view = pool.load("m")
    before = pool.http.get("/config").json()
    rewrite(pool, [fake("m", ttl_minutes=-1)], grace_minutes=-1, port="x", crash_budget=9)
    text = assert_error(pool.http.post("/config/reload", json={}), 400, "bad_config")
    for key in ("grace_minutes", "port", "models[0].ttl_minutes"):
        assert key in text
    assert str(pool.config) in text
    pool.config.write_text("{")
    assert_error(pool.http.post("/config/reload", json={}), 400, "bad_config")
    assert pool.process is not None
    pool.process.send_signal(signal.SIGHUP)
    failed = "config-reload-failed"
    until(lambda: [e["event"] for e in pool.events()].count(failed) == 3, "the third complaint")
    after = pool.http.get("/config").json()
    assert {**after, "crash_window_seconds": 0} == {**before, "crash_window_seconds": 0}
    assert pool.model("m")["worker_pid"] == view["worker_pid"]
    rewrite_whole = {**before, "models": [fake("m")], "grace_minutes": 1}
    pool.config.write_text(json.dumps(rewrite_whole))
    assert reload(pool)["changed"]["grace_minutes"] == 1


def test_names_that_belong_to_a_model_of_run_time(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.http.post("/models/register", json=fake("mine", aliases=["short"]))
    rewrite(pool, [fake("short")], grace_minutes=1)
    assert_error(pool.http.post("/config/reload", json={}), 409, "conflict")
    assert pool.http.get("/config").json()["grace_minutes"] == 0.1
    assert pool.http.get("/health").json()["total_models"] == 1


def test_a_warm_up_model_that_is_new_begins(make_pool: MakePool) -> None:
    pool = make_pool()
    rewrite(pool, [fake("warm", warmup=True), fake("never", warmup=True, memory_mb=10**9)])
    assert reload(pool)["models"]["added"] == ["warm", "never"]
    pool.wait_for("warm", "HOT")
    until(lambda: "refused" in pool.model("never")["reason"], "the word of the other")
