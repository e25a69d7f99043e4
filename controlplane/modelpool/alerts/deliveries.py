"""The targets of the configuration, each with its sender."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from modelpool_client.errors import NotFound

from .evaluate import Alert
from .messages import message_for, trial_message
from .sender import HttpClient, Sender
from .settings import AlertTargetSettings


class Deliveries:
    """``publish`` tells an event."""

    def __init__(self, pool_id: str, pool_url: str, publish: Callable[..., object]) -> None:
        self._pool_id = pool_id
        self._pool_url = pool_url
        self._publish = publish
        self._client = HttpClient()
        self._senders: dict[str, Sender] = {}

    def __iter__(self) -> Iterator[Sender]:
        return iter(self._senders.values())

    async def configure(self, targets: Mapping[str, AlertTargetSettings]) -> None:
        """From now on these. What stays as it was keeps what waits."""
        former, self._senders = self._senders, {}
        for name, settings in targets.items():
            if name in former and former[name].settings == settings:
                self._senders[name] = former.pop(name)
            else:
                self._senders[name] = Sender(name, settings, self._client, self._publish)
        for sender in former.values():
            await sender.close()

    def tell(self, alerts: Sequence[Alert]) -> None:
        """Every target, of those that it wants to hear of; never waits."""
        for sender in self:
            message = message_for(
                sender.name, sender.settings, alerts, self._pool_id, self._pool_url
            )
            if message is not None:
                sender.put(message)

    async def test(self, name: str | None, now: float) -> dict[str, str]:
        """Send a test to one target or to all, once and at once: what went wrong by their names,
        empty if nothing did.

        Raises:
            NotFound: there is no such target.
        """
        if name is not None and name not in self._senders:
            there = ", ".join(self._senders) or "none"
            text = f"there is no target {name[:64]!r} of alerts; the config file has: {there}"
            raise NotFound(text, param="target")
        chosen = [s for s in self if name in (None, s.name)]
        messages = [trial_message(s.name, self._pool_id, self._pool_url, now) for s in chosen]
        attempts = await asyncio.gather(
            *(s.attempt(m) for s, m in zip(chosen, messages, strict=True))
        )
        return {s.name: a.problem for s, a in zip(chosen, attempts, strict=True)}

    async def close(self) -> None:
        """Stop."""
        await self.configure({})
        await self._client.close()
