"""Logs that rotate while a worker and its manager write them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from modelpool_client import PoolClient

from e2e.conftest import MakePool
from e2e.helpers import WAIT_SECONDS, fake, in_background, result, until
from e2e.support import PoolProcess

TOKENS = 2000


def test_the_log_of_a_running_worker_rotates_and_is_followed_as_one(make_pool: MakePool) -> None:
    chatty = fake("m", options={"tokens": TOKENS, "log_tokens": True})
    pool = make_pool(chatty, log_max_mb=0.01, log_max_files=100)
    view = pool.load("m")
    said = [f"fake: token {n}" for n in range(TOKENS)]
    has_begun = threading.Event()

    def followed() -> list[str]:
        got: list[str] = []
        with PoolClient(pool.url) as client:
            for line in client.logs("m", lines=1000, follow=True):
                has_begun.set()
                got += [line] if line.startswith("fake: token") else []
                if line == said[-1]:
                    return got
        return got

    following = in_background(followed)
    assert has_begun.wait(WAIT_SECONDS)
    assert pool.chat("m").status_code == 200
    assert result(following) == said, "nothing is left out or told twice"
    files = list((pool.state / "logs").glob("m-*.log*"))
    assert len(files) > 3
    assert max(f.stat().st_size for f in files) < 11_000
    with PoolClient(pool.url) as client:
        assert [x for x in client.logs("m", lines=700) if "fake" in x][-600:] == said[-600:]
    assert pool.model("m")["worker_pid"] == view["worker_pid"]


def test_the_last_words_of_a_worker_are_found_over_a_rotation(make_pool: MakePool) -> None:
    options = {"tokens": 40, "log_tokens": True, "die_after_tokens": 30}
    pool = make_pool(fake("m", options=options), log_max_mb=0.0004)
    pool.load("m")
    pool.chat("m")
    until(lambda: pool.state_of("m") == "FAILED", "its failure")
    assert "fake: dying after 30 tokens" in str(pool.model("m")["failure"])


@pytest.mark.slow
def test_the_managers_own_log_rotates_where_up_started_it(tmp_path: Path) -> None:
    pool = PoolProcess(tmp_path, [fake("m")], log_max_mb=0.001, log_max_files=3)
    try:
        assert pool.run("up").returncode == 0
        files = [pool.state / name for name in ("pool.log", "pool.log.1", "pool.log.2")]
        for _ in range(60):
            pool.load("m")
            assert pool.http.post("/models/m/unload?wait=60", json={}).status_code == 200
            if all(f.exists() for f in files):
                break
        assert sorted(pool.state.glob("pool.log*")) == sorted(files)
        assert pool.run("restart").returncode == 0
        assert "the pool listens on" in "".join(f.read_text() for f in files)
        assert max(f.stat().st_size for f in files) < 1500
        assert pool.run("down").returncode == 0
        assert sorted(pool.state.glob("pool.log*")) == sorted(files)
    finally:
        pool.close()
