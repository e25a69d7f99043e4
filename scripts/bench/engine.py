"""The canned upstream as an engine of the pool: an engine child like any other.

It is plugged in as any stranger's engine would be, by an entry point of an installed package;
``plug_in`` writes the few files that make a folder on the path look like one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import uvloop
from modelpool_worker.engine import Engine, EngineJob, Status, Usable

from bench.canned import Canned

NAME, PLAIN_NAME = "canned", "canned-plain"


class CannedEngine(Engine):
    """Its source is not read. It notices a client that leaves on streams only, as llama.cpp does:
    a front never asks it for a plain answer."""

    name = NAME
    formats = ("none",)
    capabilities = ("chat", "streaming")
    honours = None  # a front passes all parameters on; it is told by one how long an answer is
    stops_plain: ClassVar[bool] = False

    def probe(self) -> Usable:
        return Usable(True)

    def serve(self, job: EngineJob, status: Status) -> None:
        uvloop.run(_serve(job.socket, status, self.stops_plain))


class PlainCannedEngine(CannedEngine):
    """The same, but it says that it stops for whoever leaves: a front relays its plain answers."""

    name = PLAIN_NAME
    stops_plain = True


async def _serve(path: str, status: Status, stops_plain: bool) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(Canned, path, backlog=1024)
    status.ready(context_length=4096, slots=0, stops_plain=stops_plain)
    await asyncio.Event().wait()


def plug_in(folder: Path) -> None:
    """Make ``folder``, once it is on the path, bring both engines."""
    info = folder / "modelpool_bench-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    metadata = "Metadata-Version: 2.1\nName: modelpool-bench\nVersion: 1\n"
    (info / "METADATA").write_text(metadata, encoding="ascii")
    entries = f"{NAME} = bench.engine:CannedEngine\n{PLAIN_NAME} = bench.engine:PlainCannedEngine\n"
    (info / "entry_points.txt").write_text(f"[modelpool.engines]\n{entries}", encoding="ascii")
