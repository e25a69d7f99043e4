"""The server's own program, for what needs its code and no running pool."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from modelpool_client.cli.session import refuse

PROGRAM = "modelpool"
SECONDS = 120.0


def server_command(*arguments: str) -> list[str]:
    """The command line of the server that is installed beside this command.

    Raises:
        InvalidRequest: there is none.
    """
    if importlib.util.find_spec(PROGRAM) is None:
        raise refuse(
            "the server is not installed beside poolctl: pip install 'modelpool[server,llama]'"
        )
    return [sys.executable, "-m", PROGRAM, *arguments]


def ask_server(*arguments: str, environ: Mapping[str, str] | None = None) -> Any:
    """The JSON that it prints.

    Args:
        environ: its whole environment; None: ours.

    Raises:
        InvalidRequest: in its own words; or it is not installed, or says nothing in time.
    """
    command = server_command(*arguments)
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise refuse(f"{PROGRAM} {arguments[0]} said nothing for {SECONDS:.0f} s") from None
    if done.returncode:
        said = done.stderr.strip() or f"it ended with {done.returncode}"
        raise refuse(said.removeprefix(f"{PROGRAM}: "))
    return json.loads(done.stdout)
