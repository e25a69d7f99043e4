"""A conversation goes on after its model was unloaded, without being read anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import MakePool, WithModels
from e2e.helpers import fake, until
from e2e.support import PoolProcess

ROOT = Path(__file__).parents[2]
MAKE = ROOT / "scripts" / "make_bench_gguf.py"
DEMO = ROOT / "configs" / "models" / "pool-demo.gguf"
# Slow enough at reading a prompt that a file is quicker by far on any machine.
SHAPE = "--layers=12 --hidden=512 --ffn=1536 --heads=8 --kv=2 --vocab=1024 --ctx=2048"
LONG = "port pool " * 150
PROMPT = "one two three four"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "slow.gguf"
    command = [sys.executable, MAKE, path, *SHAPE.split()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def keeps(model_id: str, **options: Any) -> dict[str, Any]:
    return fake(model_id, options={"keep_prompts": True, **options})


@pytest.fixture
def shared(own_pool: WithModels) -> MakePool:
    """The pool of this file with models that keep prompts, and keys of its config."""

    def make(*models: dict[str, Any], **keys: Any) -> PoolProcess:
        pool = own_pool(*models)
        usual = {"prompt_cache_disk_mb": 100, "prompt_cache_seconds": 5}
        changes = {**usual, "graceful_shutdown_seconds": 10, **keys}
        answer = pool.http.patch("/config", json=changes)
        assert answer.status_code == 200, answer.text
        return pool

    return make


def files(pool: PoolProcess) -> list[Path]:
    return sorted(p for p in (pool.state / "prompts").glob("*/*") if p.is_file())


def cached(pool: PoolProcess, model: str, text: str = PROMPT, **more: Any) -> int:
    answer = pool.chat(model, text, **more)
    assert answer.status_code == 200, answer.text
    details = answer.json()["usage"].get("prompt_tokens_details") or {}
    return int(details.get("cached_tokens", 0))


def unload(pool: PoolProcess, model: str) -> None:
    assert pool.http.post(f"/models/{model}/unload", json={}).status_code == 200
    pool.wait_for(model, "COLD")


def test_llama_there_and_back(make_pool: MakePool, slow: Path) -> None:
    first = {"model_id": "first", "engine": "llama.cpp", "source": str(slow)}
    second = {"model_id": "second", "engine": "llama.cpp", "source": str(DEMO)}
    pool = make_pool(first, second, max_concurrent_models=1)
    answer = pool.chat("first", LONG, max_tokens=4).json()
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert pool.chat("second", max_tokens=4).status_code == 200
    assert pool.state_of("first") == "COLD"
    assert len(files(pool)) == 1
    more = [
        {"role": "user", "content": LONG},
        answer["choices"][0]["message"],
        {"role": "user", "content": "and then?"},
    ]
    back = pool.chat("first", messages=more, max_tokens=4).json()
    known = back["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert known > 0.9 * answer["usage"]["prompt_tokens"]
    assert back["timings"]["cache_n"] == known


def test_it_outlives_the_pool(shared: MakePool) -> None:
    pool = shared(keeps("a"))
    cached(pool, "a")
    assert pool.stop() == 0
    assert len(files(pool)) == 1
    pool.start()
    assert cached(pool, "a", f"{PROMPT} five") == 4


def test_a_pool_that_keeps_none(shared: MakePool) -> None:
    pool = shared(keeps("a"), prompt_cache_disk_mb=0)
    cached(pool, "a")
    unload(pool, "a")
    assert files(pool) == []
    assert cached(pool, "a") == 0


def test_to_switch_it_off_removes_what_there_is(make_pool: MakePool) -> None:
    # Its workers hear of it with their next beat only.
    pool = make_pool(keeps("a"), keeps("b"), beat_seconds=3600)
    cached(pool, "a")
    unload(pool, "a")
    cached(pool, "b")
    assert len(files(pool)) == 1
    assert pool.http.patch("/config", json={"prompt_cache_disk_mb": 0}).status_code == 200
    assert files(pool) == []
    unload(pool, "b")
    assert files(pool) == []


def test_what_runs_while_it_is_off_for_a_moment(shared: MakePool) -> None:
    pool = shared(keeps("a"))
    cached(pool, "a")
    for megabytes in (0, 100):
        changes = {"prompt_cache_disk_mb": megabytes}
        assert pool.http.patch("/config", json=changes).status_code == 200
    cached(pool, "a")
    # With the answer to what it tells of that the worker hears that it is on again.
    until(lambda: pool.model("a")["requests_total"] == 2, "the worker to tell of its requests")
    unload(pool, "a")
    assert len(files(pool)) == 1


def test_a_pool_that_was_switched_off_while_it_was_down(make_pool: MakePool) -> None:
    pool = make_pool(keeps("a"))
    cached(pool, "a")
    assert pool.stop() == 0
    assert len(files(pool)) == 1
    text = pool.config.read_text()
    pool.config.write_text(text.replace("{", '{"prompt_cache_disk_mb": 0, ', 1))
    pool.start()
    assert files(pool) == []


def test_nothing_of_a_deleted_model_stays(shared: MakePool) -> None:
    pool = shared(keeps("a"))
    cached(pool, "a")
    unload(pool, "a")
    assert len(files(pool)) == 1
    assert pool.http.delete("/models/a").status_code == 200
    assert list((pool.state / "prompts").iterdir()) == []


def test_a_model_that_is_gone_from_the_file(make_pool: MakePool) -> None:
    pool = make_pool(keeps("a"), keeps("b"))
    for model in "ab":
        cached(pool, model)
        unload(pool, model)
    assert len(files(pool)) == 2
    assert pool.stop() == 0
    text = pool.config.read_text()
    pool.config.write_text(text.replace('"model_id": "a"', '"model_id": "c"'))
    pool.start()
    assert len(files(pool)) == 1
    assert cached(pool, "b") == 4


def test_a_worker_that_is_killed_while_it_saves_leaves_nothing(shared: MakePool) -> None:
    pool = shared(keeps("a", save_seconds=3600), prompt_cache_seconds=3600)
    cached(pool, "a")
    worker = pool.model("a")["worker_pid"]
    assert pool.http.post("/models/a/unload?wait=0", json={}).status_code == 202
    until(lambda: files(pool), "a file that is written")
    # Group and all, as a manager does that has lost patience.
    os.killpg(worker, signal.SIGKILL)
    pool.wait_for("a", "COLD")
    until(lambda: not files(pool), "nothing to be left")


def test_a_forced_unload_does_not_wait_for_it(shared: MakePool) -> None:
    keys = {"prompt_cache_seconds": 3600, "graceful_shutdown_seconds": 3600}
    pool = shared(keeps("a", save_seconds=3600), **keys)
    cached(pool, "a")
    assert pool.http.post("/models/a/unload", json={"force": True}).status_code == 200
    pool.wait_for("a", "COLD")
    assert files(pool) == []
