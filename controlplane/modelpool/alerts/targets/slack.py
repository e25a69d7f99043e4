"""PURE. A message of an incoming webhook of Slack, and of what takes the same: Mattermost,
Rocket.Chat, Discord (its address with ``/slack`` at the end)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Message, Told

# A message of more lines is read by nobody.
MOST_LINES = 20
COLOURS = {"critical": "#d32f2f", "warning": "#f9a825", "info": "#1976d2"}
RESOLVED = "#2e7d32"


def body(message: Message) -> Mapping[str, Any]:
    """What is posted: a line that stands on its own, and one for each alert."""
    shown = message.alerts[:MOST_LINES]
    firing = sum(alert.is_firing for alert in message.alerts)
    resolved = len(message.alerts) - firing
    counts = [f"{firing} firing"] * bool(firing) + [f"{resolved} resolved"] * bool(resolved)
    more = len(message.alerts) - len(shown) + message.left_out
    attachments = [_attachment(alert) for alert in shown]
    if more:
        attachments.append({"color": RESOLVED, "text": f"and {more} more: {message.pool_url}"})
    text = f"modelpool: {', '.join(counts)} ({_escaped(message.pool_url)})"
    return {"text": text, "attachments": attachments}


def _attachment(alert: Told) -> Mapping[str, Any]:
    name = alert.labels.get("alertname", "")
    whose = alert.labels.get("model") or alert.labels.get("currency", "")
    word = alert.labels.get("severity", "").upper() if alert.is_firing else "RESOLVED"
    head = " ".join(filter(None, (f"[{word}]", name, whose)))
    text = "\n".join(filter(None, (f"*{head}*", alert.summary, alert.description)))
    colour = COLOURS.get(alert.labels.get("severity", ""), COLOURS["info"])
    return {
        "color": colour if alert.is_firing else RESOLVED,
        "fallback": _escaped(head),
        "text": _escaped(text),
        "mrkdwn_in": ["text"],
    }


def _escaped(text: str) -> str:
    """So that nothing in it is a link or calls people."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
