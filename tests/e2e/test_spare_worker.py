"""The process that waits for the next load, under a real manager."""

from __future__ import annotations

import contextlib

import psutil

from e2e.conftest import MakePool
from e2e.helpers import chat, content, fake, marked, until
from e2e.support import PoolProcess


def waiting(pool: PoolProcess) -> list[psutil.Process]:
    """Those that no model has."""
    models = pool.http.get("/models").json()["models"]
    taken = {r["worker_pid"] for model in models for r in model["replicas"]}
    found = []
    for process in marked(pool.mark):
        with contextlib.suppress(psutil.Error):
            if "spare" in process.cmdline() and process.pid not in taken:
                found.append((process, process.ppid()))
    fronts = {process.pid for process, _ in found}
    return [process for process, parent in found if parent not in fronts | taken]


def spare(pool: PoolProcess) -> psutil.Process:
    """The one that waits, as its manager knows as well: a start may already be seen from outside
    while whoever asked for it has not heard of it."""

    def known() -> list[psutil.Process]:
        return [p for p in waiting(pool) if f"process {p.pid} waits for" in pool.log()]

    [process] = until(known, "a process that waits")
    return process


def test_a_swap_takes_the_process_that_waits(make_pool: MakePool) -> None:
    pool = make_pool(fake("a"), fake("b"), max_concurrent_models=1, enable_spare_worker=True)
    pool.load("a")
    expected = spare(pool)
    assert content(pool.http.post("/v1/chat/completions", json=chat("b", "hello"))) == "hello"
    assert pool.model("b")["worker_pid"] == expected.pid
    assert "b is ready on port" in pool.http.get("/models/b/logs").text
    following = spare(pool)
    assert following.pid != expected.pid
    pool.http.post("/models/b/unload", json={"force": True})
    assert waiting(pool) == [following]


def test_it_goes_with_its_manager_and_workers_that_began_as_one_stay(make_pool: MakePool) -> None:
    pool = make_pool(fake("a"), fake("b"), enable_spare_worker=True)
    pool.load("a")
    spare(pool)
    pool.load("b")
    pid = pool.model("b")["worker_pid"]
    last = spare(pool)
    pool.kill()
    until(lambda: not last.is_running(), "the end of the one that waits")
    pool.start()
    assert pool.model("b")["worker_pid"] == pid
    assert not waiting(pool), "nothing was started here yet"


def test_without_it_nobody_waits(make_pool: MakePool) -> None:
    pool = make_pool(fake("a"), enable_spare_worker=False)
    pool.load("a")
    assert not waiting(pool)
