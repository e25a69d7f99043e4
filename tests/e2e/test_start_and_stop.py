"""Start and stop: two managers, ports that strangers have, TERM with work in flight, up, down."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.conftest import MakePool
from e2e.helpers import (
    WAIT_SECONDS,
    assert_error,
    chat,
    fake,
    free_block,
    in_background,
    result,
    streaming,
    until,
)
from e2e.support import PoolProcess

pytestmark = pytest.mark.long


@contextmanager
def stranger(port: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port)):
        yield


def test_a_second_manager_refuses(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"))
    view = pool.load("m")
    settings = json.loads(pool.config.read_text())
    on_the_port = pool.run("serve")
    pool.config.write_text(json.dumps(settings | {"port": free_block(1)}))
    on_the_database = pool.run("serve")
    pool.config.write_text(json.dumps(settings))
    assert f"port {pool.port} " in on_the_port.stderr
    assert "MODELPOOL_PORT" in on_the_port.stderr
    assert f"in use by process {pool.pid}" in on_the_database.stderr
    for second in (on_the_port, on_the_database):
        assert second.returncode != 0
        assert "Traceback" not in second.stderr
    assert pool.model("m")["worker_pid"] == view["worker_pid"]
    assert pool.ask("m") == "hello there"


def test_a_stranger_on_a_workers_port_is_stepped_over(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"), warmup_models=[])
    with stranger(pool.ports[0]), stranger(pool.ports[1]):
        view = pool.load("m")
        assert view["port"] == pool.ports[2]
        taken = [e for e in pool.events() if e["event"] == "port-taken"]
        assert [e["port"] for e in taken] == list(pool.ports[:2])
        assert all(e["reason"] for e in taken)
        assert pool.ask("m") == "hello there"


def test_all_ports_taken_is_503(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"), fake("n"), ports=1)
    pool.load("m")
    answer = pool.chat("n")
    assert_error(answer, 503, "no_port_free")
    assert int(answer.headers["retry-after"]) >= 1


def test_term_lets_streams_end_and_leaves_nothing(make_pool: MakePool) -> None:
    pool = make_pool(fake("m", options={"tokens": 40, "tokens_per_second": 20}))
    view = pool.load("m")
    tasks = [streaming(url, chat("m")) for url in (pool.url, view["endpoint"])]
    pool.term()
    for stream in map(result, tasks):
        assert stream.is_done, stream.error
        assert not stream.error
    assert pool.process is not None
    assert pool.process.wait(WAIT_SECONDS) == 0
    pool.assert_nothing_left()


def test_term_cuts_readably_what_does_not_end_in_time(make_pool: MakePool) -> None:
    slow = {"tokens": 2000, "tokens_per_second": 20}
    pool = make_pool(fake("m", options=slow), graceful_shutdown_seconds=1)
    pool.load("m")
    task = streaming(pool.url, chat("m"))
    pool.term()
    stream = result(task)
    assert not stream.is_done
    assert stream.error["message"]
    assert pool.process is not None
    assert pool.process.wait(WAIT_SECONDS) == 0


def test_while_stopping_new_work_is_refused(make_pool: MakePool) -> None:
    slow = {"tokens": 100, "tokens_per_second": 20}
    pool = make_pool(fake("m", options=slow), graceful_shutdown_seconds=60)
    pool.load("m")
    task = streaming(pool.url, chat("m"))
    pool.term()
    until(lambda: pool.http.get("/readyz").status_code == 503, "the manager to heed it")
    assert_error(pool.chat("m"), 503, "pool_stopping")
    assert result(task).is_done


def test_up_is_repeatable_and_down_ends_it(tmp_path: Path) -> None:
    pool = PoolProcess(tmp_path, [fake("m")], warmup_models=["m"])
    try:
        first = pool.run("up")
        assert first.returncode == 0, first.stderr
        assert f"http://127.0.0.1:{pool.port}" in first.stdout
        assert "m  HOT" in first.stdout
        second = pool.run("up")
        assert second.returncode == 0, second.stderr
        assert "runs already" in second.stdout
        assert pool.ask("m") == "hello there"
    finally:
        pool.close()


def test_of_two_ups_at_once_one_starts_it_and_down_finds_it(tmp_path: Path) -> None:
    pool = PoolProcess(tmp_path, [fake("m")])
    try:
        both = [result(task) for task in [in_background(lambda: pool.run("up")) for _ in range(2)]]
        assert [up.returncode for up in both] == [0, 0], [up.stderr for up in both]
        assert sum("runs already" in up.stdout for up in both) == 1
        down = pool.run("down")
        assert "the pool is down" in down.stdout, down.stderr
        assert not pool.answers()
    finally:
        pool.close()


def test_up_tells_what_is_wrong(tmp_path: Path) -> None:
    broken = fake("m", options={"fail_load": "bad_file", "message": "not a model"})
    pool = PoolProcess(tmp_path, [broken], warmup_models=["m"])
    try:
        with stranger(pool.port):
            refused = pool.run("up")
            assert refused.returncode != 0
            assert f"port {pool.port}" in refused.stderr
        up = pool.run("up")
        assert "FAILED" in up.stdout
        assert "not a model" in up.stdout
    finally:
        pool.close()


def test_up_beside_a_running_pool_leaves_warm_up_models_as_their_users_want_them(
    tmp_path: Path,
) -> None:
    models = [fake("m", warmup=True), fake("other")]
    pool = PoolProcess(tmp_path, models, max_concurrent_models=1)
    try:
        assert pool.run("up").returncode == 0
        unloaded = pool.http.post("/models/m/unload?wait=60", json={"force": True})
        assert unloaded.status_code == 200, unloaded.text
        again = pool.run("up")
        assert again.returncode == 0, again.stderr
        assert "runs already" in again.stdout
        assert "m is left as it is; `poolctl load` brings it back" in again.stdout
        assert pool.state_of("m") == "COLD", "and nothing was loaded behind their backs"
        pool.load("m")
        pool.load("other")  # evicts it
        evicted = pool.run("up")
        assert evicted.returncode == 0, evicted.stderr
        assert "evicted to make room for other" in evicted.stdout
        late = fake("late", warmup=True)
        assert pool.http.post("/models/register", json=late).status_code == 201
        assert pool.run("up").returncode == 0, "registered, and nobody has asked for it yet"
    finally:
        pool.close()


def test_up_beside_a_running_pool_still_tells_what_is_wrong(tmp_path: Path) -> None:
    broken = fake("broken", options={"fail_load": "bad_file", "message": "not a model"})
    huge = fake("huge", memory_mb=10**6)
    pool = PoolProcess(tmp_path, [broken, huge], warmup_models=["broken", "huge"])
    try:
        for _ in range(2):
            up = pool.run("up")
            assert up.returncode != 0
            assert "(bad_file): not a model" in up.stderr
            assert "huge: refused" in up.stderr
        assert "runs already" in up.stdout
    finally:
        pool.close()
