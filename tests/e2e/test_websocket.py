"""Chat completions over a WebSocket with the ``websockets`` package: llama.cpp and an engine that
chats only, the gateway and a worker's port, loaded and not."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bare_client import connected, until_closed
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.sync.client import ClientConnection, connect

from e2e.conftest import MakePool
from e2e.helpers import chat, fake, run_of, until, until_another
from e2e.support import PoolProcess

pytestmark = pytest.mark.e2e
DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
ENDLESS = {"tokens": 10**7, "tokens_per_second": 50}
TORRENT = {"tokens": 10**7, "tokens_per_second": 10**6}
GOING_AWAY, RESTART, TOO_BIG = 1001, 1012, 1009
WAYS = [(model, way) for model in ("demo", "echo") for way in ("gateway", "worker", "cold")]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    options = {"threads": 1, "parallel": 2, "temperature": 0}
    demo = {"model_id": "demo", "engine": "llama.cpp", "source": str(DEMO), "options": options}
    entries = [
        demo,
        fake("echo", aliases=["nick"]),
        fake("slow", options={"load_seconds": 1}),
        fake("endless", options=ENDLESS),
        fake("same", coalesce="identical", options={"first_token_seconds": 3}),
    ]
    keys = {"stream_ping_seconds": 0.1, "max_body_mb": 1}
    with PoolProcess(tmp_path_factory.mktemp("ws"), entries, **keys) as pool:
        yield pool
        pool.assert_no_bugs()


def port_of(pool: PoolProcess, model: str, way: str) -> int:
    if way == "worker":
        return int(pool.load(model)["port"])
    if way == "cold":
        unload(pool, model)
    return pool.port


def unload(pool: PoolProcess, model: str) -> None:
    pool.http.post(f"/models/{model}/unload", json={"force": True})
    pool.wait_for(model, "COLD")


@contextlib.contextmanager
def opened(port: int, **more: Any) -> Iterator[ClientConnection]:
    url = f"ws://127.0.0.1:{port}/v1/ws"
    with connect(url, proxy=None, open_timeout=60, close_timeout=60, **more) as ws:
        yield ws


def answer(ws: ClientConnection) -> list[dict[str, Any]]:
    """The messages of one stream, without its end."""
    found = []
    while (text := ws.recv(timeout=60)) != "[DONE]":
        found.append(json.loads(text))
        assert "error" not in found[-1], found[-1]
    return found


def said(chunks: list[dict[str, Any]]) -> str:
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


def is_served(pool: PoolProcess, model: str, in_flight: int) -> bool:
    return bool(pool.model(model)["in_flight"] == in_flight)


@pytest.mark.parametrize(("model", "way"), WAYS)
def test_streamed_and_whole_as_over_http(pool: PoolProcess, model: str, way: str) -> None:
    with opened(port_of(pool, model, way)) as ws:
        ws.send(json.dumps(chat(model, max_tokens=8)))
        chunks = answer(ws)
        ws.send(json.dumps(chat(model, max_tokens=8, stream=False)))
        whole = json.loads(ws.recv(timeout=60))
    plain = pool.http.post("/v1/chat/completions", json=chat(model, max_tokens=8)).json()
    content = plain["choices"][0]["message"]["content"]
    assert said(chunks) == whole["choices"][0]["message"]["content"] == content
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert whole["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"]


def test_what_is_told_in_headers_is_in_the_first_message(pool: PoolProcess) -> None:
    with opened(port_of(pool, "echo", "gateway")) as ws:
        for _ in range(2):  # loaded and not
            ws.send(json.dumps(chat("nick", n_ctx=5)))
            first, *rest = answer(ws)
            assert first["headers"] == {"x-modelpool-model": "echo", "x-modelpool-ignored": "n_ctx"}
            assert not any("headers" in chunk for chunk in rest)
            unload(pool, "echo")


def test_a_cold_one_is_pinged_with_what_it_waits_for(pool: PoolProcess) -> None:
    """The package answers pings by itself; a bare client shows them."""
    unload(pool, "slow")
    with bare(pool.port) as sock:
        sock.sendall(masked(chat("slow")))
        came = b""
        while b"[DONE]" not in came:
            came += sock.recv(65536)
    pings, _, rest = came.partition(b'"chat.completion.chunk"')
    assert b"slow is WARMING" in pings
    assert b"hello" in rest


@contextlib.contextmanager
def bare(port: int) -> Iterator[socket.socket]:
    with connected(port) as sock:
        key = "AAAAAAAAAAAAAAAAAAAAAA=="
        sock.sendall(
            f"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            "\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        yield sock


def masked(body: dict[str, Any]) -> bytes:
    """A text frame whose mask changes nothing."""
    data = json.dumps(body).encode().ljust(126)  # shorter ones say their length in one byte
    return b"\x81" + bytes([0x80 | 126]) + struct.pack("!H", len(data)) + bytes(4) + data


@pytest.mark.parametrize("way", ["gateway", "worker"])
@pytest.mark.parametrize("how", ["close", "vanish"])
def test_who_leaves_ends_the_work(pool: PoolProcess, way: str, how: str) -> None:
    port = port_of(pool, "endless", "worker")
    with bare(pool.port if way == "gateway" else port) as sock:
        sock.sendall(masked(chat("endless")))
        until(lambda: is_served(pool, "endless", 1), "the stream")
        if how == "close":
            sock.sendall(b"\x88\x80" + bytes(4))
            until(lambda: is_served(pool, "endless", 0), "the end of it")
    until(lambda: is_served(pool, "endless", 0), "the end of it")


@pytest.mark.parametrize("way", ["gateway", "worker"])
def test_cancel_ends_the_work_and_leaves_it_open(pool: PoolProcess, way: str) -> None:
    with opened(port_of(pool, "endless", way)) as ws:
        for _ in range(2):
            ws.send(json.dumps(chat("endless")))
            assert json.loads(ws.recv(timeout=60))["choices"]
            ws.send(json.dumps({"type": "cancel"}))
            told: dict[str, Any] = {}
            while "error" not in told:
                told = json.loads(ws.recv(timeout=60))
            assert told["error"]["code"] == "cancelled"
            until(lambda: is_served(pool, "endless", 0), "the end of it")


def test_who_does_not_read_is_in_nobodys_way(make_pool: MakePool) -> None:
    pool = make_pool(fake("torrent", options=TORRENT), send_timeout_seconds=1)
    pool.load("torrent")
    with bare(pool.port) as sock:
        sock.sendall(masked(chat("torrent")))
        assert sock.recv(1), "the stream has begun"
        until(lambda: is_served(pool, "torrent", 0), "the end of what nobody reads")


@pytest.mark.parametrize("way", ["gateway", "worker"])
def test_errors_leave_it_open(pool: PoolProcess, way: str) -> None:
    bad = [
        (b"no json", 400, "body"),
        (json.dumps(chat("nobody")).encode(), 404, "model"),
        (json.dumps({"model": "echo", "messages": "hi"}).encode(), 400, "messages"),
        (json.dumps(chat("echo", max_tokens="many")).encode(), 400, "max_tokens"),
    ]
    with opened(port_of(pool, "echo", way)) as ws:
        for message, status, param in bad:
            ws.send(message.decode())
            told = json.loads(ws.recv(timeout=60))
            assert (told["status"], told["error"]["param"]) == (status, param)
        ws.send(json.dumps(chat("echo")))
        assert said(answer(ws)) == "hello there"


def test_one_that_is_the_same_shares_the_answer(pool: PoolProcess) -> None:
    port = port_of(pool, "same", "gateway")
    with opened(port) as one, opened(port) as other:
        for ws in (one, other):
            ws.send(json.dumps(chat("same")))
        first, second = answer(one), answer(other)
    assert said(first) == said(second) == "hello there"
    assert first[0]["id"] == second[0]["id"]
    assert "joined" in (first[0]["headers"] | second[0]["headers"]).values()


def test_a_message_over_the_limit_closes_it(pool: PoolProcess) -> None:
    with opened(pool.port) as ws:
        with contextlib.suppress(ConnectionClosed):
            ws.send("x" * (2 << 20))
        end = end_of(ws)
    assert end.code == TOO_BIG
    assert "max_body_mb" in end.reason


# -- the handshake ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["gateway", "worker"])
def test_a_page_of_elsewhere_is_refused(pool: PoolProcess, way: str) -> None:
    port = port_of(pool, "echo", way)
    with pytest.raises(InvalidStatus) as refused, opened(port, origin="https://evil.example"):
        pass
    told = refused.value.response
    assert told.status_code == 403
    assert "allowed_origins" in json.loads(told.body)["error"]["message"]
    with opened(port, origin="http://localhost:5173") as ws:
        ws.send(json.dumps(chat("echo")))
        assert said(answer(ws)) == "hello there"


@pytest.mark.parametrize("way", ["gateway", "worker"])
def test_without_a_handshake_it_says_what_it_is(pool: PoolProcess, way: str) -> None:
    with connected(port_of(pool, "echo", way)) as sock:
        port = sock.getpeername()[1]
        for line in (b"GET /v1/ws", b"POST /v1/ws"):
            head = b"%b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % (line, port)
            sock.sendall(head + b"Content-Length: 0\r\nContent-Type: application/json\r\n\r\n")
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = until_closed(sock)
    assert answers.startswith(b"HTTP/1.1 426 ")
    assert b"upgrade: websocket\r\n" in answers
    assert b"HTTP/1.1 405 " in answers


# -- the end of a server ---------------------------------------------------------------------------


def end_of(ws: ClientConnection) -> Close:
    """How the server closes it."""
    with contextlib.suppress(ConnectionClosed):
        for _ in ws:
            pass
    received = ws.protocol.close_rcvd
    assert received is not None
    return received


def test_a_stop_closes_it(make_pool: MakePool) -> None:
    pool = make_pool(fake("echo"))
    port = int(pool.load("echo")["port"])
    with opened(pool.port) as ws, opened(port) as direct:
        ws.send(json.dumps(chat("echo")))
        assert said(answer(ws)) == "hello there"
        assert pool.process is not None
        pool.process.send_signal(signal.SIGTERM)
        assert end_of(direct).code == GOING_AWAY
        assert end_of(ws).code == GOING_AWAY
        assert pool.process.wait(60) == 0
    pool.is_told = True


def test_a_restart_closes_it_and_says_so(make_pool: MakePool) -> None:
    pool = make_pool(fake("echo"))
    port = int(pool.load("echo")["port"])
    with opened(pool.port) as ws, opened(port) as direct:
        run = run_of(pool)
        assert pool.http.post("/restart", json={"wait_seconds": 5}).status_code == 202
        assert end_of(ws).code == RESTART
        until_another(pool, run)
        direct.send(json.dumps(chat("echo")))
        assert said(answer(direct)) == "hello there"
    with opened(pool.port) as ws:
        ws.send(json.dumps(chat("echo")))
        assert said(answer(ws)) == "hello there"


def test_an_unload_closes_those_of_its_worker(make_pool: MakePool) -> None:
    pool = make_pool(fake("endless", options=ENDLESS), graceful_shutdown_seconds=0.5)
    port = int(pool.load("endless")["port"])
    with opened(port) as direct:
        direct.send(json.dumps(chat("endless")))
        assert json.loads(direct.recv(timeout=60))["choices"]
        pool.http.post("/models/endless/unload", json={})
        *_, last = direct
        assert json.loads(last)["error"]["code"] == "worker_failed"
        assert end_of(direct).code == GOING_AWAY
