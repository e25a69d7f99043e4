"""Work in a process of its own: what it says arrives, and it never outlives its job."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from modelpool.jobs.process import ProcessKilled, run_process
from modelpool_client.errors import InternalError, InvalidRequest

PROGRAM = """
import os, signal, sys, time
from modelpool.jobs.child import main
from modelpool_client.errors import InvalidRequest

def work(request, tell):
    what = request["what"]
    if what == "stay":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell({"pid": os.getpid()})
    if what == "refuse":
        raise InvalidRequest("no such thing", param="what")
    if what == "die":
        print("last words", file=sys.stderr, flush=True)
        os._exit(7)
    if what == "killed":
        os.kill(os.getpid(), 9)
    if what == "bug":
        raise KeyError("hf_s3cret")
    if what == "garbage":
        print("no JSON", flush=True)
    while what in ("hang", "stay"):
        time.sleep(0.05)
    return {"did": what, "long": "x" * 300_000}

main(work)
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work_of_a_job.py").write_text(PROGRAM)
    path = [str(tmp_path), *(p for p in sys.path if p)]
    monkeypatch.setenv("PYTHONPATH", ":".join(path))


def run(what: str) -> tuple[Any, list[Mapping[str, Any]]]:
    told: list[Mapping[str, Any]] = []
    return asyncio.run(run_process("work_of_a_job", {"what": what}, told.append)), told


def test_it_says_how_far_it_is_and_what_came_of_it() -> None:
    result, told = run("well")
    assert (result["did"], len(result["long"])) == ("well", 300_000)
    assert len(told) == 1


def test_one_that_is_killed_is_told_from_one_that_fails() -> None:
    with pytest.raises(ProcessKilled, match=r"ended by SIGKILL.*memory") as caught:
        run("killed")
    assert caught.value.code == "process_killed"
    with pytest.raises(InternalError, match="ended with 7") as other:
        run("die")
    assert not isinstance(other.value, ProcessKilled)


def test_a_bug_is_told_without_what_it_says_for_that_may_be_a_secret() -> None:
    with pytest.raises(InternalError, match=r"a bug in the pool: KeyError where") as caught:
        run("bug")
    assert "s3cret" not in str(caught.value)


def test_its_error_is_the_jobs() -> None:
    with pytest.raises(InvalidRequest, match="no such thing") as caught:
        run("refuse")
    assert caught.value.param == "what"


@pytest.mark.parametrize(("what", "text"), [("die", "7: last words"), ("garbage", "no JSON")])
def test_one_that_goes_wrong_is_told_of(what: str, text: str) -> None:
    with pytest.raises(InternalError, match=text):
        run(what)


def test_a_cancelled_one_is_ended() -> None:
    async def main() -> int:
        told: list[Mapping[str, Any]] = []
        task = asyncio.ensure_future(run_process("work_of_a_job", {"what": "hang"}, told.append))
        while not told:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return int(told[0]["pid"])

    assert not psutil.pid_exists(asyncio.run(main()))


def test_one_that_is_cancelled_again_while_it_ends_is_ended() -> None:
    async def main() -> int:
        told: list[Mapping[str, Any]] = []
        task = asyncio.ensure_future(run_process("work_of_a_job", {"what": "stay"}, told.append))
        while not told:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.01)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return int(told[0]["pid"])

    assert not psutil.pid_exists(asyncio.run(main()))


def test_it_ends_with_its_manager(tmp_path: Path) -> None:
    code = (
        "import asyncio, os\n"
        "from modelpool.jobs.process import ProcessKilled, run_process\n"
        "def told(message):\n"
        "    print(message['pid'], flush=True)\n"
        "    os._exit(9)\n"
        "asyncio.run(run_process('work_of_a_job', {'what': 'hang'}, told))\n"
    )

    async def main() -> int:
        manager = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await manager.communicate()
        return int(out)

    pid = asyncio.run(main())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(60)
