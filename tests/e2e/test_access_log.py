"""The access log and logs of objects of a real pool: who asked what, what a line is about."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx

from e2e.conftest import MakePool
from e2e.helpers import chat, fake, until
from e2e.support import PoolProcess

CUT = fake("dies", options={"tokens": 20, "tokens_per_second": 200, "die_after_tokens": 3})
SLOW = fake("slow", options={"tokens": 2000, "tokens_per_second": 20})


def whole_lines(text: str) -> list[str]:
    """Without one that is just being written."""
    return text[: text.rfind("\n") + 1].splitlines()


def lines(pool: PoolProcess) -> list[dict[str, Any]]:
    path = pool.state / "access.log"
    return [json.loads(line) for line in whole_lines(path.read_text())] if path.exists() else []


def line(pool: PoolProcess, request_id: str) -> dict[str, Any]:
    """The only one of a request, once it is there."""
    until(lambda: [x for x in lines(pool) if x["request_id"] == request_id], request_id)
    (found,) = [x for x in lines(pool) if x["request_id"] == request_id]
    return found


def ask(url: str, model: str, request_id: str, **more: Any) -> httpx.Response:
    headers = {"x-request-id": request_id, "user-agent": "tests/1"}
    body = chat(model, "one two three", **more)
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)


def leave(pool: PoolProcess, model: str, request_id: str) -> None:
    """Ask for a stream, and hang up once something has come."""
    body = json.dumps(chat(model, stream=True)).encode()
    with socket.create_connection(("127.0.0.1", pool.port)) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-Id: %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (request_id.encode(), len(body), body)
        )
        assert client.recv(1000)


def test_every_request_has_a_line(make_pool: MakePool) -> None:
    pool = make_pool(
        *(fake("m", aliases=["other"]), fake("n"), CUT, SLOW),
        access_log="json",
        request_log="off",
        log_format="json",
        virtual_models={"both": {"kind": "ensemble", "members": ["m", "n"]}},
    )
    assert ask(pool.url, "other", "plain").status_code == 200
    assert ask(pool.url, "m", "stream", stream=True).status_code == 200
    assert ask(pool.url, "m", "shared", temperature=0).status_code == 200
    assert ask(pool.url, "both", "both").status_code == 200
    assert ask(pool.url, "nobody", "lost").status_code == 404
    assert ask(pool.url, "m", "wrong", temperature="hot").status_code == 400
    ask(pool.url, "dies", "cut", stream=True)
    leave(pool, "slow", "left")
    endpoint = pool.http.get("/models/m").json()["endpoint"]
    assert ask(endpoint, "m", "direct").status_code == 200
    assert pool.http.get("/models", headers={"x-request-id": "listed"}).status_code == 200
    with socket.create_connection(("127.0.0.1", pool.port)) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert b" 400 " in client.recv(1000)

    plain = line(pool, "plain")
    assert (plain["method"], plain["path"]) == ("POST", "/v1/chat/completions")
    assert (plain["model"], plain["status"], plain["client"]) == ("m", 200, "127.0.0.1")
    assert (plain["prompt_tokens"], plain["completion_tokens"]) == (3, 3)
    assert plain["user_agent"] == "tests/1"
    assert plain["bytes"] > 0
    assert plain["first_token_seconds"] is None

    stream = line(pool, "stream")
    assert 0 <= stream["first_token_seconds"] <= stream["seconds"]
    assert stream["completion_tokens"] == 3

    assert line(pool, "shared")["completion_tokens"] == 3
    both = line(pool, "both")
    assert both["completion_tokens"] == 6
    assert both["virtual_model"].startswith("both@")
    lost = line(pool, "lost")
    assert (lost["status"], lost["code"], lost["model"]) == (404, "model_not_found", "nobody")
    assert line(pool, "wrong")["status"] == 400
    cut = line(pool, "cut")
    assert (cut["status"], cut["code"]) == (502, "engine_died")
    left = line(pool, "left")
    assert (left["status"], left["code"]) == (499, "client_left")
    direct = line(pool, "direct")
    assert (direct["direct"], direct["completion_tokens"]) == (True, 3)
    listed = line(pool, "listed")
    assert (listed["method"], listed["path"], listed["status"]) == ("GET", "/models", 200)
    until(lambda: [x for x in lines(pool) if x["status"] == 400 and not x["path"]], "nonsense")

    rows = [json.loads(row) for row in whole_lines(pool.log())]
    assert all({"time", "level", "logger", "message"} <= set(row) for row in rows)
    about = [row["message"] for row in rows if row.get("request_id") == "plain"]
    assert about[0].startswith("m: COLD -> WARMING")
    said = "".join(path.read_text() for path in (pool.state / "logs").iterdir())
    rows = [json.loads(row) for row in said.splitlines() if row.startswith("{")]
    assert any(row["message"].startswith("m is ready") and row["model"] == "m" for row in rows)


def test_a_common_format_for_common_tools(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"), access_log="combined", access_log_file="web/a.log")
    assert ask(pool.url, "m", "a").status_code == 200
    path = pool.state / "web" / "a.log"
    until(lambda: path.exists() and "/v1/chat" in path.read_text(), "the line")
    (line,) = [row for row in path.read_text().splitlines() if "/v1/chat" in row]
    assert line.startswith("127.0.0.1 - - [")
    assert '"POST /v1/chat/completions HTTP/1.1" 200 ' in line
    assert line.endswith('"-" "tests/1"')


def test_every_answer_names_its_request(pool: PoolProcess) -> None:
    for method, path in (
        *(("GET", "/models"), ("GET", "/v1/models"), ("GET", "/readyz"), ("GET", "/nowhere")),
        *(("GET", "/api/tags"), ("GET", "/v2"), ("GET", "/metrics"), ("POST", "/v1/none")),
        *(("OPTIONS", "/models"), ("GET", "/openapi.json"), ("HEAD", "/models")),
    ):
        answer = pool.http.request(method, path, headers={"x-request-id": "mine"})
        assert answer.headers.get_list("x-request-id") == ["mine"], path
        ours = pool.http.request(method, path).headers.get_list("x-request-id")
        assert len(ours) == 1, path
        odd = pool.http.request(method, path, headers={"x-request-id": "an odd one"})
        assert odd.headers["x-request-id"] not in ("an odd one", ""), path
