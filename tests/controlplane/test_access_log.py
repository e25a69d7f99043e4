"""Lines of the access log: what they say, and when they are written, whoever tells first."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.observe import access_log
from modelpool.observe.access_line import Access, combined_line, json_line
from modelpool.observe.access_log import AccessLog
from modelpool_client.http1.message import Request
from modelpool_client.wire import EndedRequest, LogLimits

LIMITS = LogLimits(10_000, 3)
COMBINED = re.compile(
    r'(\S+) - - \[(\d{2}/\w{3}/\d{4}:\d{2}:\d{2}:\d{2} \+0000)\] "([^"\n]*)" (\d{3}) (\d+|-)'
    r' "([^"\n]*)" "([^"\n]*)"\n'
)


class World:
    """A log, and a clock that is turned by hand."""

    def __init__(self, folder: Path, how: str = "json") -> None:
        self.now = 0.0
        self.path = folder / "access.log"
        self.log = AccessLog(how, self.path, LIMITS, 15, lambda: self.now, lambda: 1000.0)

    def ends(self, request_id: str, due: int = 0, **more: Any) -> None:
        headers = [(b"x-request-id", request_id.encode()), (b"user-agent", b"tests")]
        exchange = SimpleNamespace(
            request=Request("POST", b"/v1/chat/completions", b"key=secret", headers),
            status=200,
            code="",
            has_left=False,
            peer="127.0.0.1",
            model="m",
            headers=[(b"x-modelpool-model", b"m")],
            sent_bytes=9,
            first_at=3.0,
            is_stream=True,
            began_at=2.0,
            rows_due=due,
            channel=SimpleNamespace(now=lambda: 4.0),
        )
        for name, value in more.items():
            setattr(exchange, name, value)
        self.log.ended(exchange)  # type: ignore[arg-type]

    def tells(self, request_id: str, tokens: int = 1, **more: Any) -> None:
        row = EndedRequest(request_id=request_id, prompt_tokens=2, completion_tokens=tokens)
        self.log.told("w", "m", row._replace(**more))

    def lines(self) -> list[dict[str, Any]]:
        asyncio.run(self.log.flush())
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def ids(self) -> list[str]:
        return [line["request_id"] for line in self.lines()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_line_says_all_that_is_known(world: World) -> None:
    world.ends("a", due=1)
    assert world.lines() == [], "its tokens are not known yet"
    world.tells("a", 5)
    (line,) = world.lines()
    assert line == {
        "time": "1970-01-01T00:16:38.000+00:00",
        "request_id": "a",
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "m",
        "status": 200,
        "code": None,
        "bytes": 9,
        "seconds": 2.0,
        "first_token_seconds": 1.0,
        "prompt_tokens": 2,
        "cached_tokens": 0,
        "completion_tokens": 5,
        "tokens_estimated": False,
        "virtual_model": None,
        "user_agent": "tests",
        "direct": False,
    }


def test_what_no_worker_has_had_is_written_at_once(world: World) -> None:
    world.ends("a", status=404, code="model_not_found", headers=[], is_stream=False, model="none")
    (line,) = world.lines()
    assert (line["status"], line["code"], line["model"]) == (404, "model_not_found", "none")
    assert line["first_token_seconds"] is line["prompt_tokens"] is None


def test_what_workers_tell_by_themselves_is_no_request(world: World) -> None:
    world.ends("a", request=Request("POST", b"/internal/workers/w/facts", b"", []))
    assert world.lines() == []


def test_a_client_that_leaves_has_left(world: World) -> None:
    world.ends("a", due=1, has_left=True, status=200)
    world.tells("a", 3, status=499)
    (line,) = world.lines()
    assert (line["status"], line["code"]) == (499, "client_left")
    assert line["completion_tokens"] == 3


@given(st.permutations(["end", "row", "row"]), st.booleans())
def test_whoever_tells_first(tmp_path_factory: Any, order: list[str], is_late: bool) -> None:
    world = World(tmp_path_factory.mktemp("log"))
    for step in order:
        if step == "end":
            world.ends("a", due=2)
        else:
            world.tells("a", 4)
        world.now += 7 if is_late else 0
        world.log.give_up(world.now)
    (line,) = world.lines()
    assert line["completion_tokens"] == 8


def test_it_does_not_wait_for_ever(world: World) -> None:
    world.ends("a", due=1)
    world.ends("b", due=1)
    world.tells("b")
    world.log.give_up(14.9)
    assert world.ids() == ["b"]
    world.log.give_up(15.0)
    assert world.ids() == ["b", "a"]
    assert world.lines()[1]["completion_tokens"] is None


def test_a_client_s_id_may_come_twice(world: World) -> None:
    world.ends("a", due=1, sent_bytes=1)
    world.ends("a", due=1, sent_bytes=2)
    world.tells("a")
    assert [line["bytes"] for line in world.lines()] == [1, 2]


def test_what_is_open_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MOST_OPEN", 3)
    for number in range(5):
        world.ends(str(number), due=1)
    assert world.ids() == ["0", "1"]
    asyncio.run(world.log.close())
    assert world.ids() == ["0", "1", "2", "3", "4"]


def test_of_a_stream_that_broke_off_its_worker_knows(world: World) -> None:
    world.ends("a", due=1)
    world.tells("a", status=500, code="engine_failed")
    world.ends("b", due=2)  # asked again, and answered
    world.tells("b", status=500, code="engine_failed")
    world.tells("b")
    told = [(line["status"], line["code"]) for line in world.lines()]
    assert told == [(500, "engine_failed"), (200, None)]


def test_what_came_straight_to_a_worker_is_told_by_that(world: World) -> None:
    row = {"path": "/v1/completions", "is_direct": True, "started_at": 5.0, "seconds": 1.0}
    world.tells("a", 3, **row)
    (line,) = world.lines()
    assert (line["direct"], line["client"], line["bytes"]) == (True, None, None)
    assert (line["path"], line["completion_tokens"]) == ("/v1/completions", 3)


def test_a_disk_that_takes_nothing_costs_the_oldest_lines(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(access_log, "MOST_LINES", 3)
    world.path.mkdir()
    for number in range(5):
        world.ends(str(number))
        asyncio.run(world.log.flush())
    world.path.rmdir()
    assert world.ids() == ["2", "3", "4"]
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 2
    assert "cannot be written" in said[0]
    assert "2 lines are missing" in said[1]


def test_it_rotates_and_loses_nothing(world: World) -> None:
    count = 60
    for number in range(count):
        world.ends(str(number))
        asyncio.run(world.log.flush())
    older = [world.path.with_name(f"access.log.{n}") for n in (2, 1)]
    files = [f for f in older if f.exists()] + [world.path] * world.path.exists()
    assert len(files) > 1
    lines = [json.loads(line) for f in files for line in f.read_text().splitlines()]
    assert [line["request_id"] for line in lines] == [str(n) for n in range(count)]
    # By another's hand, too: whoever puts it aside finds the next lines in a new one.
    world.path.rename(world.path.with_name("mine"))
    world.ends("later")
    assert world.ids() == ["later"]


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    log = AccessLog("combined", None, LIMITS, 15)
    log.told("w", "m", EndedRequest(path="/v1/completions", is_direct=True))
    asyncio.run(log.flush())
    assert COMBINED.fullmatch(capfd.readouterr().out)


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_what_clients_send_breaks_no_line(path: str, agent: str, referer: str) -> None:
    access = Access(0, "r", "::1", "GET", path, user_agent=agent, referer=referer, status=200)
    line = combined_line(access)
    assert COMBINED.fullmatch(line), line
    assert line.isascii()
    line = json_line(access, [])
    assert line.count("\n") == 1
    assert json.loads(line)["path"] == path


def test_combined_is_as_others_write_it() -> None:
    access = Access(0, "r", "127.0.0.1", "GET", '/a"b', status=200, sent_bytes=5, user_agent="c/1")
    assert combined_line(access) == (
        '127.0.0.1 - - [01/Jan/1970:00:00:00 +0000] "GET /a\\x22b HTTP/1.1" 200 5 "-" "c/1"\n'
    )
