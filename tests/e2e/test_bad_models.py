"""Bad names, bad catalog entries and bad files: 4xx with the parameter named, nothing changed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.formats.gguf import read_gguf

from e2e.conftest import MakePool
from e2e.helpers import assert_error, fake, until
from e2e.support import PoolProcess

NOBODY = 65534

DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
SLASHED = "org/slashed:7b"
ROUTES = [
    ("GET", ""),
    ("DELETE", ""),
    ("POST", "/load"),
    ("POST", "/unload"),
    ("POST", "/extend-ttl"),
    ("GET", "/endpoint"),
    ("GET", "/health"),
    ("GET", "/capabilities"),
    ("GET", "/logs"),
]
BAD_IDS = {
    "dots": "..",
    "coded dots": "%2e%2e",
    "dots inside": "a/../b",
    "coded dots inside": "a%2F..%2Fb",
    "zero": "a%00b",
    "newline": "a%0Ab",
    "escape": "a%1bb",
    "twice a slash": "a//b",
    "coded twice": "a%2F%2Fb",
    "blank": "%20plain",
    "long": "x" * 256,
    "long in bytes": "%C3%A9" * 128,
    "a word": "auto",
}


def raw(pool: PoolProcess, method: str, target: str, body: Any = None) -> httpx.Response:
    """The target as it stands: other clients would tidy it up."""
    connection = http.client.HTTPConnection("127.0.0.1", pool.port, timeout=60)
    try:
        connection.putrequest(method, target)
        data = json.dumps(body).encode() if body is not None else b""
        connection.putheader("Content-Length", str(len(data)))
        connection.putheader("Content-Type", "application/json")
        connection.endheaders(data)
        answer = connection.getresponse()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
    finally:
        connection.close()


def body_for(route: str) -> Any:
    return {"minutes": 1} if route == "/extend-ttl" else {}


@pytest.mark.parametrize("model_id", BAD_IDS.values(), ids=BAD_IDS)
@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_an_id_against_the_grammar(
    pool: PoolProcess, method: str, route: str, model_id: str
) -> None:
    answer = raw(pool, method, f"/models/{model_id}{route}", body_for(route))
    assert_error(answer, 400, "invalid_model_id", "model_id")


@pytest.mark.parametrize("model_id", ["nope", "%ff", "%F0%9F%A6%99", "plain/more"])
@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_an_unknown_id(pool: PoolProcess, method: str, route: str, model_id: str) -> None:
    answer = raw(pool, method, f"/models/{model_id}{route}", body_for(route))
    assert_error(answer, 404, "model_not_found")


@pytest.mark.parametrize("name", ["org/slashed:7b", "org%2Fslashed:7b", "org%2fslashed%3A7b"])
@pytest.mark.parametrize(("method", "route"), [r for r in ROUTES if r[0] != "DELETE"])
def test_a_name_with_slash_and_colon_in_any_spelling(
    pool: PoolProcess, method: str, route: str, name: str
) -> None:
    pool.load(SLASHED)
    answer = raw(pool, method, f"/models/{name}{route}", body_for(route))
    assert answer.status_code == 200, answer.text
    if route != "/logs":
        assert SLASHED in answer.text
    assert raw(pool, "GET", f"/v1/models/{name}").json()["id"] == SLASHED


@pytest.mark.parametrize("path", ["/models/{}/load/", "//models//{}//load", "/models//{}/load//"])
@pytest.mark.parametrize("name", ["org/slashed:7b", "org%2Fslashed%3A7b"])
def test_slashes_too_many_reach_the_route(pool: PoolProcess, path: str, name: str) -> None:
    answer = raw(pool, "POST", path.format(name) + "?wait=30", {})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"]["model_id"] == SLASHED


WRONG_ENTRIES: list[tuple[dict[str, Any], str]] = [
    ({"model_id": ".."}, "model_id"),
    ({"model_id": "a/load"}, "model_id"),
    ({"model_id": "register"}, "model_id"),
    ({"model_id": "a\nb"}, "model_id"),
    ({"model_id": "x" * 256}, "model_id"),
    ({"model_id": ""}, "model_id"),
    ({"model_id": 5}, "model_id"),
    ({"engine": "nope"}, "engine"),
    ({"source": 5}, "source"),
    ({"options": []}, "options"),
    ({"options": {"tokens": 10**400}}, "options"),
    ({"aliases": "x"}, "aliases"),
    ({"ttl_minutes": -1}, "ttl_minutes"),
    ({"ttl_minutes": 1e9}, "ttl_minutes"),
    ({"priority": "urgent"}, "priority"),
    ({"memory_mb": -1}, "memory_mb"),
    ({"memory_mb": 1e300}, "memory_mb"),
    ({"memory_mb": 10**400}, "memory_mb"),
    ({"context_length": -1}, "context_length"),
    ({"warmup": "yes"}, "warmup"),
    ({"tags": [1]}, "tags"),
    ({"metadata": []}, "metadata"),
    ({"display_name": "x" * 100_000}, "display_name"),
    ({"nope": 1}, "nope"),
]


@pytest.mark.parametrize(("change", "param"), WRONG_ENTRIES, ids=lambda v: str(v)[:30])
def test_a_wrong_entry(pool: PoolProcess, change: dict[str, Any], param: str) -> None:
    before = pool.http.get("/registry").json()
    answer = pool.http.post("/models/register", json=fake("new") | change)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert param in error["message"]
    assert pool.http.get("/registry").json() == before


def test_a_name_that_is_taken(pool: PoolProcess) -> None:
    answer = pool.http.post("/models/register", json=fake("plain"))
    assert_error(answer, 409, "model_exists", "model_id")
    other = pool.http.post("/models/register", json=fake("new", aliases=["standing-in"]))
    assert other.status_code == 409


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "/models/plain/load?wait=-1", {}, "wait"),
        ("POST", "/models/plain/load?wait=x", {}, "wait"),
        ("POST", "/models/plain/load?wait=nan", {}, "wait"),
        ("POST", "/models/plain/load?wait=1e300", {}, "wait"),
        ("POST", "/models/plain/load", {"n_ctx": 4096}, "n_ctx"),
        ("POST", "/models/plain/unload", {"force": "yes"}, "force"),
        ("POST", "/models/plain/extend-ttl", {"minutes": -1}, "minutes"),
        ("POST", "/models/plain/extend-ttl", {"minutes": 1e300}, "minutes"),
        ("POST", "/models/plain/extend-ttl", {"minutes": 10**400}, "minutes"),
        ("POST", "/models/plain/extend-ttl", {"minutes": True}, "minutes"),
        ("POST", "/models/plain/extend-ttl", {}, "minutes"),
        ("POST", "/models/plain/extend-ttl", [], "body"),
        ("GET", "/models/plain/logs?lines=-1", None, "lines"),
        ("GET", "/models/plain/logs?lines=1e9", None, "lines"),
        ("GET", "/models/plain/logs?follow=perhaps", None, "follow"),
        ("PATCH", "/config", {"default_ttl_minutes": -1}, "default_ttl_minutes"),
        ("PATCH", "/config", {"max_concurrent_models": 10**400}, "max_concurrent_models"),
        ("PATCH", "/config", {"memory_limit_mb": 10**400}, "memory_limit_mb"),
        ("PATCH", "/config", {"port": 8000}, "port"),
        ("PATCH", "/config", {"nope": 1}, "nope"),
        ("PATCH", "/config", "x", "body"),
        ("POST", "/registry", {}, "models"),
        ("POST", "/registry", {"models": [5]}, "models[0]"),
        ("POST", "/registry", {"models": [], "replace": "x"}, "replace"),
    ],
    ids=lambda v: f"{v}"[:40],
)
def test_a_wrong_parameter(
    pool: PoolProcess, method: str, path: str, body: Any, param: str
) -> None:
    answer = pool.http.request(method, path, json=body)
    assert_error(answer, 400, "invalid_request", param)


@pytest.mark.parametrize("path", ["/models/register", "/registry", "/models/plain/load"])
def test_a_management_body_that_is_too_large_or_no_json(pool: PoolProcess, path: str) -> None:
    headers = {"content-type": "application/json"}
    huge = b'{"a":"' + b"a" * (65 << 20) + b'"}'
    answer = pool.http.post(path, content=huge, headers=headers)
    assert_error(answer, 413, "payload_too_large")
    for body in (b"{", b'{"a": "\xff"}', b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}"):
        answer = pool.http.post(path, content=body, headers=headers)
        assert_error(answer, 400, "invalid_request", "body")


def gguf(model_id: str, source: Path) -> dict[str, Any]:
    return {"model_id": model_id, "engine": "llama.cpp", "source": str(source)}


FILES = {
    "empty": b"",
    "garbage": b"this is no model" * 100,
    "only the magic": b"GGUF",
    "absurd counts": b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 16,
    "cut in the header": DEMO.read_bytes()[:1000],
    "cut in the tensors": DEMO.read_bytes()[:-4096],
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_file_that_is_no_model_is_not_registered(
    pool: PoolProcess, tmp_path: Path, data: bytes
) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(data)
    answer = pool.http.post("/models/register", json=gguf("bad", file))
    assert str(file) in assert_error(answer, 400, "bad_file", "source")


def test_a_file_that_is_not_there_or_no_file(pool: PoolProcess, tmp_path: Path) -> None:
    for source in (tmp_path / "none.gguf", tmp_path):
        answer = pool.http.post("/models/register", json=gguf("bad", source))
        assert_error(answer, 400, "bad_file", "source")
    # Outside the folders of the config file nothing is told of what is no model.
    for source in (Path("/dev/null"), Path("/dev/zero"), Path("/none.gguf")):
        answer = pool.http.post("/models/register", json=gguf("bad", source))
        assert_error(answer, 400, "only_in_config", "source")


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything, so that root has to be somebody else for a moment."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


def test_a_directory_that_cannot_be_read(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "model.gguf").write_bytes(DEMO.read_bytes())
    closed.chmod(0)
    try:
        with as_nobody(), pytest.raises(BadModelFile, match=r"model\.gguf.*denied"):
            read_gguf(closed / "model.gguf")
    finally:
        closed.chmod(0o700)


@pytest.mark.parametrize("spoil", ["gone", "garbage", "cut"])
def test_a_file_that_went_bad_after_it_was_registered(
    pool: PoolProcess, tmp_path: Path, spoil: str
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(DEMO.read_bytes())
    assert pool.http.post("/models/register", json=gguf("spoilt", file)).status_code == 201
    try:
        if spoil == "gone":
            file.unlink()
        else:
            file.write_bytes(b"garbage" * 100 if spoil == "garbage" else DEMO.read_bytes()[:-4096])
        assert "spoilt" in assert_error(pool.chat("spoilt"), 503, "bad_file")
        assert pool.state_of("spoilt") == "COLD", "nothing was begun for it"
        planned = pool.http.get("/models/spoilt/plan").json()
        assert planned["action"] == "refuse"
        assert str(file) in planned["reason"]
    finally:
        assert pool.http.delete("/models/spoilt").status_code == 200


def test_nobody_makes_room_for_a_file_that_went_bad(make_pool: MakePool, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(DEMO.read_bytes())
    pool = make_pool(fake("stays"), gguf("spoilt", file), max_concurrent_models=1)
    pool.load("stays")
    pid = pool.model("stays")["worker_pid"]
    file.unlink()
    assert_error(pool.chat("spoilt"), 503, "bad_file")
    assert_error(pool.http.post("/models/spoilt/load?wait=9", json={}), 503, "bad_file")
    assert (pool.state_of("stays"), pool.model("stays")["worker_pid"]) == ("HOT", pid)
    file.write_bytes(DEMO.read_bytes())
    assert pool.chat("spoilt").status_code == 200
    assert pool.state_of("stays") == "COLD"


def with_broken_template(file: Path) -> Path:
    data = DEMO.read_bytes()
    assert data.count(b"{% endfor %}") == 1
    file.write_bytes(data.replace(b"{% endfor %}", b"{% endfoo %}"))
    return file


def test_a_broken_chat_template_until_an_option_says_another(
    pool: PoolProcess, tmp_path: Path
) -> None:
    entry = gguf("mute", with_broken_template(tmp_path / "mute.gguf"))
    said = tmp_path / "plain.jinja"
    said.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    try:
        assert pool.http.post("/models/register", json=entry).status_code == 201
        for stream in (False, True):
            answer = pool.chat("mute", stream=stream, max_tokens=2)
            message = assert_error(answer, 400, "chat_template_error")
            assert answer.headers["x-modelpool-source"] == "engine"
            assert "endfoo" in message
            assert "chat_template_file" in message
        body = {"model": "mute", "prompt": "a", "max_tokens": 2}
        assert pool.http.post("/v1/completions", json=body).status_code == 200
        assert pool.state_of("mute") == "HOT"
        until(lambda: "chat" not in pool.model("mute")["capabilities"], "it is known")
        pool.http.post("/models/mute/unload", json={"force": True})
        pool.wait_for("mute", "COLD")
        assert_error(pool.chat("mute"), 400, "chat_template_error")
        assert pool.state_of("mute") == "COLD", "it was loaded for what it is known not to do"
        assert pool.http.post("/v1/completions", json=body).status_code == 200
        pool.http.delete("/models/mute?force=true")
        entry["options"] = {"chat_template_file": str(said)}
        assert pool.http.post("/models/register", json=entry).status_code == 201
        assert pool.chat("mute", max_tokens=2).status_code == 200
    finally:
        pool.http.delete("/models/mute?force=true")


def test_a_chat_template_said_twice_is_not_registered(pool: PoolProcess) -> None:
    options = {"chat_template": "chatml", "chat_template_file": "/some/where.jinja"}
    entry = gguf("twice", DEMO) | {"options": options}
    answer = pool.http.post("/models/register", json=entry)
    assert_error(answer, 400, "bad_config", "options.chat_template_file")


def test_an_option_that_the_engine_does_not_know(pool: PoolProcess) -> None:
    entry = fake("odd", options={"nope": 1})
    assert pool.http.post("/models/register", json=entry).status_code in (201, 400)
    if pool.http.get("/models/odd").status_code == 200:
        try:
            assert "nope" in assert_error(pool.chat("odd"), 503, "bad_config")
        finally:
            pool.http.delete("/models/odd")
