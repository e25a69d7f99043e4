"""Which models a server elsewhere has: asked in a process of its own, in whose environment the key
is, for a manager that has no business with it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from modelpool_client.errors import LoadFailed, ModelPoolError
from modelpool_client.http1.upstream_connection import UpstreamError
from modelpool_client.wire import DecodeError

from modelpool_worker import engines
from modelpool_worker.engine import EngineJob


def tell() -> int:
    """Answer the job on standard input with ``{"models": [NAME, …]}`` or ``{"error": TEXT}``."""
    print(json.dumps(_told(sys.stdin.buffer.readline())))
    return 0


def _told(line: bytes) -> dict[str, Any]:
    try:
        job = EngineJob.parse(line)
        engine = engines.get_remote(job.engine)
        engine.check(job.options)
        return {"models": asyncio.run(_models(engine.connect(job)))}
    except (DecodeError, UpstreamError) as e:
        return {"error": str(e)}
    except ModelPoolError as e:
        return {"error": e.message}


async def _models(link: Any) -> list[str]:
    models = getattr(link, "models", None)
    if models is None:
        raise LoadFailed("its API has no list of models", code="bad_config")
    try:
        return list(await models())
    finally:
        link.close()
