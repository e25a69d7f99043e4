"""Every wait for what may never come has an end."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import TypeVar

from modelpool.launchers import LaunchError

T = TypeVar("T")

# A disk or a fork that hangs is given up, too.
LAUNCH_SECONDS = 60.0
LATE_SECONDS = 1.0
OUR_OWN_TROUBLE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


async def written(write: Awaitable[T]) -> T:
    """Wait for the database, not for ever.

    Raises:
        LaunchError: it hangs.
        StoreError: it would not take it.
    """
    try:
        async with asyncio.timeout(LAUNCH_SECONDS):
            return await write
    except TimeoutError:
        raise LaunchError(f"the database did not take it within {LAUNCH_SECONDS:g} s") from None


async def in_time(ask: Callable[[], Awaitable[T]], limit: float) -> T | None:
    """The answer, or None when there was none in time or it was no answer.

    Where the manager itself was late (suspended, or starved), nobody is judged by it: again.

    Raises:
        OSError: the manager could not even ask.
    """
    now = asyncio.get_running_loop().time
    while True:
        began = now()
        try:
            async with asyncio.timeout(limit):
                return await ask()
        except TimeoutError:
            if now() - began < limit + LATE_SECONDS:
                return None
        except Exception as e:
            cause = e.__cause__ or e
            if isinstance(cause, OSError) and cause.errno in OUR_OWN_TROUBLE:
                raise cause from None
            return None
