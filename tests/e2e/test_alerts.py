"""Alerts of a real pool: found, told to a real server, silenced, and kept over a restart; where a
target is stays a secret."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import MakePool
from e2e.helpers import fake, until
from e2e.support import PoolProcess
from e2e.test_poolctl import poolctl

SECRET = "T0CEN-SECRET"
AT_ONCE = {"for_seconds": 0, "keep_firing_for_seconds": 0}
RULES = {
    "built_in": False,
    "rules": {
        "Errors": {
            "signal": "error_rate",
            "above": 0.5,
            "min_count": 3,
            "severity": "critical",
            **AT_ONCE,
            "keep_firing_for_seconds": 3600,
        },
        "Spent": {"signal": "cost_day", "above": 1.5, "models": ["dear"], **AT_ONCE},
        "Gone": {"signal": "failed", "above": 0, **AT_ONCE},
    },
}


class Receiver:
    """Takes what is posted. ``refusals`` are statuses that it answers before."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.refusals: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = receiver.refusals.pop(0) if receiver.refusals else 200
                if status == 200 and self.path == f"/{SECRET}":
                    receiver.bodies.append(body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/{SECRET}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def told(self) -> list[tuple[str, str]]:
        """Names and statuses of the alerts that it heard of."""
        alerts = [alert for body in self.bodies for alert in body["alerts"]]
        return [(a["labels"]["alertname"], a["status"]) for a in alerts]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def address(receiver: Receiver, tmp_path: Path) -> str:
    """The file that says where the receiver is."""
    file = tmp_path / "address"
    file.write_text(receiver.url)
    return str(file)


def alerts(pool: PoolProcess) -> list[tuple[str, str]]:
    found = pool.http.get("/alerts").json()["alerts"]
    return sorted((each["alert"], each["status"]) for each in found)


def of_alerts(pool: PoolProcess) -> list[dict[str, Any]]:
    """The events of this run that are about alerts."""
    return [event for event in pool.events() if event["event"].startswith("alert-")]


@pytest.mark.slow
def test_an_outage_is_found_told_silenced_and_remembered(
    make_pool: MakePool, receiver: Receiver, address: str
) -> None:
    pool = make_pool(
        fake("bad", options={"fail_every": 1}),
        fake("good"),
        fake("dear", metadata={"prices": {"request": 1}}),
        alerts={**RULES, "targets": {"ops": {"url_file": address}}},
        retry_attempts=0,
        breaker_failures=0,
    )
    for _ in range(5):
        assert pool.chat("bad").status_code >= 500
        assert pool.ask("good")
    receiver.refusals = [503]
    until(lambda: ("Errors", "firing") in receiver.told, "the message, after a refusal")
    body = receiver.bodies[0]
    assert (body["version"], body["receiver"], body["status"]) == ("4", "ops", "firing")
    (alert,) = body["alerts"]
    assert alert["labels"] == {
        "alertname": "Errors",
        "severity": "critical",
        "model": "bad",
        "pool": pool.http.get("/health").json()["pool_id"],
    }
    assert "100 % of requests failed" in alert["annotations"]["description"]

    said = json.loads(poolctl(pool, "alerts", "--json").stdout)
    assert [(a["alert"], a["labels"]["model"]) for a in said["alerts"]] == [("Errors", "bad")]
    assert "Errors" in poolctl(pool, "alerts", "list").stdout
    done = poolctl(pool, "alerts", "silence", "Spent", "--for", "30m", "--comment", "known")
    assert done.returncode == 0, done.stderr
    for _ in range(2):
        assert pool.ask("dear")
    until(lambda: ("Spent", "firing") in alerts(pool), "the budget", 200)
    assert pool.http.get("/metrics").text.count('modelpool_alerts{alertname="') == 2

    events = of_alerts(pool)
    # What is written before that is on the disk.
    assert pool.http.post("/save-state").status_code == 200
    pool.kill()
    pool.start()
    found = pool.http.get("/alerts").json()
    (silence,) = found["silences"]
    assert (silence["matchers"], silence["comment"]) == ({"alertname": "Spent"}, "known")
    assert alerts(pool) == [("Errors", "firing"), ("Spent", "firing")]
    assert receiver.told == [("Errors", "firing")], "neither twice nor though it is silenced"
    shown = poolctl(pool, "alerts", "list").stdout
    assert "firing (silenced)" in shown
    done = poolctl(pool, "alerts", "unsilence", silence["silence_id"])
    assert done.returncode == 0, done.stderr
    until(lambda: ("Spent", "firing") in receiver.told, "what was silenced")

    events += of_alerts(pool)
    assert [(e["event"], e.get("alert")) for e in events] == [
        ("alert-firing", "Errors"),
        ("alert-silenced", None),
        ("alert-firing", "Spent"),
        ("alert-unsilenced", None),
    ]
    assert all(e["reason"] for e in events)


@pytest.mark.slow
def test_a_model_that_fails_and_comes_back(make_pool: MakePool, receiver: Receiver) -> None:
    target = {"url": receiver.url, "kind": "webhook"}
    pool = make_pool(
        fake("m", options={"fail_load": "bad_file", "message": "a torn file"}),
        alerts={**RULES, "targets": {"ops": target}},
    )
    assert pool.chat("m").status_code >= 400
    until(lambda: receiver.told == [("Gone", "firing")], "the failure")
    assert "a torn file" in receiver.bodies[0]["alerts"][0]["annotations"]["description"]
    mended = {"models": [fake("m")], "replace": True}
    assert pool.http.post("/registry", json=mended).status_code == 200
    pool.load("m")
    until(lambda: receiver.told == [("Gone", "firing"), ("Gone", "resolved")], "its end")


def test_where_a_target_is_is_said_nowhere(
    make_pool: MakePool, receiver: Receiver, address: str
) -> None:
    targets = {
        "ops": {"url_file": address},
        "chat": {"kind": "slack", "url_file": address, "attempts": 1},
        "nowhere": {"url_variable": "MODELPOOL_TEST_UNSET", "attempts": 1},
    }
    pool = make_pool(fake("m"), alerts={"targets": targets})
    receiver.refusals = [404]
    tried = {t["target"]: t for t in pool.http.post("/alerts/test").json()["targets"]}
    assert sorted(t["problem"] for t in tried.values())[::2] == [
        "",
        "the environment variable MODELPOOL_TEST_UNSET is not set: the manager has to be started"
        " with it",
    ]
    assert "it answers 404" in [t["problem"] for t in tried.values()]
    done = poolctl(pool, "alerts", "test", "ops")
    assert (done.returncode, done.stdout) == (0, "ops: it has taken the message\n")
    done = poolctl(pool, "alerts", "test", "nowhere")
    assert done.returncode == 1
    done = poolctl(pool, "alerts", "test", "other")
    assert (done.returncode, "there is no target 'other'" in done.stderr) == (1, True)
    done = poolctl(pool, "alerts", "silence", "--for", "soon", "X")
    assert "--for should be a time as 30m" in done.stderr
    done = poolctl(pool, "alerts", "silence")
    assert "matchers should name what is silenced" in done.stderr
    assert "SlowFirstToken" in poolctl(pool, "alerts", "rules").stdout

    refused = pool.http.patch(
        "/config", json={"alerts": {"targets": {"mine": {"url": "http://127.0.0.1:9/"}}}}
    )
    assert refused.status_code == 400
    assert "can only be set in the config file" in refused.text
    changed = {"targets": targets, "rules": {"LongQueue": {"enabled": False}}}
    assert pool.http.patch("/config", json={"alerts": changed}).status_code == 200
    places = ("/config", "/config/file", "/alerts", "/metrics", "/requests")
    shown = [pool.http.get(path).text for path in places]
    assert SECRET not in "".join((*shown, json.dumps(pool.events()), pool.log()))
