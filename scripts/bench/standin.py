"""A worker without a front: the canned upstream, and as much of docs/protocol.md as a pool needs.

    python -m bench.standin LABEL

So that a request through the gateway costs on the way what the gateway costs, and nothing else.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import os
import signal
import sys
from urllib.parse import urlsplit

import uvloop
from modelpool_client.http1.endpoint import front_socket
from modelpool_client.wire import (
    WORKER_EXIT_PORT_TAKEN,
    Assignment,
    Facts,
    Phase,
    decode,
    encode,
)

from bench.canned import Canned

# Until it is known for the first time; the manager may still be writing its start down.
RETRY_SECONDS = 0.05
PATIENCE_SECONDS = 10.0


async def _serve(assignment: Assignment) -> int:
    loop = asyncio.get_running_loop()
    try:
        await loop.create_server(Canned, assignment.host, assignment.port, backlog=1024)
        if beside := front_socket(assignment.runtime_dir, assignment.port):
            await loop.create_unix_server(Canned, beside, backlog=1024)
    except OSError:
        return WORKER_EXIT_PORT_TAKEN
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    beating = asyncio.ensure_future(_beat(assignment))
    stopping = asyncio.ensure_future(told.wait())
    await asyncio.wait({beating, stopping}, return_when=asyncio.FIRST_COMPLETED)
    return 0


async def _beat(assignment: Assignment) -> None:
    """Post facts, as often as told, until nobody has known us for a while."""
    loop = asyncio.get_running_loop()
    heard, pause = loop.time(), RETRY_SECONDS
    for sequence in itertools.count(1):
        if await asyncio.to_thread(_post, assignment, sequence):
            heard, pause = loop.time(), assignment.beat_seconds
        elif loop.time() - heard > PATIENCE_SECONDS:
            return
        await asyncio.sleep(pause)


def _post(assignment: Assignment, sequence: int) -> bool:
    facts = Facts(
        worker_id=assignment.worker_id,
        pool_id=assignment.pool_id,
        epoch=assignment.epoch,
        sequence=sequence,
        phase=Phase.READY,
        port=assignment.port,
        pid=os.getpid(),
        slots=0,
    )
    manager = urlsplit(assignment.manager_url).netloc
    path = f"/internal/workers/{assignment.worker_id}/facts"
    headers = {
        "authorization": f"Bearer {assignment.secret}",
        "content-type": "application/json",
    }
    connection = http.client.HTTPConnection(manager, timeout=5)
    try:
        connection.request("POST", path, json.dumps(encode(facts)), headers)
        answer = connection.getresponse()
        return answer.status == 200 and json.loads(answer.read())["known"] is True
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    told = decode(Assignment, json.loads(sys.stdin.buffer.readline()))
    # Not sys.exit: a post that is under way is waited for by nobody.
    os._exit(uvloop.run(_serve(told)))
