"""The canned upstream as an engine of the pool: an engine child like any other.

It is plugged in as any stranger's engine would be, by an entry point of an installed package;
``plug_in`` writes the few files that make a folder on the path look like one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import uvloop
from modelpool_worker.engine import Engine, EngineJob, Status, Usable

from bench.canned import Canned

NAME = "canned"


class CannedEngine(Engine):
    """Its source is not read."""

    name = NAME
    formats = ("none",)
    capabilities = ("chat", "streaming")

    def probe(self) -> Usable:
        return Usable(True)

    def serve(self, job: EngineJob, status: Status) -> None:
        uvloop.run(_serve(job.socket, status))


async def _serve(path: str, status: Status) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(Canned, path, backlog=1024)
    status.ready(context_length=4096)
    await asyncio.Event().wait()


def plug_in(folder: Path) -> None:
    """Make ``folder``, once it is on the path, bring this engine."""
    info = folder / "modelpool_bench-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    metadata = "Metadata-Version: 2.1\nName: modelpool-bench\nVersion: 1\n"
    (info / "METADATA").write_text(metadata, encoding="ascii")
    entry = f"[modelpool.engines]\n{NAME} = bench.engine:CannedEngine\n"
    (info / "entry_points.txt").write_text(entry, encoding="ascii")
