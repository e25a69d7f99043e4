"""PURE. Which alerts a target is told of, and in which message."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from modelpool.observe.events import iso

from .evaluate import Alert, Key, Status
from .rules import SEVERITIES
from .settings import AlertTargetSettings
from .targets.base import MOST_ALERTS, Message, Told


def fingerprint(key: Key) -> str:
    """The same for the same alert, at any time."""
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def told(alert: Alert) -> Told:
    """As targets see it."""
    return Told(
        labels=alert.all_labels,
        summary=alert.summary,
        description=alert.reason,
        starts_at=iso(alert.fired_at if alert.fired_at is not None else alert.active_at) or "",
        ends_at=iso(alert.resolved_at) if alert.status is Status.RESOLVED else None,
        fingerprint=fingerprint(alert.key),
    )


def message_for(
    name: str,
    settings: AlertTargetSettings,
    alerts: Sequence[Alert],
    pool_id: str,
    pool_url: str,
) -> Message | None:
    """What a target is told of these; None: nothing. What fires comes first, the worst of it
    before the rest."""
    least = SEVERITIES.index(settings.min_severity)
    wanted = [
        alert
        for alert in alerts
        if SEVERITIES.index(alert.severity) >= least
        and (settings.send_resolved or alert.status is Status.FIRING)
    ]
    if not wanted:
        return None
    wanted.sort(key=lambda a: (a.status is Status.RESOLVED, -SEVERITIES.index(a.severity), a.key))
    shown = tuple(map(told, wanted[:MOST_ALERTS]))
    return Message(name, pool_id, pool_url, shown, len(wanted) - len(shown))


def trial_message(name: str, pool_id: str, pool_url: str, now: float) -> Message:
    """What a target is sent to see whether it arrives."""
    alert = Told(
        labels={"alertname": "Test", "severity": "info"},
        summary="This is a test of modelpool's alerts; nothing is wrong.",
        description="Somebody has asked for it: POST /alerts/test, or poolctl alerts test.",
        starts_at=iso(now) or "",
        ends_at=None,
        fingerprint=fingerprint(("Test", ())),
    )
    return Message(name, pool_id, pool_url, (alert,))
