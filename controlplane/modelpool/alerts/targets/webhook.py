"""PURE. JSON as Alertmanager's webhook posts it, version 4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .base import Message, Told

# Of what has not ended; Go's time of nothing.
NO_END = "0001-01-01T00:00:00Z"


def body(message: Message) -> Mapping[str, Any]:
    """What is posted."""
    labels = [_labels(alert, message) for alert in message.alerts]
    notes = [_annotations(alert) for alert in message.alerts]
    return {
        "version": "4",
        "groupKey": f'{{}}:{{pool="{message.pool_id}"}}',
        "truncatedAlerts": message.left_out,
        "status": "firing" if message.is_firing else "resolved",
        "receiver": message.receiver,
        "groupLabels": {"pool": message.pool_id},
        "commonLabels": _common(labels),
        "commonAnnotations": _common(notes),
        "externalURL": message.pool_url,
        "alerts": [
            {
                "status": "firing" if alert.is_firing else "resolved",
                "labels": own,
                "annotations": note,
                "startsAt": alert.starts_at,
                "endsAt": alert.ends_at or NO_END,
                "generatorURL": f"{message.pool_url}/alerts",
                "fingerprint": alert.fingerprint,
            }
            for alert, own, note in zip(message.alerts, labels, notes, strict=True)
        ],
    }


def _labels(alert: Told, message: Message) -> dict[str, str]:
    return {**alert.labels, "pool": message.pool_id}


def _annotations(alert: Told) -> dict[str, str]:
    return {"summary": alert.summary, "description": alert.description}


def _common(several: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What all of them say."""
    pairs = [set(each.items()) for each in several]
    return dict(sorted(set.intersection(*pairs))) if pairs else {}
