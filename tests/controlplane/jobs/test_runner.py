"""Jobs run, rest, fail, are joined, and outlive their manager."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import pytest
from modelpool.catalog.errors import StoreError
from modelpool.jobs import runner
from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import JobState, Lane
from modelpool.jobs.process import ProcessKilled
from modelpool.jobs.runner import Jobs
from modelpool_client.errors import Conflict, InvalidRequest, LoadFailed, NotFound, QueueFull

State = JobState


class MemoryStore:
    """Keeps documents as the database does, and can refuse."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.is_full = False

    async def documents(self, kind: str) -> dict[str, Any]:
        return dict(self.kept)

    async def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()
    ) -> None:
        await asyncio.sleep(0)
        if self.is_full:
            raise StoreError("jobs.db", "the disk is full")  # type: ignore[arg-type]
        self.kept.update(put)
        for key in drop:
            self.kept.pop(key, None)


class Counting:
    """Counts to ``to`` by ``step()``, which each test drives."""

    name = "count"
    lane = Lane("counting", 2)
    is_resumable = True
    retries = 0
    model_events = True

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(0)
        self.began_at: list[int] = []

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        if not isinstance(data.get("to"), int):
            raise InvalidRequest("to must be a whole number", param="to")
        return JobRequest(str(data.get("subject", "m")), {"to": data["to"]})

    async def run(self, context: Context) -> Mapping[str, Any]:
        at = int(context.job.checkpoint.get("at", 0))
        self.began_at.append(at)
        while at < context.job.params["to"]:
            context.progress(at, context.job.params["to"], "steps", f"at {at}")
            await self.gate.acquire()
            at += 1
            await context.save({"at": at})
        return {"counted": at}

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.gate.release()


class Failing:
    name = "fail"
    lane = Lane("failing")
    is_resumable = False
    retries = 0
    model_events = False

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        return JobRequest("x")

    async def run(self, context: Context) -> Mapping[str, Any]:
        context.log("it will fail")
        raise self.error


class Killed:
    """Its process is killed at each of ``dones``, then it succeeds."""

    name = "killed"
    lane = Lane("killed")
    is_resumable = True
    model_events = False

    def __init__(self, *dones: float, retries: int = 2) -> None:
        self.dones = list(dones)
        self.retries = retries

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        return JobRequest("x")

    async def run(self, context: Context) -> Mapping[str, Any]:
        if not self.dones:
            return {"did": True}
        context.progress(self.dones.pop(0), 10)
        raise ProcessKilled("it was ended by SIGKILL")


def test_a_run_that_something_else_cancels_has_failed() -> None:
    async def main() -> None:
        async with Scene(MemoryStore(), Failing(asyncio.CancelledError())) as scene:
            job, _ = await scene.jobs.create("fail", {})
            job = await scene.jobs.wait(job.job_id, 60)
            assert (job.state, job.code) == (JobState.FAILED, "internal_error")

    asyncio.run(main())


class Scene:
    def __init__(self, store: MemoryStore, *kinds: Any) -> None:
        self.store = store
        self.counting = Counting()
        self.kinds = (self.counting, *kinds)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.jobs = Jobs(store, self.publish, lambda: 1000.0)

    def publish(self, name: str, **data: Any) -> None:
        self.events.append((name, data))

    async def __aenter__(self) -> Scene:
        await self.jobs.open(self.kinds)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.jobs.close()

    async def start(self, to: int = 3, subject: str = "m") -> str:
        job, _ = await self.jobs.create("count", {"to": to, "subject": subject})
        return job.job_id

    async def end(self, job_id: str) -> State:
        return (await self.jobs.wait(job_id, 60)).state


def play(scene: Callable[[Scene], Awaitable[None]], *kinds: Any) -> None:
    async def main() -> None:
        async with Scene(MemoryStore(), *kinds) as made:
            await scene(made)

    asyncio.run(main())


def test_a_job_succeeds_and_everybody_hears_of_it() -> None:
    async def scene(s: Scene) -> None:
        job_id = await s.start(2)
        s.counting.step(2)
        assert await s.end(job_id) is State.SUCCEEDED
        job = s.jobs.get(job_id)
        assert (dict(job.result), job.attempts, job.ended_at) == ({"counted": 2}, 1, 1000.0)
        names = [name for name, _ in s.events]
        assert names == ["job-queued", "job-started", "job-succeeded"]
        assert all(data["model_id"] == "m" for _, data in s.events)
        assert s.store.kept[job_id]["state"] == "succeeded"

    play(scene)


def test_what_runs_already_is_joined_and_what_contradicts_it_refused() -> None:
    async def scene(s: Scene) -> None:
        job_id = await s.start(2)
        again, is_new = await s.jobs.create("count", {"to": 2})
        assert (again.job_id, is_new) == (job_id, False)
        with pytest.raises(Conflict) as caught:
            await s.jobs.create("count", {"to": 3})
        assert caught.value.details == {"job_id": job_id}

    play(scene)


def test_bad_requests_begin_nothing() -> None:
    async def scene(s: Scene) -> None:
        with pytest.raises(InvalidRequest, match="there are count"):
            await s.jobs.create("strange", {})
        with pytest.raises(InvalidRequest, match="to must be"):
            await s.jobs.create("count", {"to": "many"})
        with pytest.raises(NotFound):
            s.jobs.get("count-1")
        assert not s.jobs.list()
        assert not s.store.kept

    play(scene)


def test_a_lane_lets_so_many_run_and_the_rest_wait() -> None:
    async def scene(s: Scene) -> None:
        ids = [await s.start(1, str(i)) for i in range(3)]
        states = [s.jobs.get(i).state for i in ids]
        assert states == [State.RUNNING, State.RUNNING, State.QUEUED]
        s.counting.step(3)
        assert [await s.end(i) for i in ids] == [State.SUCCEEDED] * 3

    play(scene)


def test_a_paused_job_goes_on_where_it_was() -> None:
    async def scene(s: Scene) -> None:
        job_id = await s.start(3)
        s.counting.step()
        while s.jobs.get(job_id).checkpoint != {"at": 1}:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (await s.jobs.pause(job_id)).state is State.PAUSED
        with pytest.raises(Conflict, match="cannot be asked to pause"):
            await s.jobs.pause(job_id)
        assert (await s.jobs.resume(job_id)).state is State.RUNNING
        s.counting.step(2)
        assert await s.end(job_id) is State.SUCCEEDED
        assert s.counting.began_at == [0, 1]

    play(scene)


@pytest.mark.parametrize("turns", range(8))
def test_a_job_is_cancelled_at_any_moment(turns: int) -> None:
    async def scene(s: Scene) -> None:
        job_id = await s.start(3)
        for _ in range(turns):
            await asyncio.sleep(0)
        assert (await s.jobs.cancel(job_id)).state is State.CANCELLED
        with pytest.raises(Conflict):
            await s.jobs.cancel(job_id)
        await s.jobs.remove(job_id)
        assert not s.store.kept

    play(scene)


def test_one_that_waits_is_cancelled_without_ever_running() -> None:
    async def scene(s: Scene) -> None:
        ids = [await s.start(1, str(i)) for i in range(3)]
        assert (await s.jobs.cancel(ids[2])).state is State.CANCELLED
        assert s.jobs.get(ids[2]).attempts == 0

    play(scene)


def test_a_failure_says_why_and_may_be_tried_again() -> None:
    failing = Failing(LoadFailed("the disk is full", code="disk_full"))

    async def scene(s: Scene) -> None:
        job, _ = await s.jobs.create("fail", {})
        assert await s.end(job.job_id) is State.FAILED
        failed = s.jobs.get(job.job_id)
        assert (failed.reason, failed.code) == ("the disk is full", "disk_full")
        assert [line.text for line in failed.log][1] == "it will fail"
        await s.jobs.resume(job.job_id)
        assert await s.end(job.job_id) is State.FAILED
        assert s.jobs.get(job.job_id).attempts == 2
        with pytest.raises(Conflict, match="cannot go on where it was"):
            await s.jobs.pause(job.job_id)

    play(scene, failing)


def test_a_bug_is_a_failure_and_the_next_job_runs(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(s: Scene) -> None:
        job, _ = await s.jobs.create("fail", {})
        assert await s.end(job.job_id) is State.FAILED
        assert "a bug in the pool" in s.jobs.get(job.job_id).reason
        again, _ = await s.jobs.create("fail", {})
        assert await s.end(again.job_id) is State.FAILED

    play(scene, Failing(RuntimeError("boom")))
    assert "boom" in caplog.text


async def outcome(s: Scene) -> Any:
    job, _ = await s.jobs.create("killed", {})
    return await s.jobs.wait(job.job_id, 60)


@pytest.mark.parametrize(
    ("dones", "retries", "state", "attempts"),
    [
        ((0, 0), 2, State.SUCCEEDED, 3),
        ((0, 0, 0), 2, State.FAILED, 3),
        ((0, 0, 1, 1, 2, 3), 2, State.SUCCEEDED, 7),  # who gets further is not given up
        ((5, 1, 2), 2, State.FAILED, 3),  # that is no further than before
        ((0,), 0, State.FAILED, 1),
    ],
)
def test_one_whose_process_is_killed_is_begun_again(
    dones: tuple[float, ...],
    retries: int,
    state: State,
    attempts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "retry_delay", lambda _: 0.0)

    async def scene(s: Scene) -> None:
        job = await outcome(s)
        assert (job.state, job.attempts) == (state, attempts)
        said = [line.text for line in job.log if "begun again in 0 s" in line.text]
        told = [data["reason"] for name, data in s.events if name == "job-retried"]
        assert len(said) == len(told) == attempts - 1
        assert all("SIGKILL" in text for text in (*said, *told))

    play(scene, Killed(*dones, retries=retries))


def test_one_that_waits_to_be_begun_again_can_be_paused() -> None:
    async def scene(s: Scene) -> None:
        job, _ = await s.jobs.create("killed", {})
        while not any(name == "job-retried" for name, _ in s.events):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (await s.jobs.pause(job.job_id)).state is State.PAUSED

    play(scene, Killed(0))


def test_a_kind_of_another_package_may_know_nothing_of_that() -> None:
    killed = Killed(0)
    del killed.retries

    async def scene(s: Scene) -> None:
        assert (await outcome(s)).state is State.FAILED

    play(scene, killed)


def test_what_runs_when_the_manager_ends_goes_on_with_the_next() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with Scene(store, Failing(RuntimeError())) as first:
            running = await first.start(3, "a")
            first.counting.step()
            while first.jobs.get(running).checkpoint != {"at": 1}:  # noqa: ASYNC110
                await asyncio.sleep(0)
            paused = await first.start(3, "b")
            await first.jobs.pause(paused)
        assert store.kept[running]["state"] == "running"
        async with Scene(store) as second:
            assert second.jobs.get(paused).state is State.PAUSED
            second.counting.step(2)
            assert await second.end(running) is State.SUCCEEDED
            assert second.counting.began_at == [1]

    asyncio.run(main())


def test_what_cannot_go_on_failed_with_its_manager() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with Scene(store) as first:
            job_id = await first.start(3)
        Counting.is_resumable = False
        try:
            async with Scene(store) as second:
                job = second.jobs.get(job_id)
                assert (job.state, job.code) == (State.FAILED, "interrupted")
        finally:
            Counting.is_resumable = True

    asyncio.run(main())


def test_a_store_that_refuses_stops_no_job(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(s: Scene) -> None:
        s.store.is_full = True
        job_id = await s.start(1)
        s.counting.step()
        assert await s.end(job_id) is State.SUCCEEDED

    play(scene)
    assert "is not written down" in caplog.text


def test_the_oldest_that_are_over_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_OVER", 2)
    monkeypatch.setattr(runner, "MAX_UNFINISHED", 3)

    async def scene(s: Scene) -> None:
        s.counting.step(10)
        ids = [await s.start(1, str(i)) for i in range(3)]
        for job_id in ids:
            await s.jobs.wait(job_id, 60)
        assert [job.job_id for job in s.jobs.list()] == [ids[2], ids[1]]
        assert set(s.store.kept) == set(ids[1:])
        for i in range(3):
            await s.start(100, str(i))
        with pytest.raises(QueueFull):
            await s.start(1, "one more")

    play(scene)
