"""Reads a pool's events all the time, over every restart of its manager."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx

from chaos.rules import Move

RETRY_SECONDS = 0.05
SILENCE_SECONDS = 30.0  # twice the manager's pause between two comments


class Watcher:
    """``moves`` and ``nameless`` (events that are of no model) grow; copies are safe to take."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self._last_id = ""
        self._run_id = ""
        self._states: dict[tuple[str, Any], str] = {}
        self.moves: list[Move] = []
        self.nameless: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run, daemon=True, name="watcher")
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Watcher {len(self.moves)} moves, last {self._last_id}>"

    def close(self) -> None:
        """Returns when the stream has ended: call it when the manager has."""
        self._ended.set()
        self._thread.join(SILENCE_SECONDS + 5)

    def _run(self) -> None:
        timeout = httpx.Timeout(SILENCE_SECONDS)
        with httpx.Client(
            base_url=self._url, timeout=timeout, trust_env=False, verify=False
        ) as client:
            while not self._ended.is_set():
                try:
                    self._read(client)
                except httpx.HTTPError:  # no manager at present
                    self._ended.wait(RETRY_SECONDS)

    def _read(self, client: httpx.Client) -> None:
        headers = {"last-event-id": self._last_id} if self._last_id else {}
        with client.stream("GET", "/events", headers=headers) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self._take(json.loads(line[6:]))
                if self._ended.is_set():
                    return

    def _take(self, event: dict[str, Any]) -> None:
        if run_of(event) != self._run_id:
            self._states.clear()  # another manager, whose models begin anew, or a gap
            self._run_id = run_of(event)
        self._last_id = event.get("id", self._last_id)
        if "previous" not in event:
            self.nameless.append(event)
            self._forget_deleted(event)
            return
        who = (event["model_id"], event.get("replica"))
        self.moves.append(
            Move(
                event["model_id"],
                event["event"],
                event["previous"],
                event["state"],
                event["reason"],
                self._states.get(who),
            )
        )
        self._states[who] = event["state"]

    def _forget_deleted(self, event: dict[str, Any]) -> None:
        if event["event"] in ("model-deleted", "model-registered"):
            for who in [w for w in self._states if w[0] == event.get("model_id")]:
                del self._states[who]


def run_of(event: dict[str, Any]) -> str:
    """The run of the manager that the event is of; none if it only tells of a gap."""
    return str(event.get("id", "")).rpartition("-")[0]
