"""The mcp package's own client against a real pool: the revision with sessions and the one without,
fake engines and llama.cpp, and what clients do wrong."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from modelpool.mcp_server.tools import TOOLS
from support.lazy import Lazy

from e2e.conftest import MakePool
from e2e.helpers import (
    assert_error,
    fake,
    in_background,
    result,
    run_of,
    until,
    until_another,
    until_busy,
)
from e2e.support import PoolProcess

pytestmark = pytest.mark.long

mcp = Lazy("mcp")
streamable_http = Lazy("mcp.client.streamable_http")

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "models" / "pool-demo.gguf"
MAKE = ROOT / "scripts" / "make_bench_gguf.py"
SHAPE = "--layers=2 --hidden=64 --ffn=192 --heads=4 --kv=2 --vocab=1024 --ctx=512"
KINDS = {"embedder": "mean", "ranker": "rank"}
MODES = ["auto", "legacy"]  # revision 2026-07-28, and the handshake of those before
ACCEPT = {"accept": "application/json, text/event-stream"}
OLD = {**ACCEPT, "mcp-protocol-version": "2025-11-25"}
NEW = {
    **ACCEPT,
    "content-type": "application/json",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "chat",
}

Use = Callable[[Any], Awaitable[Any]]
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    folder = tmp_path_factory.mktemp("mcp")
    entries: list[dict[str, Any]] = [
        {
            "model_id": "demo",
            "engine": "llama.cpp",
            "source": str(DEMO),
            "options": {"threads": 1, "parallel": 2, "temperature": 0},
        },
        fake("echo", aliases=["standing-in"], tags=["small"]),
        fake("slow", options={"load_seconds": 1.5, "load_steps": 5}),
        fake("talker", options={"tokens": 100_000, "tokens_per_second": 20}),
        fake("broken", options={"fail_load": "bad_file", "message": "no such tensor"}),
        fake("warm", warmup=True),
    ]
    for name, pooling in KINDS.items():
        file = folder / f"{name}.gguf"
        command = [sys.executable, MAKE, file, *SHAPE.split(), f"--pooling={pooling}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        options = {"threads": 1, "parallel": 2}
        entries.append(
            {"model_id": name, "engine": "llama.cpp", "source": str(file), "options": options}
        )
    with PoolProcess(folder, entries, ports=12) as pool:
        # The first question has the package imported, and a client does not wait for that for long
        # before it takes the pool for one of an older revision.
        asked = {"name": "list_models", "arguments": {}}
        headers = {**NEW, "mcp-name": "list_models"}
        answer = pool.http.post("/mcp", content=modern(**asked), headers=headers)
        assert answer.status_code == 200, answer.text
        yield pool
        pool.assert_no_bugs()


def using(pool: PoolProcess, mode: str, use: Use) -> Any:
    """What ``use`` makes of a client of the pool."""

    async def run() -> Any:
        async with mcp.Client(f"{pool.url}/mcp", mode=mode) as client:
            return await use(client)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def call(pool: PoolProcess) -> Iterator[Call]:
    """The result of one tool, which the package has held against its output schema; a client for
    each mode is begun once, in a thread of its own."""
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        clients = {
            mode: stack.enter_context(
                portal.wrap_async_context_manager(mcp.Client(f"{pool.url}/mcp", mode=mode))
            )
            for mode in MODES
        }

        def ask(mode: str, tool: str, **arguments: Any) -> Any:
            return portal.call(clients[mode].call_tool, tool, arguments)

        yield ask


def told(found: Any) -> dict[str, Any]:
    """What a tool made."""
    assert not found.is_error, found.content
    return dict(found.structured_content)


def refused(found: Any) -> dict[str, Any]:
    """Why it did not; the text says so, too."""
    assert found.is_error, found.structured_content
    error = dict(found.structured_content["error"])
    assert error["message"] in found.content[0].text
    assert error["code"] in found.content[0].text
    return error


def caused(pool: PoolProcess) -> list[dict[str, Any]]:
    """The events that somebody's wish can have led to; others come by themselves."""
    names = ("model-loading", "model-unloading", "model-registered", "model-deleted")
    return [event for event in pool.events() if event["event"] in names]


def cold(pool: PoolProcess, model: str) -> None:
    pool.http.post(f"/models/{model}/unload", json={"force": True})
    pool.wait_for(model, "COLD")


def modern(**params: Any) -> bytes:
    """A call of a tool that says for itself what sessions say at their begin."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return json.dumps(message("tools/call", **params, _meta=meta)).encode()


def message(method: str, identifier: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params}


@pytest.mark.parametrize("mode", MODES)
def test_tools_are_listed(pool: PoolProcess, mode: str) -> None:
    async def use(client: mcp.Client) -> Any:
        assert client.server_info.name == "modelpool"
        return (await client.list_tools()).tools, client.protocol_version

    tools, version = using(pool, mode, use)
    assert version == {"auto": "2026-07-28", "legacy": "2025-11-25"}[mode]
    assert [tool.name for tool in tools] == list(TOOLS)
    for tool in tools:
        assert tool.output_schema is not None
        assert tool.annotations is not None
        assert tool.annotations.open_world_hint is False


def test_a_session_of_the_package(pool: PoolProcess) -> None:
    async def run() -> Any:
        async with (
            streamable_http.streamable_http_client(f"{pool.url}/mcp") as (read, write),
            mcp.ClientSession(read, write) as session,
        ):
            await session.initialize()
            await session.send_ping()
            return await session.call_tool("chat", {"model": "echo", "prompt": "hello there"})

    assert told(asyncio.run(run()))["text"] == "hello there"


@pytest.mark.parametrize("mode", MODES)
def test_models_are_listed_and_searched(pool: PoolProcess, call: Call, mode: str) -> None:
    page = told(call(mode, "list_models", limit=2))
    assert [m["model"] for m in page["models"]] == ["broken", "demo"]
    assert (page["total"], page["next_offset"]) == (8, 2)
    rest = told(call(mode, "list_models", offset=2))
    assert (len(rest["models"]), rest["next_offset"]) == (6, None)
    found = told(call(mode, "list_models", capability="embeddings"))
    assert [m["model"] for m in found["models"]] == ["embedder"]
    assert told(call(mode, "list_models", tag="small", engine="fake"))["total"] == 1
    pool.load("echo")
    hot = told(call(mode, "list_models", state="HOT"))["models"]
    assert "echo" in [m["model"] for m in hot]
    for query in ("STANDING", "small", "ech"):
        found = told(call(mode, "search_models", query=query))
        assert [m["model"] for m in found["models"]] == ["echo"]
    assert told(call(mode, "search_models", query="nothing like it"))["total"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_status(pool: PoolProcess, call: Call, mode: str) -> None:
    view = pool.load("echo")
    status = told(call(mode, "model_status", model="standing-in"))
    assert (status["model"], status["state"], status["port"]) == ("echo", "HOT", view["port"])
    assert status["ttl_remaining_minutes"] > 14
    assert (status["about"]["engine"], status["about"]["tags"]) == ("fake", ["small"])
    whole = told(call(mode, "pool_status"))
    assert (whole["status"], whole["models"]) == ("healthy", 8)
    assert sum(whole["states"].values()) == 8
    (worker,) = [w for w in whole["workers"] if w["model"] == "echo"]
    assert worker["port"] == view["port"]
    assert whole["available_ports"] + len(whole["workers"]) == 12


@pytest.mark.parametrize("mode", MODES)
def test_load_and_unload(pool: PoolProcess, call: Call, mode: str) -> None:
    cold(pool, "echo")
    found = call(mode, "load_model", model="echo")
    assert told(found)["state"] == "HOT"
    assert found.content[0].text.startswith("echo is HOT at http://127.0.0.1:")
    assert told(call(mode, "unload_model", model="echo"))["state"] == "COLD"
    assert pool.state_of("echo") == "COLD"
    assert told(call(mode, "load_model", model="echo", wait_seconds=0))["state"] == "WARMING"
    pool.wait_for("echo", "HOT")
    pool.wait_for("warm", "HOT")
    assert refused(call(mode, "unload_model", model="warm"))["code"] == "unload_protected"
    assert pool.state_of("warm") == "HOT"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", ["demo", "echo"])
def test_chat(pool: PoolProcess, call: Call, mode: str, model: str) -> None:
    cold(pool, model)
    found = call(mode, "chat", model=model, prompt="hello there", system="Be brief.")
    answer = told(found)
    assert found.content[0].text == answer["text"] != ""
    assert (answer["model"], answer["finish_reason"]) == (model, "stop")
    assert answer["usage"]["completion_tokens"] > 0
    talk = [{"role": "user", "content": "hello there"}]
    short = told(call(mode, "chat", model=model, messages=talk, max_tokens=1, seed=7))
    assert (short["finish_reason"], short["usage"]["completion_tokens"]) == ("length", 1)
    assert short["ignored"] == {"demo": [], "echo": ["seed"]}[model]


@pytest.mark.parametrize("mode", MODES)
def test_embed_and_rerank(pool: PoolProcess, call: Call, mode: str) -> None:
    texts = ["hello", "there"]
    vectors = told(call(mode, "embed", model="embedder", texts=texts))
    assert (vectors["dimensions"], [len(v) for v in vectors["vectors"]]) == (64, [64, 64])
    plain = pool.http.post("/v1/embeddings", json={"model": "embedder", "input": texts}).json()
    for mine, item in zip(vectors["vectors"], plain["data"], strict=True):
        assert mine == pytest.approx(item["embedding"], abs=1e-6)
    short = told(call(mode, "embed", model="embedder", texts=texts, dimensions=16))
    assert short["dimensions"] == 16
    ranked = told(call(mode, "rerank", model="ranker", query="hello", documents=texts))
    assert sorted(found["index"] for found in ranked["results"]) == [0, 1]
    scores = [found["score"] for found in ranked["results"]]
    assert scores == sorted(scores, reverse=True)
    best = told(call(mode, "rerank", model="ranker", query="hello", documents=texts, top_n=1))
    assert best["results"] == ranked["results"][:1]


@pytest.mark.parametrize("mode", MODES)
def test_errors_are_results(pool: PoolProcess, call: Call, mode: str) -> None:
    def error(tool: str, **arguments: Any) -> tuple[str, str, str | None]:
        found = refused(call(mode, tool, **arguments))
        return found["code"], found["source"], found["param"]

    assert error("chat", model="ech", prompt="x")[0] == "model_not_found"
    assert error("model_status", model="nobody")[0] == "model_not_found"
    assert error("load_model", model="a/../b")[0] == "invalid_model_id"
    assert error("chat", model="embedder", prompt="x") == ("missing_capability", "pool", "model")
    assert error("embed", model="demo", texts=["x"])[0] == "missing_capability"
    long = error("chat", model="demo", prompt="hello there " * 5000)
    assert long[0] == "context_length_exceeded"
    assert error("transcribe", model="echo", audio="no base64!") == (
        "invalid_request",
        "pool",
        "audio",
    )
    code, source, _ = error("load_model", model="broken")
    assert (code, source) == ("bad_file", "engine")


@pytest.mark.parametrize("mode", MODES)
def test_wrong_arguments_are_results_that_name_them(
    pool: PoolProcess, call: Call, mode: str
) -> None:
    before = caused(pool)

    def param(tool: str, **arguments: Any) -> str | None:
        found = refused(call(mode, tool, **arguments))
        assert found["code"] == "invalid_request"
        return found["param"]

    assert param("chat", model="echo") is None
    assert param("chat", model="echo", prompt="x", messages=[]) == "messages"
    assert param("chat", model="echo", prompt="x", temperature="hot") == "temperature"
    assert param("chat", model="echo", prompt="x", max_tokens=0) == "max_tokens"
    assert param("chat", model="echo", prompt="x", n_ctx=5) == "n_ctx"
    assert param("chat", model=5, prompt="x") == "model"
    assert param("list_models", limit=201) == "limit"
    assert param("list_models", state="warm") == "state"
    assert param("search_models") == "query"
    assert param("load_model", model="echo", wait_seconds=-1) == "wait_seconds"
    assert param("unload_model", model="echo", force=True) == "force"
    assert param("embed", model="embedder", texts=["x"] * 257) == "texts"
    assert param("pool_status", model="echo") == "model"
    assert caused(pool) == before, "nothing happened"


@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_tool_is_an_error_of_the_protocol(pool: PoolProcess, mode: str) -> None:
    async def use(client: mcp.Client) -> None:
        with pytest.raises(mcp.MCPError, match="there is no tool 'delete_all'; these are: list_m"):
            await client.call_tool("delete_all", {})

    using(pool, mode, use)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("tool", "more"), [("load_model", {}), ("chat", {"prompt": "hello there"})]
)
def test_a_cold_load_tells_its_progress(
    pool: PoolProcess, mode: str, tool: str, more: dict[str, str]
) -> None:
    cold(pool, "slow")
    news: list[tuple[float, float | None, str]] = []

    async def hear(progress: float, total: float | None, text: str | None) -> None:
        news.append((progress, total, text or ""))

    async def use(client: mcp.Client) -> Any:
        return await client.call_tool(tool, {"model": "slow", **more}, progress_callback=hear)

    told(using(pool, mode, use))
    numbers = [progress for progress, _, _ in news]
    assert len(numbers) > 1
    assert all(a < b for a, b in itertools.pairwise(numbers)), "they only grow"
    assert {total for _, total, _ in news} == {1.0}
    assert all(text.startswith("slow is ") for _, _, text in news)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_taken_back_ends_at_its_worker(pool: PoolProcess, mode: str) -> None:
    pool.load("talker")

    async def use(client: mcp.Client) -> None:
        arguments = {"model": "talker", "prompt": "talk"}
        asked = asyncio.create_task(client.call_tool("chat", arguments))
        await asyncio.to_thread(until_busy, pool, "talker")
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asyncio.to_thread(until_idle, pool, "talker")
        found = await client.call_tool("list_models", {})  # the session goes on
        assert not found.is_error

    using(pool, mode, use)


def until_idle(pool: PoolProcess, model: str) -> None:
    def look() -> bool:
        return pool.http.get(f"/models/{model}/health").json().get("in_flight") == 0

    until(look, f"{model} to be idle")


def test_a_load_that_others_wait_for_goes_on(pool: PoolProcess) -> None:
    cold(pool, "slow")
    other = in_background(lambda: pool.ask("slow"))
    pool.wait_for("slow", "WARMING")

    async def use(client: mcp.Client) -> None:
        asked = asyncio.create_task(client.call_tool("load_model", {"model": "slow"}))
        await asyncio.sleep(0.3)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    using(pool, "legacy", use)
    assert result(other) == "hello there"
    assert [name for name, _ in pool.story("slow")].count("model-loaded") >= 1


@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25"])
def test_a_client_that_vanishes_ends_its_work(pool: PoolProcess, version: str) -> None:
    pool.load("talker")
    arguments = {"model": "talker", "prompt": "talk"}
    body = modern(name="chat", arguments=arguments)  # what is new in it is nothing to the old
    head = (
        f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{pool.port}\r\ncontent-type: application/json\r\n"
        f"accept: {ACCEPT['accept']}\r\nmcp-protocol-version: {version}\r\n"
        f"mcp-method: tools/call\r\nmcp-name: chat\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", pool.port)) as client:
        client.sendall(head.encode() + body)
        until_busy(pool, "talker")
    until_idle(pool, "talker")


def test_nobody_takes_back_what_another_asked_for(pool: PoolProcess) -> None:
    pool.load("talker")
    back = message("notifications/cancelled", requestId=1)
    del back["id"]

    def ask(session: str, tokens: int = 100_000) -> Any:
        arguments = {"model": "talker", "prompt": "talk", "max_tokens": tokens}
        body = message("tools/call", name="chat", arguments=arguments)
        headers = {**OLD, "mcp-session-id": session}
        return pool.http.post("/mcp", json=body, headers=headers).text

    def cancel(session: str) -> None:
        headers = {**OLD, "mcp-session-id": session} if session else OLD
        assert pool.http.post("/mcp", json=back, headers=headers).status_code == 202

    mine = in_background(lambda: ask("mine", 40))
    until_busy(pool, "talker")
    for other in ("another", ""):
        cancel(other)
    assert '"finish_reason":"length"' in result(mine).replace(" ", "")
    until_idle(pool, "talker")
    mine = in_background(lambda: ask("mine"))
    until_busy(pool, "talker")
    cancel("mine")
    assert "cancelled" in result(mine)


def test_a_session_is_an_id_of_which_nothing_is_kept(pool: PoolProcess) -> None:
    information = {"name": "t", "version": "1"}
    begin = message(
        "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=information
    )
    ids = {
        pool.http.post("/mcp", json=begin, headers=ACCEPT).headers["mcp-session-id"]
        for _ in range(3)
    }
    assert len(ids) == 3
    later = pool.http.post(
        "/mcp", json=message("tools/list"), headers={**OLD, "mcp-session-id": "of a former run"}
    )
    assert later.status_code == 200
    assert "mcp-session-id" not in later.headers
    for method in ("GET", "DELETE", "PUT"):
        answer = pool.http.request(method, "/mcp", headers=OLD, json={})
        assert_error(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"


def test_strange_pages_and_hosts_are_kept_out(pool: PoolProcess) -> None:
    ask = message("tools/list")
    page = {**OLD, "origin": "https://evil.example"}
    assert "allowed_origins" in assert_error(
        pool.http.post("/mcp", json=ask, headers=page), 403, "forbidden"
    )
    host = {**OLD, "host": "evil.example"}
    assert_error(pool.http.post("/mcp", json=ask, headers=host), 403, "forbidden")
    own = {**OLD, "origin": "http://localhost:6274"}
    answer = pool.http.post("/mcp", json=ask, headers=own)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "http://localhost:6274"
    asked = {**own, "access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "mcp-protocol-version"
    preflight = pool.http.options("/mcp", headers=asked)
    assert preflight.headers["access-control-allow-headers"] == "mcp-protocol-version"


@pytest.mark.parametrize("headers", [OLD, {**ACCEPT, "mcp-protocol-version": "2026-07-28"}])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"jsonrpc": "2.0"}',
        b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}',
        b'{"jsonrpc": "2.0", "id": 1, "method": 5}',
        b'\xff\xfe{"jsonrpc"}',
        b"1" * 10_000,
    ],
    ids=lambda value: str(value[:20]) if isinstance(value, bytes) else "",
)
def test_garbage_is_refused_in_the_protocols_words(
    pool: PoolProcess, body: bytes, headers: dict[str, str]
) -> None:
    kind = {"content-type": "application/json"}
    answer = pool.http.post("/mcp", content=body, headers={**headers, **kind})
    assert answer.status_code == 400, answer.text
    error = answer.json()
    assert error["jsonrpc"] == "2.0"
    assert error["error"]["code"] in (-32700, -32600, -32602), error


def test_what_is_wrong_with_headers(pool: PoolProcess) -> None:
    ask = message("tools/list")
    wrong = {**ACCEPT, "mcp-protocol-version": "1999-01-01"}
    answer = pool.http.post("/mcp", json=ask, headers=wrong)
    assert answer.status_code == 400
    assert "error" in answer.json()
    assert pool.http.post("/mcp", json=ask, headers={"accept": "text/html"}).status_code == 406
    text = {**OLD, "content-type": "text/plain"}
    assert_error(pool.http.post("/mcp", content=b"{}", headers=text), 415, "unsupported_media_type")
    plain = {**OLD, "content-type": "application/x-www-form-urlencoded"}  # curl's own
    assert pool.http.post("/mcp", content=json.dumps(ask), headers=plain).status_code == 200


def test_half_a_character_is_refused(pool: PoolProcess) -> None:
    params = {"name": "chat", "arguments": {"model": "echo", "prompt": "\ud800"}}
    old = json.dumps(message("tools/call", **params))
    answer = pool.http.post(
        "/mcp", content=old, headers={**OLD, "content-type": "application/json"}
    )
    assert answer.status_code == 400
    answer = pool.http.post("/mcp", content=modern(**params), headers=NEW)
    assert answer.status_code == 200
    assert answer.json()["result"]["structuredContent"]["error"]["param"] == "prompt"


def test_a_stop_lets_calls_end_and_waits_for_no_session(make_pool: MakePool) -> None:
    pool = make_pool(
        fake("talker", options={"tokens": 60, "tokens_per_second": 20}),
        fake("never", options={"never_ready": True}),
        graceful_shutdown_seconds=30,
    )
    pool.load("talker")

    async def use(client: mcp.Client) -> Any:
        asked = asyncio.create_task(client.call_tool("chat", {"model": "talker", "prompt": "x"}))
        waiting = asyncio.create_task(client.call_tool("load_model", {"model": "never"}))
        await asyncio.to_thread(until_busy, pool, "talker")
        await asyncio.to_thread(pool.wait_for, "never", "WARMING")
        pool.term()
        return await asked, await waiting

    chat, load = using(pool, "legacy", use)
    assert told(chat)["usage"]["completion_tokens"] == 60
    assert refused(load)["code"] in ("pool_stopping", "load_cancelled")
    assert pool.stop() == 0


def test_a_client_goes_on_after_a_restart(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"))
    pool.load("m")

    async def use(client: mcp.Client) -> Any:
        first = await client.call_tool("pool_status", {})
        run = run_of(pool)
        assert pool.http.post("/restart", json={}).status_code == 202
        await asyncio.to_thread(until_another, pool, run)
        return first, await client.call_tool("chat", {"model": "m", "prompt": "hello there"})

    first, second = using(pool, "legacy", use)
    assert told(first)["status"] == "healthy"
    assert told(second)["text"] == "hello there"
