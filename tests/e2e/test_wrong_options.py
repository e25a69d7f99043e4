"""A model whose engine would refuse it is refused when it is declared, not when it is asked for."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import MakePool
from e2e.helpers import assert_error, fake, until
from e2e.support import PoolProcess
from e2e.test_reload import rewrite

TYPO = fake("m", options={"tokenz": 3})
KEY = "models[0].options.tokenz"


@pytest.mark.parametrize("command", ["serve", "up"])
def test_at_the_start(tmp_path: Path, command: str) -> None:
    pool = PoolProcess(tmp_path, [TYPO, fake("n", engine="fkae")], graze_minutes=3)
    try:
        started = pool.run(command)
        assert started.returncode != 0
        for text in (
            f"{pool.config}: {KEY} is unknown, did you mean tokens; known are ",
            "models[1].engine this version has no engine 'fkae', did you mean fake",
            "graze_minutes is unknown; did you mean grace_minutes",
        ):
            assert text in started.stderr
        assert "Traceback" not in started.stderr
        assert not (pool.state / "pool.pid").exists()
    finally:
        pool.close()


def test_at_a_reload_and_before_a_restart(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"))
    view = pool.load("m")
    rewrite(pool, [TYPO])
    for path, code in (("/config/reload", "bad_config"), ("/restart", "bad_config")):
        text = assert_error(pool.http.post(path, json={}), 400, code)
        assert f"{pool.config}: {KEY} is unknown" in text
    assert pool.model("m")["options"] == view["options"]
    assert pool.model("m")["worker_pid"] == view["worker_pid"]


def test_at_a_registration_and_an_import(pool: PoolProcess) -> None:
    before = pool.http.get("/registry").json()
    wrong = fake("new", options={"tokenz": 3, "tokens": -1})
    text = assert_error(
        pool.http.post("/models/register", json=wrong), 400, "bad_config", "options.tokenz"
    )
    assert "options.tokens must" in text
    entries = {"models": [fake("good"), wrong]}
    text = assert_error(
        pool.http.post("/registry", json=entries),
        400,
        "invalid_request",
        "models[1].options.tokenz",
    )
    assert "models[1]: options.tokens must" in text
    assert pool.http.get("/registry").json() == before


def spoil(pool: PoolProcess, model_id: str, **values: Any) -> None:
    """As if an engine of another version had taken it."""
    with sqlite3.connect(pool.state / "pool.db") as db:
        (data,) = db.execute("SELECT data FROM models WHERE model_id = ?", (model_id,)).fetchone()
        changed = json.dumps(json.loads(data) | values)
        db.execute("UPDATE models SET data = ? WHERE model_id = ?", (changed, model_id))


def test_of_one_registered_with_an_older_engine_it_is_told_at_the_start(
    make_pool: MakePool,
) -> None:
    pool = make_pool()
    assert pool.http.post("/models/register", json=fake("old")).status_code == 201
    assert pool.stop() == 0
    spoil(pool, "old", options={"tokenz": 3})
    pool.start()
    until(lambda: any(e == "model-warning" for e, _ in pool.story("old")), "the warning")
    assert "options.tokenz is unknown" in dict(pool.story("old"))["model-warning"]
    plan = pool.http.get("/models/old/plan").json()
    assert plan["action"] == "refuse"
    assert "options.tokenz is unknown" in plan["reason"]


def test_a_file_that_may_still_come_is_a_warning(make_pool: MakePool, tmp_path: Path) -> None:
    entry = {"model_id": "late", "source": str(tmp_path / "late.gguf")}
    pool = make_pool(entry, warmup_models=["ltae"])
    until(lambda: "model-warning" in dict(pool.story("late")), "the warning")
    assert "late.gguf" in dict(pool.story("late"))["model-warning"]
    told = [e["reason"] for e in pool.events() if e["event"] == "config-warning"]
    assert "warmup_models names ltae, which is not in the catalog; did you mean late?" in told


def test_up_prints_the_warnings(tmp_path: Path) -> None:
    pool = PoolProcess(tmp_path, [fake("m")], ports=2, max_concurrent_models=3)
    try:
        up = pool.run("up")
        assert up.returncode == 0, up.stderr
        assert "warning: max_concurrent_models is 3, but port_range has 2 ports" in up.stdout
    finally:
        pool.close()


def test_a_model_that_can_never_fit_is_told_of_at_once(make_pool: MakePool) -> None:
    pool = make_pool(fake("huge", memory_mb=9000), fake("fits"), memory_limit_mb=1000)
    assert pool.http.post("/models/register", json=fake("vast", memory_mb=9000)).status_code == 201
    for model_id in ("huge", "vast"):
        until(lambda m=model_id: "model-warning" in dict(pool.story(m)), "the warning")
        assert "needs 9,000 MB (declared)" in dict(pool.story(model_id))["model-warning"]
    assert "model-warning" not in dict(pool.story("fits"))
