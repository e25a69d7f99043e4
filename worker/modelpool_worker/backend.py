"""What a front serves: an engine in a child process, or one that is reached over the network."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from modelpool_client.wire import PromptCacheLimits, ServedModels

from .link import Held, Link


class Listener(Protocol):
    """Who hears of it."""

    def on_status(self, event: dict[str, Any]) -> None:
        """A status line arrived, see ``engine.Status``."""

    def on_exit(self, code: int) -> None:
        """It is gone; ``code`` is negative for a signal. Its last lines are complete."""


class Backend(Protocol):
    """What computes for a worker."""

    @property
    def pid(self) -> int | None:
        """Of its process; None where it has none here."""
        ...

    @property
    def started(self) -> float | None:
        """When that process started, as ``proc`` tells it."""
        ...

    @property
    def exit_code(self) -> int | None:
        """Once it is gone."""
        ...

    @property
    def last_lines(self) -> deque[str]:
        """What it said last."""
        ...

    @property
    def link(self) -> Link:
        """How it is asked."""
        ...

    @property
    def serves_others(self) -> bool:
        """Whether it may serve further models, beside its own."""
        ...

    @property
    def served(self) -> Sequence[str]:
        """Names of further models that it serves, beside its own."""
        ...

    def resolve(self, name: str) -> bool:
        """Whether it serves a model of that name, beside its own."""
        ...

    def serve(self, models: ServedModels) -> None:
        """Serve these models from now on, beside its own, if it can serve any."""
        ...

    def upstream(self) -> Mapping[str, Any]:
        """What the server elsewhere has said of its limits, for people; empty where there is
        none."""
        ...

    @property
    def probe(self) -> Callable[[], Awaitable[None]] | None:
        """Finds out whether it answers, without having it compute; raises ModelPoolError or
        UpstreamError where it does not. None: only by having it compute."""
        ...

    @property
    def held(self) -> Callable[[], Awaitable[Held]] | None:
        """What processes that are not the worker's hold for it. None: nothing."""
        ...

    def attach(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        """Begin, and tell the listener from now on."""
        ...

    async def wait(self) -> None:
        """Until it is gone and has been reported."""
        ...

    async def stop(self, grace: float, save: PromptCacheLimits | None = None) -> None:
        """End it: gently, and by force after ``grace`` seconds. With ``save`` it is told to keep
        its prompts first, for which it has the seconds that they say more."""
        ...

    def kill(self) -> None:
        """End it at once, if it has not ended yet."""
        ...
