"""One loop per registry: what it should list against what it lists, then the difference.

A registry is a projection of the pool's state, never its source. Loops are woken by every event of
a model, which asks nothing of the registry unless other records are wanted by it; and they look by
themselves every third of a TTL, so whatever was missed, lost or written by a stranger is put right
by the next round. No request and no load ever waits for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

from modelpool.observe.events import iso
from modelpool.pool.clock import Clock
from modelpool.pool.states import backoff

from .base import Refused, Registrar, RegistrarFailed
from .record import Record, difference
from .settings import RegistrarSettings

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.5
ROUND_SECONDS = 30.0

Records = Callable[[], Mapping[str, Record]]
Tell = Callable[..., object]


class Reconciler:
    """Keeps one registry right, and remembers how that went.

    Attributes:
        writes_anew: entries that are there are not trusted, even such as say what they should.
    """

    def __init__(
        self,
        registrar: Registrar,
        settings: RegistrarSettings,
        records: Records,
        tell: Tell,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
        *,
        writes_anew: bool = False,
    ) -> None:
        self._registrar = registrar
        self._settings = settings
        self._records = records
        self._tell = tell
        self._clock = clock or Clock()
        self._jitter = jitter
        self.writes_anew = writes_anew
        self._woken = asyncio.Event()
        self._listed: Mapping[str, Record] | None = None
        self._look_at = float("-inf")
        self._failed_rounds = 0
        self._failures = 0
        self._error: tuple[str, float] | None = None
        self._succeeded_at: float | None = None

    def __repr__(self) -> str:
        return f"<Reconciler {self._name}: {self._status}, {len(self._listed or ())} listed>"

    @property
    def _name(self) -> str:
        return f"{self._settings.kind} {self._settings.address}"

    @property
    def _status(self) -> str:
        if self._failed_rounds:
            return "failing"
        return "starting" if self._listed is None else "ok"

    @property
    def period(self) -> float:
        """Seconds between two looks when nothing happens, and most that a retry waits."""
        return self._settings.ttl_seconds / 3

    def wake(self) -> None:
        """Something moved."""
        self._woken.set()

    async def run(self) -> None:
        """Round after round, for ever."""
        while True:
            if await self.settle():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look_at - self._clock.now()):
                        await self._woken.wait()
            else:  # news do not hurry it: a registry that is down is not to be knocked over
                delay = backoff(self._failed_rounds, FIRST_RETRY_SECONDS, self.period)
                await self._clock.sleep(delay * (1 + self._jitter()) / 2)

    async def settle(self, *, renew: bool = False) -> bool:
        """One round, unless the last one is recent and what it wrote is still wanted.

        Args:
            renew: see to every entry, as is done once in a period anyway.

        Returns:
            Whether the registry now lists what it should.
        """
        self._woken.clear()
        try:
            wanted = dict(self._records())
            renew = renew or self._clock.now() >= self._look_at
            if wanted == self._listed and not renew and not self._failed_rounds:
                return True
            async with asyncio.timeout(ROUND_SECONDS):
                await self._make(wanted, renew)
        except RegistrarFailed as e:
            self._failed(str(e))
        except TimeoutError:
            self._failed(f"{self._name} was not done after {ROUND_SECONDS:.0f} s")
        except Exception as e:  # a stranger's registrar, or a server that is none of its kind
            log.debug("%s", self._name, exc_info=e)
            self._failed(f"{self._name} does not answer as one of its kind: {e!r}")
        else:
            if renew:
                self._look_at = self._clock.now() + self.period
            self._succeeded(wanted)
        return self._failed_rounds == 0

    async def withdraw(self) -> None:
        """From now on it is to list nothing. What cannot be removed expires by itself."""
        self._records = dict
        await self.settle(renew=True)

    async def _make(self, wanted: Mapping[str, Record], renew: bool) -> None:
        """Remove, write, renew. A record that is refused does not keep the others out."""
        found = await self._registrar.find()
        changes = difference(wanted, dict.fromkeys(found) if self.writes_anew else found)
        refusals: list[Refused] = []
        for gone in changes.remove:
            with _collecting(refusals):
                await self._registrar.remove(gone)
        for record in changes.put:
            with _collecting(refusals):
                await self._registrar.put(record)
        if changes.keep and renew:
            with _collecting(refusals):
                await self._registrar.keep(changes.keep)
        if refusals:
            raise refusals[0]

    def _failed(self, why: str) -> None:
        self._failed_rounds += 1
        self._failures += 1
        self._error = (why, self._clock.wall())
        if self._failed_rounds == 1:
            log.warning("registrar %s failed: %s", self._name, why)
            self._say("registrar-failed", why)

    def _succeeded(self, listed: Mapping[str, Record]) -> None:
        rounds, self._failed_rounds = self._failed_rounds, 0
        self.writes_anew = False
        self._listed = listed
        self._succeeded_at = self._clock.wall()
        if rounds:
            log.info("registrar %s is right again after %d failures", self._name, rounds)
            self._say("registrar-recovered", f"it is right again after {rounds} failures")

    def _say(self, event: str, reason: str) -> None:
        settings = self._settings
        self._tell(event, kind=settings.kind, url=settings.address, reason=reason)

    def view(self) -> dict[str, Any]:
        """For ``GET /registrars``: ``registered`` is what the last good round left there."""
        error, error_at = self._error or (None, None)
        return {
            "kind": self._settings.kind,
            "url": self._settings.address,
            "ttl_seconds": self._settings.ttl_seconds,
            "status": self._status,
            "registered": None if self._listed is None else len(self._listed),
            "failures": self._failures,
            "last_error": error,
            "last_error_at": iso(error_at),
            "last_success_at": iso(self._succeeded_at),
        }


class _collecting(contextlib.AbstractContextManager[None]):
    """Takes note of a refusal and goes on."""

    def __init__(self, refusals: list[Refused]) -> None:
        self._refusals = refusals

    def __exit__(self, kind: object, error: object, _: object) -> bool:
        if isinstance(error, Refused):
            self._refusals.append(error)
            return True
        return False
