"""What a restart is made of: the wish, the check before it, the socket that is handed over."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from modelpool.restart import Restart, check_program
from modelpool.sockets import inherited_socket
from modelpool_client.errors import Conflict, NotSupported

HANDED_OVER = """
import os, socket
from modelpool.sockets import FIRST_FD, inherited_socket

listening = socket.create_server(("127.0.0.1", 0))
host, port = listening.getsockname()
os.dup2(listening.fileno(), FIRST_FD)
os.environ |= {{"LISTEN_PID": str({pid}), "LISTEN_FDS": "1"}}
found = inherited_socket({host}, {port})
told = [key for key in os.environ if key.startswith("LISTEN_")]
print(found is not None and found.getsockname() == (host, port), told, os.get_inheritable(FIRST_FD)
      if found else "")
"""


def handed_over(pid: str = "os.getpid()", host: str = "host", port: str = "port") -> str:
    """What a process finds of a socket that lies at descriptor 3."""
    code = HANDED_OVER.format(pid=pid, host=host, port=port)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_a_socket_is_found_once_and_goes_to_no_worker() -> None:
    assert handed_over() == "True [] False"
    assert handed_over(host="'localhost'") == "True [] False"


@pytest.mark.parametrize(
    "other", [{"pid": "os.getpid() + 1"}, {"port": "port + 1"}, {"host": "'127.0.0.2'"}]
)
def test_another_process_or_address_is_not_ours(other: dict[str, str]) -> None:
    assert handed_over(**other) == "False []"


@pytest.mark.parametrize("count", ["", "0", "x", "-1"])
def test_no_socket_no_descriptor_is_touched(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    monkeypatch.setenv("LISTEN_FDS", count)
    assert inherited_socket("127.0.0.1", 1) is None


def test_it_is_asked_for_once_and_only_of_a_program_of_its_own() -> None:
    async def scene() -> None:
        restart = Restart()
        with pytest.raises(NotSupported, match="inside another program"):
            restart.ask(1)
        restart.is_possible = True
        waiting = asyncio.ensure_future(restart.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert not restart.is_asked
        restart.ask(1.5)
        await waiting
        assert (restart.is_asked, restart.seconds) == (True, 1.5)
        with pytest.raises(Conflict, match="already"):
            restart.ask(1)

    asyncio.run(scene())


def test_a_program_that_cannot_start_is_found_out_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check_program()
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'No module named modelpool' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(Conflict, match="No module named modelpool") as caught:
        check_program()
    assert caught.value.code == "cannot_start"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with pytest.raises(Conflict, match="this manager stays"):
        check_program()
