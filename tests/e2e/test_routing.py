"""Virtual models in front of real processes: who answers, what if he fails, what is told of it."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from e2e.conftest import Add, MakePool
from e2e.helpers import (
    assert_error,
    chat,
    content,
    fake,
    in_background,
    result,
    streamed,
    until_busy,
)
from e2e.support import PoolProcess

HEADERS = "x-modelpool-"
StandFor = Callable[..., str]
_numbers = itertools.count(1)


@pytest.fixture
def stand_for(pool: PoolProcess) -> Iterator[StandFor]:
    """Make a virtual model of a name of its own; deleted after the test."""
    with ExitStack() as stack:

        def put(entry: dict[str, Any], name: str = "") -> str:
            name = name or f"v{next(_numbers)}"
            answer = pool.http.put(f"/virtual-models/{name}", json=entry)
            assert answer.status_code == 200, answer.text
            stack.callback(pool.http.delete, f"/virtual-models/{name}")
            return name

        yield put


def test_an_alias_a_pattern_and_defaults(pool: PoolProcess, add: Add, stand_for: StandFor) -> None:
    small = add()
    stand_for({"target": small}, "gpt-*")
    rules = {"limits": {"max_tokens": 2}, "strip": ["logit_bias"]}
    short = stand_for({"kind": "alias", "target": "gpt-4o", "request": rules}, "org/short:1")
    answer = pool.chat("gpt-4o-mini")
    assert answer.status_code == 200, answer.text
    assert content(answer) == "hello there"
    assert answer.headers[HEADERS + "model"] == small
    assert answer.headers[HEADERS + "virtual-model"].startswith("gpt-*@")
    assert f"it stands for {small}" in answer.headers[HEADERS + "route"]
    assert HEADERS + "fallback" not in answer.headers
    answer = pool.chat(short, "one two three four", logit_bias={"1": 1})
    assert content(answer).split() == ["one", "two"]
    changed = answer.headers[HEADERS + "changed"]
    assert changed == "logit_bias (stripped), max_tokens=2 (limit)"
    assert HEADERS + "virtual-model" not in pool.chat(small).headers
    assert pool.chat("gtp-4").status_code == 404


def test_every_api_takes_the_name(pool: PoolProcess, add: Add, stand_for: StandFor) -> None:
    small = add()
    name = stand_for({"target": small})
    user = {"role": "user", "content": "hello there"}
    for path, said, text in (
        ("/v1/chat/completions", {"messages": [user]}, "hello there"),
        ("/v1/completions", {"prompt": "hello there"}, "hello there"),
        ("/v1/responses", {"input": "hello there"}, "hello there"),
        ("/v1/messages", {"messages": [user], "max_tokens": 9}, "hello there"),
        ("/api/chat", {"messages": [user], "stream": False}, "hello there"),
        ("/api/generate", {"prompt": "hello there", "stream": False}, "hello there"),
    ):
        answer = pool.http.post(path, json={"model": name, **said})
        assert answer.status_code == 200, (path, answer.text)
        assert text in answer.text, path
        assert answer.headers[HEADERS + "model"] == small
    audio = {"file": ("a.wav", b"RIFF", "audio/wav")}
    answer = pool.http.post("/v1/audio/transcriptions", data={"model": name}, files=audio)
    assert answer.headers[HEADERS + "virtual-model"].startswith(f"{name}@")
    listed = pool.http.get("/v1/models").json()["data"]
    assert [e["virtual"] for e in listed if e["id"] == name] == ["alias"]
    assert pool.http.get(f"/v1/models/{name}").json()["id"] == name
    tags = pool.http.get("/api/tags").json()["models"]
    assert f"{name}:latest" in [e["name"] for e in tags]
    assert pool.http.post("/api/show", json={"model": name}).status_code == 200
    assert pool.http.get(f"/v2/models/{name}/ready").json()["ready"] is True


def test_what_a_plain_model_s_entry_says_of_requests(pool: PoolProcess, add: Add) -> None:
    rules = {"limits": {"max_tokens": 2}, "preset": "Conservative"}
    name = add(entry={"request": rules})
    for _ in range(2):  # cold, then HOT
        answer = pool.chat(name, "one two three four", temperature=0.5, max_tokens=3)
        assert content(answer) == "one two"
        changed = answer.headers[HEADERS + "changed"]
        assert changed == "top_p=0.9 (default), max_tokens=2 (limit, was 3)"
    assert pool.model(name)["request"] == rules


def test_weights_are_kept_and_conversations_stay(
    pool: PoolProcess, add: Add, stand_for: StandFor
) -> None:
    a, b = add(reply="A"), add(reply="B")
    mix = stand_for({a: 50, b: 50})

    def asked(session: str) -> str:
        said = {"X-Session-ID": session}
        answer = pool.http.post("/v1/chat/completions", json=chat(mix), headers=said)
        assert {"A": a, "B": b}[content(answer)] == answer.headers[HEADERS + "model"]
        return content(answer)

    first = {f"s{i}": asked(f"s{i}") for i in range(16)}
    assert set(first.values()) == {"A", "B"}
    assert {session: asked(session) for session in first} == first


def test_one_that_cannot_be_loaded_is_followed_by_the_next(
    pool: PoolProcess, add: Add, stand_for: StandFor
) -> None:
    broken, gone, sound = add(fail_load="oom"), add(), add(reply="sound")
    safe = stand_for({"targets": [broken, gone, sound]})
    deleted = pool.http.delete(f"/models/{gone}").json()
    assert deleted["virtual_models"] == [safe]
    assert pool.http.get(f"/virtual-models/{safe}").json()["missing"] == [gone]
    answer = pool.chat(safe)
    assert answer.status_code == 200, answer.text
    assert content(answer) == "sound"
    assert answer.headers[HEADERS + "model"] == sound
    told = answer.headers[HEADERS + "fallback"]
    assert told == f"{broken} (oom), {gone} (model_not_found)"
    stream = streamed(pool.url, chat(safe))
    assert (stream.text.strip(), stream.is_done) == ("sound", True)
    events = [e for e in pool.events() if e.get("virtual_model") == safe]
    assert {(e["event"], e.get("model_id"), e.get("code")) for e in events} >= {
        ("virtual-model-changed", None, None),
        ("virtual-model-warning", gone, None),
        ("model-fallback", broken, "oom"),
    }


def test_a_mistake_of_the_client_moves_nothing_on(
    pool: PoolProcess, add: Add, stand_for: StandFor
) -> None:
    a, b = add(), add()
    safe = stand_for({"targets": [a, b]})
    for _ in range(2):  # cold, then HOT
        answer = pool.chat(safe, temperature="hot")
        assert_error(answer, 400, "invalid_request", "temperature")
        assert HEADERS + "fallback" not in answer.headers
        pool.load(a)
    assert pool.state_of(b) == "COLD"


def test_a_worker_that_dies_before_and_one_that_dies_after_the_first_byte(
    make_pool: MakePool,
) -> None:
    pool = make_pool(
        fake("slow", options={"first_token_seconds": 600}),
        fake("mortal", options={"die_after_tokens": 2, "tokens": 5}),
        fake("sound", options={"reply": "sound"}),
        fake("other", options={"reply": "other"}),
        aliases={"before": ["slow", "sound"], "after": ["mortal", "other"]},
        crash_budget=0,
    )
    asking = in_background(lambda: streamed(pool.url, chat("before")))
    until_busy(pool, "slow")
    os.kill(pool.model("slow")["worker_pid"], signal.SIGKILL)
    stream = result(asking)
    assert (stream.text.strip(), stream.is_done) == ("sound", True)

    stream = streamed(pool.url, chat("after"))
    assert not stream.is_done
    assert stream.text.strip()
    assert "other" not in stream.text
    assert stream.error
    assert pool.state_of("other") == "COLD"
    # Nothing of a plain answer is sent before it is whole: it may be another's.
    answer = pool.chat("after")
    assert content(answer) == "other"
    assert answer.headers[HEADERS + "fallback"].startswith("mortal (")


def test_changes_are_versions(pool: PoolProcess, add: Add, stand_for: StandFor) -> None:
    a, b = add(reply="A"), add(reply="B")
    name = stand_for({"target": a})
    path = f"/virtual-models/{name}"
    assert content(pool.chat(name)) == "A"
    tag = pool.http.get(path).headers["etag"]
    answer = pool.http.put(path, json={"target": b}, headers={"If-Match": tag})
    assert answer.headers["etag"] == '"2"'
    assert content(pool.chat(name)) == "B"
    answer = pool.http.put(path, json={"target": a}, headers={"If-Match": tag})
    assert_error(answer, 412, "version_mismatch")
    answer = pool.http.put(path, json={"target": a}, headers={"If-None-Match": "*"})
    assert_error(answer, 412, "version_mismatch")
    answer = pool.http.put(path, json={"target": a}, headers={"If-Match": "x"})
    assert_error(answer, 400, "invalid_request", "If-Match")
    assert pool.http.post(f"{path}/rollback", json={}).json()["virtual_model"]["version"] == 3
    assert content(pool.chat(name)) == "A"
    assert_error(pool.http.post(f"{path}/rollback", json={"version": 9}), 404, "not_found")
    versions = pool.http.get(f"{path}/versions").json()["versions"]
    assert [v["version"] for v in versions] == [2, 1]
    assert pool.http.get(f"{path}/rollback").status_code == 405


def test_what_is_refused(pool: PoolProcess, add: Add, stand_for: StandFor) -> None:
    a = add()
    name = stand_for({"target": a})
    for wrong, status, code in (
        ({"target": "nobody"}, 400, "unknown_target"),
        ({"target": name}, 409, "circle"),
        ({"kind": "nope"}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
    ):
        assert_error(pool.http.put(f"/virtual-models/{name}", json=wrong), status, code)
    assert pool.http.get(f"/virtual-models/{name}").json()["version"] == 1
    assert_error(pool.http.put(f"/virtual-models/{a}", json={"target": name}), 409, "name_taken")
    assert_error(
        pool.http.put("/virtual-models/current", json={"target": a}), 400, "invalid_request"
    )
    entry = fake(name)
    assert_error(pool.http.post("/models/register", json=entry), 409, "name_taken")
    assert_error(pool.http.get("/virtual-models/nobody"), 404, "not_found")
    assert_error(pool.http.post("/route", json={"model": "nobody"}), 404, "model_not_found")


def test_what_was_changed_at_run_time_outlives_the_manager(make_pool: MakePool) -> None:
    pool = make_pool(
        fake("a", options={"reply": "A"}),
        fake("b", options={"reply": "B"}),
        aliases={"said": "a", "kept": "a"},
    )
    assert pool.http.put("/virtual-models/said", json={"target": "b"}).status_code == 200
    assert pool.http.put("/virtual-models/own", json={"targets": ["b", "a"]}).status_code == 200
    settings = json.loads(pool.config.read_text())
    pool.stop()
    pool.start()
    asked = {name: pool.ask(name) for name in ("said", "kept", "own")}
    assert asked == {"said": "B", "kept": "A", "own": "B"}
    settings["aliases"] = {"said": ["a"], "new": "b"}
    pool.config.write_text(json.dumps(settings))
    assert pool.http.post("/config/reload", json={}).status_code == 200
    asked = {name: pool.ask(name) for name in ("said", "new", "own")}
    assert asked == {"said": "A", "new": "B", "own": "B"}
    assert pool.chat("kept").status_code == 404
