"""Ends what a worker that was killed has left behind, by its note (``left_behind``)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from . import engines
from .engine import EngineJob
from .left_behind import read, strike_out
from .link import HoldsMemory


def clean(path: str) -> int:
    """End what the file names, then remove it. Returns an exit code, 1 where that failed: who is
    asked may have ended it already."""
    try:
        said = read(path)
        code = _run(said) if "command" in said else _unload(said["job"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        print(f"{path} is not followed: {e}", file=sys.stderr)
        return 1
    strike_out(os.path.dirname(path))
    return code


def _run(said: Mapping[str, Any]) -> int:
    command = " ".join(said["command"])
    print(f"its worker was killed: {command}", flush=True)
    try:
        done = subprocess.run(
            said["command"],
            stdin=subprocess.DEVNULL,
            env=said["environment"],
            cwd=said["working_directory"],
            timeout=said["seconds"],
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as e:
        print(f"the stop command failed: {e}", file=sys.stderr, flush=True)
        return 1
    if done.returncode:
        print(f"the stop command ended with {done.returncode}", file=sys.stderr, flush=True)
    return 1 if done.returncode else 0


def _unload(job: Mapping[str, Any]) -> int:
    told = EngineJob.parse(json.dumps(job).encode())

    async def unload() -> None:
        link = engines.get_remote(told.engine).connect(told)
        try:
            if isinstance(link, HoldsMemory):
                await link.unload()
        finally:
            link.close()

    print(f"its worker was killed: {told.source} is unloaded where it is held", flush=True)
    asyncio.run(unload())
    return 0
