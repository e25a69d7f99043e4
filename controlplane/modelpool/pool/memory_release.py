"""Is what a worker held really back? Asked when its processes are gone, before anyone plans."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Mapping

from modelpool_client.wire import Facts

from modelpool.pool.devices import Devices
from modelpool.pool.memory import HostMemory

DEVICE_SECONDS = 5.0
POLL_SECONDS = 0.25

Ask = Callable[[int], Awaitable[Mapping[str, int]]]


class MemoryRelease:
    """``memory`` is read again at every end, ``devices`` at that of a worker that had some of
    theirs; ``ask`` gives the bytes that a process holds of each device."""

    def __init__(
        self,
        memory: HostMemory,
        ask: Ask | None = None,
        devices: Devices | None = None,
    ) -> None:
        self._memory = memory
        self._devices = devices
        self._ask = ask or devices_of

    async def __call__(self, last_facts: Facts | None) -> bool:
        """After the end of the worker with those; False if something is missing after 5 s."""
        is_released = await self._devices_are_released(last_facts)
        if self._devices is not None and last_facts is not None and last_facts.device_memory_bytes:
            await self._devices.refresh()
        await self._memory.refresh()  # what a process held of the host is back with its end
        return is_released

    async def _devices_are_released(self, facts: Facts | None) -> bool:
        if facts is None or not facts.device_memory_bytes or facts.engine_pid is None:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEVICE_SECONDS):
                while any((await self._ask(facts.engine_pid)).values()):  # noqa: ASYNC110 - a tool
                    await asyncio.sleep(POLL_SECONDS)
                return True
        return False


async def devices_of(pid: int) -> Mapping[str, int]:
    """Asked of a worker's command in a process of its own; nothing where that has no answer."""
    command = (sys.executable, "-m", "modelpool_worker", "devices", str(pid))
    quiet = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=quiet, stdout=asyncio.subprocess.PIPE, stderr=quiet
        )
    except OSError:
        return {}
    try:
        out, _ = await process.communicate()
        found: dict[str, int] = json.loads(out)
        return found
    except ValueError:
        return {}
    finally:
        if process.returncode is None:
            process.kill()  # not waited for: it may be stuck in the driver
