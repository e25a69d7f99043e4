"""Real processes: how they start, end, are found again, and how nothing of them is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from modelpool.catalog.database import WorkerRow
from modelpool.launchers import LaunchError, create, log_heading
from modelpool.launchers.local import (
    LocalLauncher,
    LocalProcess,
    boot_id,
    find_by_worker_id,
    find_process,
    has_members,
    is_process,
    reap,
    start_time,
)
from modelpool_client.wire import Assignment, LogLimits, decode

WAITS = "import signal; print('up', flush=True); signal.pause()"
DEAF = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\n"
    "while True: signal.pause()"
)
WITH_CHILD = """
import subprocess, sys, signal
command = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
child = subprocess.Popen(command, stdout=subprocess.PIPE)
child.stdout.readline()  # it has become itself
print("up", child.pid, flush=True)
signal.pause()
"""
LEAVES_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("up", child.pid, flush=True)
"""

Scene = Callable[["Workshop"], Awaitable[None]]


class Workshop:
    """Starts workers that run a few lines of Python, and sees that none outlives the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[LocalProcess] = []
        self.children: list[int] = []

    def assignment(self) -> Assignment:
        worker_id = uuid.uuid4().hex
        return Assignment(
            worker_id=worker_id,
            secret="secret",
            pool_id="pool",
            epoch=1,
            manager_url="http://127.0.0.1:1",
            model_id="org/m",
            engine="fake",
            source="",
            port=8051,
            runtime_dir=str(self.folder / "run" / worker_id),
            exit_record=str(self.folder / "exits" / f"{worker_id}.json"),
            log_path=str(self.log),
            log_limits=LogLimits(max_bytes=200),
        )

    @property
    def log(self) -> Path:
        return self.folder / "logs" / "m.log"

    async def start(self, code: str, assignment: Assignment | None = None) -> LocalProcess:
        command = [sys.executable, "-u", "-c", textwrap.dedent(code)]
        launcher = LocalLauncher(lambda _, label: [*command, label])
        process = await launcher.start(assignment or self.assignment())
        assert isinstance(process, LocalProcess)
        self.started.append(process)
        return process

    def said(self) -> list[str]:
        """The lines of the log without the headings."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if not line.startswith(log_heading(""))]

    async def line(self) -> list[str]:
        """The first of them, once it is there."""
        async with asyncio.timeout(30):
            while not self.said():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return self.said()[0].split()

    def row(self, assignment: Assignment, process: LocalProcess | None) -> WorkerRow:
        return WorkerRow(
            worker_id=assignment.worker_id,
            pool_id="pool",
            model_id="org/m",
            epoch=1,
            port=8051,
            secret="secret",
            boot_id=boot_id(),
            pid=process.pid if process else None,
            create_time=process.create_time if process else None,
        )

    async def end(self) -> None:
        for process in self.started:
            process.kill()
            await process.wait()
        for pid in self.children:
            with_pid = [psutil.Process(pid)] if psutil.pid_exists(pid) else []
            for child in with_pid:
                child.kill()


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[[Scene], None]]:
    def run(scene: Scene) -> None:
        async def main() -> None:
            shop = Workshop(tmp_path)
            try:
                await scene(shop)
            finally:
                await shop.end()

        asyncio.run(main())

    return run


Play = Callable[[Scene], None]


def ended(pid: int) -> bool:
    """The dead whom nobody reaped have ended too."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


async def gone(pid: int) -> bool:
    """True once the process has ended."""
    async with asyncio.timeout(30):
        while not ended(pid):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
    return True


# -- start -----------------------------------------------------------------------------------------


def test_what_a_worker_is_given(play: Play) -> None:
    code = """
        import json, os, sys
        line = sys.stdin.readline()
        rest = sys.stdin.read()
        print(json.dumps([line, rest, os.environ["MODELPOOL_WORKER_ID"], sys.argv[-1],
                          os.getsid(0) == os.getpid() == os.getpgid(0)]))
        print("to stderr", file=sys.stderr)
    """

    async def scene(shop: Workshop) -> None:
        assignment = shop.assignment()
        process = await shop.start(code, assignment)
        assert await process.wait() == 0
        written, error = shop.said()
        line, rest, worker_id, label, leads = json.loads(written)
        assert decode(Assignment, json.loads(line)) == assignment
        assert (rest, worker_id, label, leads) == ("", assignment.worker_id, "org/m@8051", True)
        assert error == "to stderr"
        assert os.stat(assignment.runtime_dir).st_mode & 0o777 == 0o700
        assert os.listdir(shop.folder / "exits") == []

    play(scene)


def test_each_worker_appends_to_the_log(play: Play) -> None:
    async def scene(shop: Workshop) -> None:
        for word in ("one", "two"):
            await (await shop.start(f"print('{word}')")).wait()
        assert shop.said() == ["one", "two"]
        first, _, second, _ = shop.log.read_text().splitlines()
        assert first != second, "each has a heading of its own"

    play(scene)


def test_a_worker_that_cannot_rotate_its_log_finds_it_rotated(play: Play) -> None:
    async def scene(shop: Workshop) -> None:
        await (await shop.start("print('x' * 200)")).wait()
        await (await shop.start("print('two')")).wait()
        assert shop.said()[-1] == "two"
        assert "x" * 200 in shop.log.with_name("m.log.1").read_text()
        assert "x" not in shop.log.read_text()

    play(scene)


def test_what_cannot_be_started_is_said(tmp_path: Path) -> None:
    async def scene() -> None:
        shop = Workshop(tmp_path)
        launcher = LocalLauncher(lambda _, label: ["/nonexistent/program"])
        with pytest.raises(LaunchError, match="/nonexistent/program"):
            await launcher.start(shop.assignment())

    asyncio.run(scene())


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    async def scene() -> None:
        shop = Workshop(tmp_path)
        (tmp_path / "file").write_text("")
        with pytest.raises(LaunchError, match="file"):
            await LocalLauncher().start(
                replace(shop.assignment(), log_path=str(tmp_path / "file" / "m.log"))
            )

    asyncio.run(scene())


def test_the_registry_of_launchers() -> None:
    assert isinstance(create("local"), LocalLauncher)
    with pytest.raises(KeyError):
        create("nowhere")


# -- end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os._exit(255)", 255),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
    ],
)
def test_exit_codes(play: Play, code: str, exit_code: int) -> None:
    async def scene(shop: Workshop) -> None:
        process = await shop.start(code)
        assert await asyncio.gather(process.wait(), process.wait()) == [exit_code] * 2
        assert await process.wait() == exit_code
        assert not process.is_alive()
        assert await process.group_gone(0)
        process.terminate()  # nobody is hit
        process.kill()

    play(scene)


def test_who_stops_waiting_does_not_spoil_it_for_others(play: Play) -> None:
    async def scene(shop: Workshop) -> None:
        process = await shop.start(WAITS)
        await shop.line()
        impatient = asyncio.ensure_future(process.wait())
        await asyncio.sleep(0)
        impatient.cancel()
        process.terminate()
        assert await process.wait() == -signal.SIGTERM

    play(scene)


def test_without_pidfd_it_is_polled(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)

    async def scene(shop: Workshop) -> None:
        process = await shop.start(WAITS)
        await shop.line()
        ended = asyncio.ensure_future(process.wait())
        await asyncio.sleep(0)
        process.terminate()
        assert await ended == -signal.SIGTERM

    play(scene)


def test_term_can_be_ignored_and_kill_cannot(play: Play) -> None:
    async def scene(shop: Workshop) -> None:
        process = await shop.start(DEAF)
        await shop.line()
        process.terminate()
        assert process.is_alive()
        assert not await process.group_gone(0)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        assert await process.group_gone(30)

    play(scene)


def test_term_is_for_the_front_alone(play: Play) -> None:
    async def scene(shop: Workshop) -> None:
        process = await shop.start(WITH_CHILD)
        child = int((await shop.line())[1])
        process.terminate()
        assert await process.wait() == -signal.SIGTERM
        assert is_process(child, None)
        assert has_members(process.pid)
        assert not await process.group_gone(0)
        process.kill()  # the rest of the group, though its leader is dead
        assert await process.group_gone(30)
        assert await gone(child)

    play(scene)


def test_kill_ends_the_whole_group(play: Play) -> None:
    async def scene(shop: Workshop) -> None:
        process = await shop.start(WITH_CHILD)
        child = int((await shop.line())[1])
        process.kill()
        assert await process.group_gone(30)
        assert await gone(child)
        assert await process.wait() == -signal.SIGKILL

    play(scene)


def test_zombies_do_not_count() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], start_new_session=True) as child:
        started = start_time(child.pid)
        assert started is not None
        assert asyncio.run(gone(child.pid))
        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
        assert find_process(child.pid, started) is None
        assert not has_members(child.pid)
        assert not is_process(child.pid, started)
        assert not LocalProcess(child.pid, started).is_alive()


# -- found again -----------------------------------------------------------------------------------


def test_attach_by_pid_and_start(play: Play) -> None:
    async def scene(shop: Workshop) -> None:
        assignment = shop.assignment()
        process = await shop.start(WAITS, assignment)
        await shop.line()
        row = shop.row(assignment, process)
        launcher = LocalLauncher()
        adopted = await launcher.attach(row)
        assert adopted is not None
        assert (adopted.pid, adopted.create_time) == (process.pid, process.create_time)
        assert repr(adopted) == f"<LocalProcess {process.pid} adopted>"
        assert await launcher.attach(replace(row, create_time=process.create_time - 10)) is None
        assert await launcher.attach(replace(row, boot_id="another boot")) is None
        ended = asyncio.ensure_future(adopted.wait())
        adopted.terminate()
        assert await ended == -signal.SIGTERM, "after a restart in place it is our child still"
        assert await launcher.attach(row) is None

    play(scene)


def test_an_adopted_one_is_waited_for_without_pidfd_too(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)

    async def scene(shop: Workshop) -> None:
        assignment = shop.assignment()
        process = await shop.start(WAITS, assignment)
        await shop.line()
        adopted = await LocalLauncher().attach(shop.row(assignment, process))
        assert adopted is not None
        ended = asyncio.ensure_future(adopted.wait())
        adopted.kill()
        assert await ended == -signal.SIGKILL

    play(scene)


def test_of_anothers_child_no_exit_code_is_known() -> None:
    assert reap(os.getppid()) is None


def test_attach_by_the_worker_id_of_an_intent(play: Play) -> None:
    """The manager died between the start and writing it down."""

    async def scene(shop: Workshop) -> None:
        assignment = shop.assignment()
        process = await shop.start(WITH_CHILD, assignment)
        child = int((await shop.line())[1])
        found = [p.pid for p in find_by_worker_id(assignment.worker_id)]
        assert found[0] == process.pid
        assert set(found) == {process.pid, child}
        adopted = await LocalLauncher().attach(shop.row(assignment, None))
        assert adopted is not None
        assert adopted.pid == process.pid

    play(scene)


def test_an_intent_without_a_process_is_nothing(play: Play) -> None:
    async def scene(shop: Workshop) -> None:
        assert await LocalLauncher().attach(shop.row(shop.assignment(), None)) is None

    play(scene)


def test_sweep_ends_what_a_dead_front_left(play: Play) -> None:
    async def scene(shop: Workshop) -> None:
        assignment = shop.assignment()
        process = await shop.start(LEAVES_A_CHILD, assignment)
        child = int((await shop.line())[1])
        shop.children.append(child)
        assert await process.wait() == 0
        row = shop.row(assignment, process)
        await LocalLauncher().sweep(replace(row, boot_id="another boot"))
        assert is_process(child, None), "of another boot: its pids are not ours"
        await LocalLauncher().sweep(row)
        assert await gone(child)

    play(scene)


def test_is_process() -> None:
    me, started = os.getpid(), start_time(os.getpid())
    assert started is not None
    assert is_process(me, started)
    assert is_process(me, None)
    assert not is_process(me, started + 5)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a start is kept as it was")
def test_a_step_of_the_clock_makes_nobody_another(monkeypatch: pytest.MonkeyPatch) -> None:
    started = start_time(os.getpid())
    assert started is not None
    # The kernel derives the time of boot from the clock, and psutil every start from that.
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: 12_345.0)
    assert is_process(os.getpid(), started)


def test_the_boot_id_stays() -> None:
    assert boot_id() == boot_id() != ""
