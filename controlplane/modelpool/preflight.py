"""Before a restart: would the next manager start? The one that is there can still say no."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from modelpool_client.errors import Conflict, ModelPoolError

from modelpool.config import PoolConfig
from modelpool.registrars.registry import create
from modelpool.reload import readable_config
from modelpool.restart import check_program
from modelpool.services import Services
from modelpool.sockets import bind


async def check_next_start(services: Services) -> None:
    """Do what a start does and leaves no trace.

    Raises:
        InvalidRequest: the config file is wrong.
        Conflict: the program, a name, a registrar, the folder or the port of the next manager.
    """
    said = await readable_config(services.pool.config.file)
    services.catalog.check_config(said.models)
    try:
        for registrar in said.registrars:
            create(registrar, services.pool_id, services.registry_client)
        await asyncio.to_thread(_check_places, services.pool.config, said)
    except ModelPoolError as e:
        text = f"the next manager could not start, so this one stays: {e.message}"
        raise Conflict(text, code="cannot_start") from None
    await asyncio.to_thread(check_program)


def _check_places(now: PoolConfig, said: PoolConfig) -> None:
    served = {(now.host, port) for port in now.ports_of_its_own}
    for port in said.ports_of_its_own:
        if (said.host, port) not in served:
            bind(said.host, port).close()
    if said.state_dir != now.state_dir:
        _check_writable(said.state_dir)


def _check_writable(folder: Path) -> None:
    """The folder, or the nearest above it where it is still to be made."""
    there = next(f for f in (folder, *folder.parents) if f.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as e:
        raise Conflict(f"state_dir {folder} cannot be written: {e.strerror}") from None
