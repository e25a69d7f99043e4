"""Asks a model for one capability after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

from modelpool_client.errors import ModelPoolError, NotSupported
from modelpool_client.http1.upstream_connection import UpstreamError

from .checks import CHECKS, Answer, Check, Request, Verdict, verdict

# For one request of at most 128 tokens, on the slowest of machines.
REQUEST_SECONDS = 120.0

Ask: TypeAlias = Callable[[Request], Awaitable[Answer]]
Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True)
class Probed:
    """How one capability did, and how long its answer took."""

    capability: str
    verdict: Verdict
    milliseconds: float


async def probe(
    ask: Ask, clock: Clock, capabilities: Collection[str] = (), seconds: float = REQUEST_SECONDS
) -> AsyncGenerator[Probed, None]:
    """Find out what a model can do, one request at a time.

    Args:
        ask: sends a request to the model. Whatever it raises of ours means that this capability
            could not be found out.
        clock: seconds, from anywhere.
        capabilities: only these; none: all that can be found out.
        seconds: that one answer may take.
    """
    plain: dict[Request, Answer | None] = {}
    for check in CHECKS:
        if capabilities and check.capability not in capabilities:
            continue
        if check.plain is not None and check.plain not in plain:
            plain[check.plain] = await _answer(ask, check.plain, seconds)
        without = plain.get(check.plain) if check.plain is not None else None
        began = clock()
        found = await _judged(ask, check, without, seconds)
        yield Probed(check.capability, found, 1000 * (clock() - began))


async def _judged(ask: Ask, check: Check, plain: Answer | None, seconds: float) -> Verdict:
    try:
        async with asyncio.timeout(seconds):
            answer = await ask(check.request)
    except NotSupported as e:
        return Verdict("refused", e.message)
    except ModelPoolError as e:
        return Verdict("failed", e.message)
    except UpstreamError as e:
        return Verdict("failed", f"the worker does not answer: {e or type(e).__name__}")
    except TimeoutError:
        return Verdict("failed", f"there was no answer in {seconds:g} s")
    return verdict(check, answer, plain)


async def _answer(ask: Ask, request: Request, seconds: float) -> Answer | None:
    try:
        async with asyncio.timeout(seconds):
            return await ask(request)
    except (ModelPoolError, UpstreamError, TimeoutError):
        return None
