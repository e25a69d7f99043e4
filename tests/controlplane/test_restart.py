"""What a restart is made of: the wish, the check before it, the sockets that are handed over."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.helpers import free_block
from modelpool.config import PoolConfig
from modelpool.restart import Restart, check_program
from modelpool.sockets import listening
from modelpool_client.errors import Conflict, NotSupported

HANDED_OVER = """
import os, socket
from modelpool import sockets
from modelpool.config import PoolConfig
from modelpool.config import PoolConfig
from modelpool.restart import _hand_over

both = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
(host, port), (_, other) = (sock.getsockname() for sock in both)
_hand_over(both)
os.environ |= {{"LISTEN_PID": str({pid}), "LISTEN_FDS": "2"}}
sockets.bind = lambda *_: None  # nobody else is to have them
found = sockets.listening(PoolConfig(host={host}, port={port}, ollama_port=other))
told = [key for key in os.environ if key.startswith("LISTEN_")]
names = [sock and sock.getsockname() == (host, at) for sock, at in zip(found, (port, other))]
print(*names, told, *(os.get_inheritable(sock.fileno()) for sock in found if sock))
"""


def handed_over(pid: str = "os.getpid()", host: str = "host", port: str = "port") -> str:
    """What a process finds of two sockets that lie at descriptors 3 and 4."""
    code = HANDED_OVER.format(pid=pid, host=host, port=port)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_a_socket_is_found_once_and_goes_to_no_worker() -> None:
    assert handed_over() == "True True [] False False"
    assert handed_over(host="'localhost'") == "True True [] False False"


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"pid": "os.getpid() + 1"}, "None None []"),
        ({"port": "port + 1"}, "None True [] False"),
        ({"host": "'127.0.0.2'"}, "None None []"),
    ],
)
def test_another_process_or_address_is_not_ours(other: dict[str, str], found: str) -> None:
    assert handed_over(**other) == found


@pytest.mark.parametrize("count", ["", "0", "x", "-1"])
def test_no_socket_no_descriptor_is_touched(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    monkeypatch.setattr(os, "set_inheritable", None)
    (sock,) = listening(PoolConfig(port=free_block(1)))
    sock.close()


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
