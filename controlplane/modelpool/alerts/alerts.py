"""The alerts of a pool: their one owner. Evaluates now and then, publishes what changes, has
targets told, and keeps silences and what fires over a restart."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from modelpool_client.errors import NotFound

from modelpool.catalog.errors import StoreError

from .deliveries import Deliveries
from .evaluate import Alert, State, Status, alert_of, evaluate
from .messages import fingerprint
from .rules import Rule
from .sampler import Sampler
from .settings import AlertsSettings
from .signals import SIGNALS
from .silences import Silence, new_silence, silence_of, silenced_by

log = logging.getLogger(__name__)

ALERTS, SILENCES = "alert", "silence"
FIRING, RESOLVED = "alert-firing", "alert-resolved"


class Documents(Protocol):
    """Where silences and what fires outlive the manager."""

    async def documents(self, kind: str) -> dict[str, Any]: ...
    async def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()
    ) -> None: ...


@dataclass(frozen=True)
class Shown:
    """An alert, and the silence that quietens it."""

    alert: Alert
    silence: Silence | None


class Alerts:
    """``settings`` gives those in force, ``wall`` seconds since 1970, ``requests_are_told`` whether
    requests are told of at all.

    Attributes:
        sampler: hears of requests and events.
    """

    def __init__(
        self,
        settings: Callable[[], AlertsSettings],
        sampler: Sampler,
        deliveries: Deliveries,
        store: Documents,
        publish: Callable[..., object],
        wall: Callable[[], float],
        requests_are_told: Callable[[], bool],
    ) -> None:
        self.sampler = sampler
        self._settings = settings
        self._configured: AlertsSettings | None = None
        self._rules: tuple[Rule, ...] = ()
        self._deliveries = deliveries
        self._store = store
        self._publish = publish
        self._wall = wall
        self._requests_are_told = requests_are_told
        self._state = State()
        self._saved: dict[str, dict[str, Any]] = {}

    def __repr__(self) -> str:
        return f"<Alerts {len(self._state.active)} active, {len(self._rules)} rules>"

    async def open(self) -> None:
        """Remember what a former manager knew: silences, and what fired. It fires on for as long as
        its rule says, for until then nothing was measured."""
        now = self._wall()
        active: dict[Any, Alert] = {}
        for name, stored in (await self._store.documents(ALERTS)).items():
            try:
                alert = replace(alert_of(stored), seen_at=now)
            except (KeyError, TypeError, ValueError):  # of another version
                await self._store.write_documents(ALERTS, {}, (name,))
                continue
            active[alert.key] = alert
            self._saved[name] = alert.stored()
        silences = {}
        for name, stored in (await self._store.documents(SILENCES)).items():
            try:
                silences[name] = silence_of(stored)
            except TypeError:
                await self._store.write_documents(SILENCES, {}, (name,))
        self._state = State(active, (), silences)
        await self._configure()

    async def reconcile(self) -> None:
        """Look, evaluate, and tell."""
        await self._configure()
        now = self._wall()
        samples = await self.sampler.look(self._rules, now)
        repeat = self._settings().repeat_seconds
        over = [k for k, s in self._state.silences.items() if s.is_over(now)]
        # From here on nothing is awaited until the state is the new one.
        result = evaluate(self._rules, samples, self._state, now, repeat)
        self._state = result.state
        for alert in result.changed:
            self._publish_change(alert, now)
        self._deliveries.tell(result.told)
        await self._save(over)

    async def _configure(self) -> None:
        settings = self._settings()
        if settings != self._configured:
            self._configured = settings
            self._rules = settings.effective_rules
            await self._deliveries.configure(settings.targets if settings.enabled else {})

    def _publish_change(self, alert: Alert, now: float) -> None:
        silence = silenced_by(self._state.silences.values(), alert.all_labels, now)
        self._publish(
            FIRING if alert.status is Status.FIRING else RESOLVED,
            alert=alert.rule,
            severity=alert.severity,
            labels=dict(alert.labels),
            value=round(alert.value, 6),
            is_silenced=silence is not None,
            reason=f"{alert.summary} {alert.reason}".strip(),
        )

    async def _save(self, over: Collection[str]) -> None:
        """What fires, as far as it has changed; what the store refuses waits for the next time."""
        firing = {
            fingerprint(key): alert.stored()
            for key, alert in self._state.active.items()
            if alert.status is Status.FIRING
        }
        # When it was last seen is not worth a write every few seconds.
        put = {k: v for k, v in firing.items() if _lasting(v) != _lasting(self._saved.get(k))}
        drop = self._saved.keys() - firing.keys()
        try:
            if put or drop:
                await self._store.write_documents(ALERTS, put, drop)
                self._saved = firing
            if over:
                await self._store.write_documents(SILENCES, {}, over)
        except StoreError as e:
            log.warning("alerts could not be saved: %s", e)

    # -- for people ------------------------------------------------------------------------------

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Those that are evaluated."""
        return self._rules

    @property
    def targets(self) -> Deliveries:
        """Who is told."""
        return self._deliveries

    def blind(self, rule: Rule) -> str:
        """Why nothing is measured for a rule; empty if something is."""
        if SIGNALS[rule.signal].of_requests and not self._requests_are_told():
            return "request_log is off: nothing is known of single requests"
        return ""

    def shown(self) -> list[Shown]:
        """What fires, what is pending, what was resolved lately; in this order, the newest
        first."""
        active = sorted(self._state.active.values(), key=lambda a: (a.status, -a.active_at))
        silences, now = self._state.silences.values(), self._wall()
        return [
            Shown(alert, silenced_by(silences, alert.all_labels, now))
            for alert in (*active, *self._state.resolved)
        ]

    @property
    def silences(self) -> list[Silence]:
        """Those in force, the next to end first."""
        now = self._wall()
        there = [s for s in self._state.silences.values() if not s.is_over(now)]
        return sorted(there, key=lambda s: s.ends_at)

    async def silence(self, matchers: Mapping[str, str], ends_at: float, comment: str) -> Silence:
        """Quiet from now on; it is written down before it counts.

        Raises:
            InvalidRequest: it would silence nothing, or never end.
            StoreError: it cannot be written down.
        """
        made = new_silence(secrets.token_hex(4), matchers, ends_at, self._wall(), comment)
        await self._store.write_documents(SILENCES, {made.silence_id: made.stored()})
        silences = {**self._state.silences, made.silence_id: made}
        self._state = replace(self._state, silences=silences)
        self._publish(
            "alert-silenced",
            silence=made.silence_id,
            matchers=dict(made.matchers),
            reason=made.comment or "by the API",
        )
        return made

    async def end_silence(self, silence_id: str) -> Silence:
        """Tell again.

        Raises:
            NotFound: there is none of that id.
            StoreError: it cannot be written down.
        """
        found = self._state.silences.get(silence_id)
        if found is None or found.is_over(self._wall()):
            text = f"there is no silence {silence_id[:64]!r}: GET /alerts lists them"
            raise NotFound(text, param="silence_id")
        await self._store.write_documents(SILENCES, {}, (silence_id,))
        silences = {k: s for k, s in self._state.silences.items() if k != silence_id}
        self._state = replace(self._state, silences=silences)
        self._publish(
            "alert-unsilenced",
            silence=silence_id,
            matchers=dict(found.matchers),
            reason="by the API",
        )
        return found

    async def test(self, target: str | None) -> dict[str, str]:
        """See ``Deliveries.test``."""
        await self._configure()
        return await self._deliveries.test(target, self._wall())

    async def close(self) -> None:
        """Stop."""
        await self._deliveries.close()


def _lasting(stored: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """PURE. Without what changes with every look."""
    passing = ("seen_at", "value", "reason")
    return None if stored is None else {k: v for k, v in stored.items() if k not in passing}
