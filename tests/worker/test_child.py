"""What a front makes of what its engine child says, whatever that is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from modelpool_client.log_file import LogOutput
from modelpool_client.wire import LogLimits
from modelpool_worker.child import EngineChild
from modelpool_worker.spawn import Spawned

SAYS = "import os, sys; os.write(int(sys.argv[1]), sys.argv[2].encode()); sys.stdin.read()"


class Listener:
    """Takes a ready event only where it is one."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_status(self, event: dict[str, Any]) -> None:
        if event["event"] == "ready":
            event["headers"].items()
        self.events.append(event)

    def on_exit(self, code: int) -> None:
        self.events.append(code)


@pytest.mark.parametrize(
    "line", ['{"event": "ready", "headers": 1}', '{"event": "ready", "address": 5}', "{}"]
)
def test_what_makes_no_sense_ends_the_load(line: str, tmp_path: Path) -> None:
    """Else it would load for ever: the event is lost, and there is no other."""
    status, writes = os.pipe()
    output, prints = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", SAYS, str(writes), f"{line}\n"],
        stdin=subprocess.PIPE,
        stdout=prints,
        pass_fds=(writes,),
    )
    os.close(writes)
    os.close(prints)
    listener = Listener()

    async def play() -> None:
        spawned = Spawned(process, status, output, 0.0)
        child = EngineChild(
            spawned,
            LogOutput(str(tmp_path / "log"), LogLimits(1 << 20, 2)),
            str(tmp_path / "socket"),
        )
        child.attach(asyncio.get_running_loop(), listener)
        async with asyncio.timeout(60):
            await child.wait()

    asyncio.run(play())
    failed, code = listener.events
    assert (failed["event"], failed["code"], code) == ("failed", "load_failed", -9)
    assert "makes no sense" in failed["message"]
