"""/jobs over a real pool, with a kind of job that is plugged in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelpool.app import running
from modelpool.config import PoolConfig
from modelpool.jobs import registry
from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import Lane
from modelpool_client.errors import InvalidRequest
from support.in_process import client_of

GATES: dict[str, asyncio.Event] = {}


class Waiting:
    """Waits until its gate is opened."""

    name = "waiting"
    lane = Lane("waiting", 4)
    is_resumable = True
    retries = 0
    model_events = False

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        if set(data) != {"gate"}:
            raise InvalidRequest("say which gate", param="gate")
        return JobRequest(str(data["gate"]), {"gate": data["gate"]})

    async def run(self, context: Context) -> Mapping[str, Any]:
        context.progress(1, 2, "halves", "before the gate")
        context.log("it waits")
        await GATES.setdefault(context.job.subject, asyncio.Event()).wait()
        return {"passed": context.job.subject}


def make(services: object) -> Waiting:
    return Waiting()


def play(folder: Path, scene: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        GATES.clear()
        config = PoolConfig(state_dir=folder / "state")
        async with running(config) as pool, client_of(pool.entry) as http:
            await scene(http)

    asyncio.run(main())


@pytest.fixture(autouse=True)
def plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "waiting", f"{__name__}:make")


def test_a_job_is_begun_seen_and_ended(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient) -> None:
        begun = await http.post("/jobs", json={"kind": "waiting", "gate": "a"})
        assert begun.status_code == 202, begun.text
        job_id = begun.json()["job_id"]
        again = await http.post("/jobs", json={"kind": "waiting", "gate": "a"})
        assert (again.status_code, again.json()["job_id"]) == (200, job_id)
        while "a" not in GATES:  # noqa: ASYNC110
            await asyncio.sleep(0)
        shown = (await http.get(f"/jobs/{job_id}")).json()
        assert (shown["state"], shown["progress"]["fraction"]) == ("running", 0.5)
        assert [line["text"] for line in shown["log"]] == ["queued", "it waits"]
        (listed,) = (await http.get("/jobs", params={"kind": "waiting"})).json()["jobs"]
        assert (listed["job_id"], listed["log"]) == (job_id, [])
        paused = (await http.post(f"/jobs/{job_id}/pause")).json()
        assert (paused["state"], paused["reason"]) == ("paused", "paused on request")
        assert (await http.get("/jobs", params={"state": "running"})).json() == {"jobs": []}
        await http.post(f"/jobs/{job_id}/resume")
        GATES["a"].set()
        done = (await http.get(f"/jobs/{job_id}", params={"wait": 60})).json()
        assert (done["state"], done["result"]) == ("succeeded", {"passed": "a"})
        assert (await http.delete(f"/jobs/{job_id}")).json() == {"deleted": job_id}
        assert (await http.get(f"/jobs/{job_id}")).status_code == 404

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("POST", "/jobs", {"kind": "waiting"}, 400, "gate"),
        ("POST", "/jobs", {"kind": "unheard_of"}, 400, "kind"),
        ("POST", "/jobs", {"kind": 5}, 400, "kind"),
        ("POST", "/jobs", {}, 400, "kind"),
        ("GET", "/jobs/none", None, 404, "job_id"),
        ("POST", "/jobs/none/cancel", None, 404, "job_id"),
        ("DELETE", "/jobs/none", None, 404, "job_id"),
        ("GET", "/jobs/none?wait=-1", None, 400, "wait"),
        ("PUT", "/jobs", {}, 405, None),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, method: str, path: str, body: Any, status: int, param: str | None
) -> None:
    async def scene(http: httpx.AsyncClient) -> None:
        answer = await http.request(method, path, json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
        assert (await http.get("/jobs")).json() == {"jobs": []}

    play(tmp_path, scene)


def test_a_job_goes_on_with_the_next_manager(tmp_path: Path) -> None:
    found: list[str] = []

    async def begin(http: httpx.AsyncClient) -> None:
        begun = await http.post("/jobs", json={"kind": "waiting", "gate": "b"})
        found.append(begun.json()["job_id"])
        while not GATES:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def go_on(http: httpx.AsyncClient) -> None:
        while not GATES:  # noqa: ASYNC110
            await asyncio.sleep(0)
        GATES["b"].set()
        done = (await http.get(f"/jobs/{found[0]}", params={"wait": 60})).json()
        assert (done["state"], done["attempts"]) == ("succeeded", 2)

    play(tmp_path, begin)
    play(tmp_path, go_on)
