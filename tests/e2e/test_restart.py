"""A restart replaces the manager; workers, their streams and their leases never notice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import httpx
import psutil
import pytest
from support.bare_client import connected, request, until_closed

from e2e.conftest import MakePool, WithModels
from e2e.helpers import (
    alive,
    assert_error,
    chat,
    clean_environment,
    fake,
    in_background,
    lease_goes_on,
    result,
    run_of,
    streaming,
    until,
    until_another,
    until_busy,
)
from e2e.support import PoolProcess

pytestmark = pytest.mark.long

# Longer than a restart takes.
SLOW = {"tokens": 100, "tokens_per_second": 20}
POOLCTL = [sys.executable, "-m", "modelpool_client.cli"]


def poolctl(pool: PoolProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*POOLCTL, *arguments],
        env=clean_environment(MODELPOOL_URL=pool.url, COLUMNS="160"),
        capture_output=True,
        text=True,
        timeout=180,
    )


def identity(view: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(view[key] for key in ("worker_pid", "engine_pid", "port", "generation"))


def restart(pool: PoolProcess, **body: Any) -> None:
    """By the route; returns when the next manager answers."""
    before = run_of(pool)
    answer = pool.http.post("/restart", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["run"] == before
    until_another(pool, before)


def test_workers_and_leases_go_on(own_pool: WithModels) -> None:
    pool = own_pool(fake("m", ttl_minutes=10), fake("n"), fake("cold"))
    before, other = pool.load("m"), pool.load("n")
    with lease_goes_on(pool, "m", 10):
        done = poolctl(pool, "restart")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 workers adopted" in done.stdout
    for view in (before, other):
        assert f"port {view['port']}  pid {view['worker_pid']}" in done.stdout
    after = pool.model("m")
    assert (identity(after), identity(pool.model("n"))) == (identity(before), identity(other))
    assert pool.process is not None
    assert pool.process.poll() is None, "the manager has the same process"
    assert pool.http.get("/health").json()["pid"] == pool.pid
    assert pool.ask("m") == "hello there"


def test_who_follows_a_log_goes_on(own_pool: WithModels) -> None:
    pool = own_pool(fake("followed"))
    pool.load("followed")
    (log,) = (pool.state / "logs").glob("followed-*.log")
    told = pool.folder / "told"
    with told.open("wb") as out:
        process = subprocess.Popen(
            [*POOLCTL, "logs", "followed", "-f"],
            env=clean_environment(MODELPOOL_URL=pool.url),
            stdout=out,
        )
    try:
        until(lambda: told.read_bytes(), "the first lines")
        restart(pool, wait_seconds=5)
        with log.open("a") as more:
            more.write("this is new\n")
        until(lambda: b"this is new\n" in told.read_bytes(), "the news")
        assert told.read_bytes() in log.read_bytes(), "nothing twice, nothing left out"
    finally:
        process.kill()
        process.wait()


def test_again_and_again_and_then_down(own_pool: WithModels) -> None:
    """Each manager reaps what it inherited, and what it ends is gone."""
    pool = own_pool(fake("m"), fake("n"))
    first = pool.load("m")
    for _ in range(3):
        restart(pool)
    assert identity(pool.model("m")) == identity(first)
    pool.http.post("/models/m/unload", json={})
    assert not psutil.pid_exists(first["worker_pid"]), "a dead child that nobody reaped"
    died = pool.load("n")
    restart(pool)
    os.kill(died["worker_pid"], signal.SIGKILL)
    pool.wait_for("n", "FAILED")
    assert pool.model("n")["failure"]["exit_code"] == -signal.SIGKILL
    assert pool.stop() == 0


def test_a_stream_on_a_workers_port_never_notices(own_pool: WithModels) -> None:
    pool = own_pool(fake("m", options=SLOW))
    view = pool.load("m")
    task = streaming(view["endpoint"], chat("m"))
    restart(pool)
    is_whole = task.done  # where a restart takes that long
    until(lambda: is_whole() or pool.model("m")["in_flight"] == 1, "it to be under way still")
    stream = result(task)
    assert stream.is_done
    assert len(stream.data) == 100 + 2
    assert identity(pool.model("m")) == identity(view)


def test_requests_through_the_gateway_may_end(own_pool: WithModels) -> None:
    pool = own_pool(fake("m", options=SLOW))
    pool.load("m")
    answer = in_background(lambda: pool.chat("m"))
    stream = streaming(pool.url, chat("m"))
    until_busy(pool, "m", 2)
    with httpx.Client(base_url=pool.url, trust_env=False, verify=False, timeout=60) as http:
        run = http.get("/health").json()["run"]
        assert http.post("/restart", json={"wait_seconds": 20}).status_code == 202
    assert result(answer).status_code == 200
    assert result(stream).is_done
    until_another(pool, run)


def test_what_takes_too_long_is_cut_with_a_readable_error(own_pool: WithModels) -> None:
    pool = own_pool(
        fake("m", options={"tokens": 600, "tokens_per_second": 20}),
        fake("cold", options={"load_seconds": 30}),
    )
    view = pool.load("m")
    answer = in_background(lambda: pool.chat("m"))
    stream = streaming(pool.url, chat("m"))
    load = in_background(
        lambda: httpx.post(f"{pool.url}/models/cold/load?wait=60", json={}, timeout=60)
    )
    until_busy(pool, "m", 2)
    until(lambda: pool.model("cold")["engine_pid"], "the load")
    loading = pool.model("cold")["worker_pid"]
    restart(pool, wait_seconds=0.5)
    assert "restarts" in assert_error(result(answer), 503, "pool_restarting")
    assert result(answer).headers["retry-after"] == "1"
    cut = result(stream)
    assert (cut.error["code"], cut.is_done) == ("pool_restarting", False)
    assert cut.text, "it had begun"
    assert_error(result(load), 503, "pool_restarting")
    until(lambda: pool.model("m")["in_flight"] == 0, "the engine to notice that nobody listens")
    assert identity(pool.model("m")) == identity(view)
    assert pool.model("cold")["worker_pid"] == loading, "the load goes on"


def test_nobody_is_refused_meanwhile(own_pool: WithModels) -> None:
    """New connections wait in the queue of the socket that both managers share."""
    pool = own_pool(fake("m"))
    pool.load("m")
    run, seen = run_of(pool), []
    assert pool.http.post("/restart", json={}).status_code == 202
    while not seen or seen[-1] == run:
        try:
            seen.append(
                httpx.get(f"{pool.url}/health", timeout=60, trust_env=False, verify=False).json()[
                    "run"
                ]
            )
        except httpx.ConnectError as e:
            pytest.fail(f"refused: {e}")
        except httpx.TransportError:
            continue  # it came to the old one in its last moment
    assert pool.ask("m") == "hello there"


def test_events_go_on_from_the_last_one_seen(own_pool: WithModels) -> None:
    pool = own_pool(fake("m"))
    pool.load("m")
    seen = pool.events()[-1]["id"]
    pool.http.post("/models/m/unload", json={})
    restart(pool)
    told = [e["event"] for e in pool.events(seen)]
    assert told[:3] == ["config-changed", "model-unloading", "model-unloaded"]
    assert [e for e in told if e in ("stopped", "initialized")] == ["stopped", "initialized"]
    assert "gap" not in told


def test_a_restart_that_cannot_be(own_pool: WithModels) -> None:
    pool = own_pool(fake("m"))
    good = pool.config.read_text()
    run = run_of(pool)
    pool.config.write_text(json.dumps({**json.loads(good), "grace_minutes": -1, "nonsense": 1}))
    answer = pool.http.post("/restart", json={})
    text = assert_error(answer, 400, "bad_config")
    assert "grace_minutes" in text
    assert "nonsense" in text
    pool.config.write_text(good)
    assert_error(pool.http.post("/restart", json={"wait_seconds": -1}), 400, "invalid_request")
    assert run_of(pool) == run


def test_a_restart_whose_manager_could_not_start_is_refused(own_pool: WithModels) -> None:
    pool = own_pool(fake("m"))
    good, run = json.loads(pool.config.read_text()), run_of(pool)
    pool.http.post("/models/register", json=fake("mine", aliases=["short"]))
    taken = socket.create_server(("127.0.0.1", 0))
    nowhere = {"kind": "http", "url": "http://127.0.0.1:1", "token_file": "/nonexistent"}
    file = pool.config.parent / "file"
    file.write_text("no folder")
    for keys, why in (
        ({"models": [fake("short")]}, "short"),
        ({"registrars": [nowhere]}, "token_file"),
        ({"port": taken.getsockname()[1]}, "cannot be taken"),
        ({"state_dir": str(file)}, "state_dir"),
        ({"state_dir": str(file / "new")}, "state_dir"),
    ):
        pool.config.write_text(json.dumps({**good, **keys}))
        answer = pool.http.post("/restart", json={})
        assert answer.status_code == 409, answer.text
        assert why in answer.json()["error"]["message"]
        assert run_of(pool) == run
    taken.close()
    pool.config.write_text(json.dumps(good))
    restart(pool)


def test_term_while_requests_may_still_end(make_pool: MakePool) -> None:
    keys = {"graceful_shutdown_seconds": 1}
    pool = make_pool(fake("m", options={"tokens": 600, "tokens_per_second": 20}), **keys)
    view = pool.load("m")
    task = streaming(pool.url, chat("m"))
    assert pool.http.post("/restart", json={"wait_seconds": 600}).status_code == 202
    assert pool.stop() == 0
    assert not result(task).is_done
    assert result(task).error["code"] != "pool_restarting"
    assert not alive(view["worker_pid"])


def test_term_when_the_workers_were_let_go_already(make_pool: MakePool) -> None:
    """A registry that does not answer holds the manager up; the next one hears of the TERM."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        pool = make_pool(fake("m"), registrars=[{"kind": "http", "url": url}])
        view = pool.load("m")
        assert pool.http.post("/restart", json={"wait_seconds": 0}).status_code == 202
        until(lambda: "the workers wait for the next manager" in pool.log(), "its leave")
        assert pool.stop() == 0
        assert not alive(view["worker_pid"])
        assert pool.log().count("the pool listens on") == 2


def test_keys_that_need_it_and_modelpool_restart(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"))
    view = pool.load("m")
    keys = json.loads(pool.config.read_text())
    pool.config.write_text(json.dumps({**keys, "max_body_mb": 1}))
    done = pool.run("restart")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"pid {view['worker_pid']}" in done.stdout
    assert pool.http.get("/config").json()["max_body_mb"] == 1
    pool.stop()
    gone = pool.run("restart")
    assert (gone.returncode, alive(view["worker_pid"])) == (1, False)
    assert "nobody answers" in gone.stderr.lower()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models/register"])
def test_who_is_still_sending_is_told(own_pool: WithModels, path: str) -> None:
    pool = own_pool(fake("m"))
    run = run_of(pool)
    with connected(pool.port) as sock:
        sock.sendall(request(pool.port, b'{"model": "m"', length=100, path=path))
        for _ in range(3):  # what was sent before these has been read by then
            assert run_of(pool) == run
        assert pool.http.post("/restart", json={"wait_seconds": 0}).status_code == 202
        answer = until_closed(sock)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code": "pool_restarting"' in answer or b'"code":"pool_restarting"' in answer
    until_another(pool, run)
