"""Messages to targets: what they look like, and what becomes of them where a target fails, hangs,
asks for a pause or is not there."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modelpool.alerts import retry
from modelpool.alerts.addresses import NoAddress, address_of
from modelpool.alerts.deliveries import Deliveries
from modelpool.alerts.evaluate import Alert, Status
from modelpool.alerts.messages import message_for, trial_message
from modelpool.alerts.sender import MOST_WAITING, HttpClient, Sender
from modelpool.alerts.settings import AlertTargetSettings
from modelpool.alerts.targets.base import MOST_ALERTS
from modelpool.alerts.targets.registry import body_of, is_known, kinds
from modelpool.alerts.targets.slack import MOST_LINES
from modelpool_client.errors import NotFound

SECRET = "T0CEN-SECRET"
FIRING = Alert(
    "High", (("model", "org/m"),), "warning", "It fails.", Status.FIRING, 0.5, "50 %", 10, 20, 20
)
RESOLVED = replace(FIRING, labels=(("model", "n"),), status=Status.RESOLVED, resolved_at=100.0)


class Target:
    """A server on loopback that answers as its script says: a status, one with Retry-After, the
    words ``hang``, ``close`` and ``drip``; then 200. ``bodies`` are what it took."""

    def __init__(self, script: Sequence[int | str | tuple[int, str]] = ()) -> None:
        self.script = list(script)
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{SECRET}"

    async def __aenter__(self) -> Target:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                )
                body = json.loads(await reader.readexactly(length))
                self.paths.append(head.split(b" ")[1].decode())
                step = self.script.pop(0) if self.script else 200
                if step == "hang":
                    await reader.read()
                    return
                if step == "close":
                    return
                status, more = step if isinstance(step, tuple) else (step, "")
                if step == "drip":
                    # The head is an answer; what follows is nobody's business.
                    status, more = 200, "Content-Length: 1000\r\n"
                elif not more:
                    more = "Content-Length: 0\r\n"
                else:
                    more = f"Retry-After: {more}\r\nContent-Length: 0\r\n"
                if status == 200:
                    self.bodies.append(body)
                writer.write(f"HTTP/1.1 {status} X\r\n{more}\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Scene:
    """A sender without pauses, and what it said."""

    def __init__(self, url: str, **more: Any) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.pauses: list[float] = []
        self.client = HttpClient()
        settings = AlertTargetSettings.model_validate({"url": url, **more})
        self.sender = Sender("ops", settings, self.client, self._publish, self._pause)

    def _publish(self, name: str, **data: Any) -> None:
        self.events.append((name, data))

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def put(self, alert: Alert = FIRING) -> None:
        message = message_for("ops", self.sender.settings, [alert], "pool-1", "http://pool")
        assert message is not None
        self.sender.put(message)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self.sender.close()
        await self.client.close()


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


@pytest.mark.parametrize(
    ("script", "pauses", "problem"),
    [
        ([], [], ""),
        ([204], [], ""),
        (["drip"], [], ""),
        ([500, 503], [1, 4], ""),
        (["close"], [1], ""),
        ([(429, "7")], [7], ""),
        ([(429, "9999")], [retry.LONGEST_TOLD_SECONDS], ""),
        ([(503, "Fri, 29 May 2026 10:00:00 GMT")], [1], ""),
        (["hang"], [1], ""),
        ([500] * 4, [1, 4, 16], "it answers 500 (attempt 4 of 4)"),
        (["hang"] * 4, [1, 4, 16], "no answer within 0.5 s (attempt 4 of 4)"),
        ([404], [], "it answers 404 (attempt 1 of 4)"),
        ([301], [], "it answers 301 (attempt 1 of 4)"),
        ([401], [], "it answers 401 (attempt 1 of 4)"),
    ],
)
def test_what_a_target_does(script: list[Any], pauses: list[float], problem: str) -> None:
    async def work() -> None:
        async with Target(script) as target:
            # Where it answers after it has hung, it has to be in time even on a busy machine.
            patience = 30 if "hang" not in script else 0.5 if problem else 3
            scene = Scene(target.url, attempts=4, timeout_seconds=patience)
            scene.put()
            await scene.until(lambda: scene.sender.sent + scene.sender.lost == 1)
            assert scene.pauses == pauses
            assert scene.sender.problem == problem
            assert scene.sender.sent == (not problem)
            assert [name for name, _ in scene.events] == ["alert-target-failed"] * bool(problem)
            assert set(target.paths) == {f"/{SECRET}"}
            assert SECRET not in repr(scene.events) + repr(scene.sender)
            await scene.close()

    run(work)


def test_nobody_there_is_told_once_and_so_is_that_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    async def work() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        scene = Scene(f"http://127.0.0.1:{port}/{SECRET}", attempts=1)
        scene.put()
        scene.put()
        await scene.until(lambda: scene.sender.lost == 2)
        async with Target() as target:
            object.__setattr__(scene.sender.settings, "url", target.url)
            scene.put()
            await scene.until(lambda: scene.sender.sent == 1)
        names = [name for name, _ in scene.events]
        assert names == ["alert-target-failed", "alert-target-recovered"]
        assert "cannot be reached" in scene.events[0][1]["reason"]
        assert SECRET not in repr(scene.events)
        await scene.close()

    run(work)
    assert "alerts do not reach ops" in caplog.text
    assert SECRET not in caplog.text


def test_messages_arrive_in_order_and_the_oldest_are_dropped() -> None:
    async def work() -> None:
        gate = asyncio.Event()
        async with Target([500]) as target:
            scene = Scene(target.url)

            async def pause(seconds: float) -> None:
                await gate.wait()

            scene.sender._pause = pause
            scene.put(replace(FIRING, rule="R0"))
            await scene.until(lambda: len(target.paths) == 1)
            for i in range(1, MOST_WAITING + 3):
                scene.put(replace(FIRING, rule=f"R{i}"))
            assert scene.sender.waiting == MOST_WAITING
            gate.set()
            await scene.until(lambda: scene.sender.sent == 1 + MOST_WAITING)
            names = [body["alerts"][0]["labels"]["alertname"] for body in target.bodies]
            # The one that was under way arrives; of the others the newest.
            assert names == ["R0", *(f"R{i}" for i in range(3, MOST_WAITING + 3))]
            assert scene.sender.lost == 3
            await scene.close()

    run(work)


def told(kind: str, *alerts: Alert, **more: Any) -> Any:
    settings = AlertTargetSettings.model_validate({"kind": kind, "url_variable": "X", **more})
    message = message_for("ops", settings, alerts, "pool-1", "http://127.0.0.1:8050")
    return None if message is None else json.loads(json.dumps(body_of(kind)(message)))


def test_the_webhook_is_alertmanagers() -> None:
    body = told("webhook", RESOLVED, FIRING)
    assert {k: body[k] for k in ("version", "status", "receiver", "truncatedAlerts")} == {
        "version": "4",
        "status": "firing",
        "receiver": "ops",
        "truncatedAlerts": 0,
    }
    assert body["commonLabels"] == {
        "alertname": "High",
        "severity": "warning",
        "pool": "pool-1",
    }
    first, second = body["alerts"]
    assert first["labels"]["model"] == "org/m"
    assert (first["status"], first["startsAt"]) == ("firing", "1970-01-01T00:00:20.000+00:00")
    assert first["endsAt"] == "0001-01-01T00:00:00Z"
    assert first["annotations"] == {"summary": "It fails.", "description": "50 %"}
    assert (second["status"], second["endsAt"]) == ("resolved", "1970-01-01T00:01:40.000+00:00")
    assert first["fingerprint"] != second["fingerprint"]
    assert told("webhook", RESOLVED)["status"] == "resolved"


def test_slack_gets_a_line_that_stands_alone_and_nothing_in_it_is_a_link() -> None:
    body = told("slack", FIRING, replace(RESOLVED, reason="<!channel> & <http://x>"))
    assert body["text"].startswith("modelpool: 1 firing, 1 resolved")
    first, second = body["attachments"]
    assert first["text"] == "*[WARNING] High org/m*\nIt fails.\n50 %"
    assert "&lt;!channel&gt; &amp; &lt;http://x&gt;" in second["text"]
    assert first["color"] != second["color"]


@pytest.mark.parametrize(
    ("more", "alerts", "count"),
    [
        ({}, [FIRING, RESOLVED], 2),
        ({"send_resolved": False}, [FIRING, RESOLVED], 1),
        ({"send_resolved": False}, [RESOLVED], 0),
        ({"min_severity": "critical"}, [FIRING, RESOLVED], 0),
        ({"min_severity": "warning"}, [FIRING, replace(FIRING, severity="info")], 1),
        ({}, [], 0),
    ],
)
def test_targets_choose_what_they_hear(
    more: dict[str, Any], alerts: list[Alert], count: int
) -> None:
    body = told("webhook", *alerts, **more)
    assert (0 if body is None else len(body["alerts"])) == count


def test_a_message_of_very_many_says_how_many_are_left_out() -> None:
    many = [replace(FIRING, labels=(("model", f"m{i:03}"),)) for i in range(MOST_ALERTS + 20)]
    many.append(replace(FIRING, rule="Worst", severity="critical"))
    body = told("webhook", *many)
    assert (len(body["alerts"]), body["truncatedAlerts"]) == (MOST_ALERTS, 21)
    assert body["alerts"][0]["labels"]["alertname"] == "Worst"
    slack = told("slack", *many)
    assert len(slack["attachments"]) == MOST_LINES + 1
    assert slack["attachments"][-1]["text"].startswith(f"and {len(many) - MOST_LINES} more")


def test_every_kind_can_be_loaded_and_makes_json() -> None:
    assert {"webhook", "slack"} <= set(kinds())
    for kind in kinds():
        json.dumps(body_of(kind)(trial_message("ops", "pool-1", "http://pool", 1.0)))
    assert not is_known("pager")
    with pytest.raises(ImportError, match="no kind 'pager'"):
        body_of("pager")


# -- where they are ------------------------------------------------------------------------------


def settings_of(**keys: Any) -> AlertTargetSettings:
    return AlertTargetSettings.model_validate(keys)


def test_addresses_come_from_variables_and_files(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"https://hooks.example/{SECRET}\n")
    assert address_of(settings_of(url="http://x/y")) == "http://x/y"
    found = address_of(settings_of(url_file=str(file)))
    assert found == address_of(settings_of(url_variable="U"), {"U": f" {found} "})
    file.write_text("https://hooks.example/other")
    assert address_of(settings_of(url_file=str(file))).endswith("other"), "it is read each time"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (f"ftp://x/{SECRET}".encode(), "holds no address"),
        (f"http://[::1/{SECRET}".encode(), "holds no address"),
        (SECRET.encode(), "holds no address"),
        (b"", "holds no address"),
        (b"\xff\xfe" + SECRET.encode(), "it is not text"),
        (None, "No such file"),
    ],
)
def test_what_is_no_address_is_not_repeated(
    tmp_path: Path, content: bytes | None, text: str
) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(NoAddress, match=text) as error:
        address_of(settings_of(url_file=str(file)))
    assert SECRET not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None
    with pytest.raises(NoAddress, match="U is not set"):
        address_of(settings_of(url_variable="U"), {})


def test_a_test_says_of_each_target_what_went_wrong() -> None:
    async def work() -> None:
        async with Target() as good, Target([500]) as bad:
            deliveries = Deliveries("pool-1", "http://pool", lambda *_, **__: None)
            targets = {"good": settings_of(url=good.url), "bad": settings_of(url=bad.url)}
            targets["lost"] = settings_of(url_variable="MODELPOOL_NOT_SET")
            await deliveries.configure(targets)
            problems = await deliveries.test(None, 0.0)
            assert problems["good"] == ""
            assert problems["bad"] == "it answers 500"
            assert "MODELPOOL_NOT_SET is not set" in problems["lost"]
            assert await deliveries.test("good", 0.0) == {"good": ""}
            assert [b["alerts"][0]["labels"]["alertname"] for b in good.bodies] == ["Test"] * 2
            with pytest.raises(NotFound, match="the config file has: good, bad, lost"):
                await deliveries.test("ops", 0.0)
            await deliveries.close()

    run(work)


def test_a_target_that_stays_as_it_was_keeps_what_waits() -> None:
    async def work() -> None:
        deliveries = Deliveries("pool-1", "http://pool", lambda *_, **__: None)
        async with Target(["hang"]) as target:
            same = settings_of(url=target.url)
            await deliveries.configure({"a": same, "b": same})
            before = {sender.name: sender for sender in deliveries}
            deliveries.tell([FIRING])
            await deliveries.configure({"a": same, "b": settings_of(url=target.url, attempts=1)})
            after = {sender.name: sender for sender in deliveries}
            assert after["a"] is before["a"]
            assert after["b"] is not before["b"]
            await deliveries.close()

    run(work)


# -- pauses --------------------------------------------------------------------------------------


def test_pauses_grow_and_are_bounded() -> None:
    own = [retry.pause_seconds(n) for n in range(1, 100)]
    assert own[:4] == [1, 4, 16, 60]
    assert max(own) == retry.LONGEST_PAUSE_SECONDS
    assert retry.pause_seconds(1, 5) == 5
    assert retry.pause_seconds(3, 5) == 16


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("", None), ("3", 3.0), ("-1", None), ("nan", None), ("inf", None), ("x", None)],
)
def test_retry_after_is_a_number_of_seconds(text: str | None, seconds: float | None) -> None:
    assert retry.retry_after(text) == seconds
