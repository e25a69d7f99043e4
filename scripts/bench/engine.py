"""The canned upstream as an engine of the pool: an engine child like any other.

It is plugged in as any stranger's engine would be, by an entry point of an installed package;
``plug_in`` writes the few files that make a folder on the path look like one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

import uvloop
from modelpool_client.surfaces.routes import (
    BASIC,
    CHAT_PATH,
    EMBEDDINGS_PATH,
    RERANK_PATH,
    TEXT_PATH,
)
from modelpool_worker.engine import Engine, EngineJob, Status, Usable

from bench.canned import Canned

NAME, PLAIN_NAME = "canned", "canned-plain"
SPEAKS_ALL, SPEAKS_CHAT, CHAT_TOGETHER = "canned-all", "canned-chat", "canned-chat-together"
# As engines of the pool have them.
_SAMPLING = ("temperature", "top_p", "seed", "stop", "n", "max_tokens")


class CannedEngine(Engine):
    """Its source is not read. It notices a client that leaves on streams only, as llama.cpp does:
    a front never asks it for a plain answer."""

    name = NAME
    formats = ("none",)
    capabilities: ClassVar[tuple[str, ...]] = ("chat", "streaming")
    # A front passes all parameters on; it is told by one how long an answer is.
    honours: ClassVar[Mapping[str, Collection[str]] | None] = None
    stops_plain: ClassVar[bool] = False
    # Tokens a second of streams that do not say it; 0: as fast as they can be written.
    pace: ClassVar[float] = 0.0

    def probe(self) -> Usable:
        return Usable(True)

    def serve(self, job: EngineJob, status: Status) -> None:
        uvloop.run(_serve(job.socket, status, self))


class PlainCannedEngine(CannedEngine):
    """The same, but it says that it stops for whoever leaves: a front relays its plain answers."""

    name = PLAIN_NAME
    stops_plain = True


class ChatEngine(CannedEngine):
    """It speaks OpenAI's API only, and stops for whoever leaves: all others are translated."""

    name = SPEAKS_CHAT
    pace = 1000.0
    capabilities = ("chat", "completion", "streaming", "embeddings", "rerank", "infill")
    surfaces: ClassVar[Collection[str]] = (*BASIC, EMBEDDINGS_PATH, RERANK_PATH)
    honours: ClassVar[Mapping[str, Collection[str]] | None] = {
        CHAT_PATH: ("max_completion_tokens", "tools", *_SAMPLING),
        TEXT_PATH: ("suffix", *_SAMPLING),
    }
    stops_plain = True


class ChatTogetherEngine(ChatEngine):
    """The same, but it notices who leaves on streams only: its answers are put together."""

    name = CHAT_TOGETHER
    pace = 0.0
    stops_plain = False


class AllEngine(ChatEngine):
    """It speaks further APIs itself, which a front relays."""

    name = SPEAKS_ALL
    surfaces = (*ChatEngine.surfaces, "/v1/messages", "/completion", "/infill", "/tokenize")


ENGINES = (CannedEngine, PlainCannedEngine, ChatEngine, ChatTogetherEngine, AllEngine)


async def _serve(path: str, status: Status, kind: CannedEngine) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(lambda: Canned(kind.pace), path, backlog=1024)
    status.ready(
        context_length=4096, slots=0, serves=list(kind.surfaces), stops_plain=kind.stops_plain
    )
    await asyncio.Event().wait()


def plug_in(folder: Path) -> None:
    """Make ``folder``, once it is on the path, bring all of them."""
    info = folder / "modelpool_bench-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    metadata = "Metadata-Version: 2.1\nName: modelpool-bench\nVersion: 1\n"
    (info / "METADATA").write_text(metadata, encoding="ascii")
    entries = "".join(f"{kind.name} = {kind.__module__}:{kind.__name__}\n" for kind in ENGINES)
    (info / "entry_points.txt").write_text(f"[modelpool.engines]\n{entries}", encoding="ascii")
