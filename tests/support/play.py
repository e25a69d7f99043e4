"""A scene in a simulated pool on virtual time, and whether it left anything behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .sim import Script, SimWorld
from .virtual_time import run_virtual


def play(
    scene: Callable[[SimWorld], Awaitable[None]],
    *models: Any,
    beat_seconds: float = 0.0,
    **config: Any,
) -> SimWorld:
    """Run the scene and stop the pool; the rules hold, and no process and no record is left.

    ``beat_seconds``: between two reports of every worker; 0: only changes are reported.
    """

    async def main() -> SimWorld:
        world = SimWorld(list(models), **config)
        for entry in models:
            world.scripts[entry.model_id] = Script(beat_seconds=beat_seconds)
        try:
            await scene(world)
            world.check()
        finally:
            await world.pool.stop()
        assert not world.alive()
        assert not world.records
        return world

    return run_virtual(main())
