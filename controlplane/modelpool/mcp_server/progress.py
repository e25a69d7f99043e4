"""PURE. What a client that waits for a load is told of it. By the protocol the numbers grow."""

from __future__ import annotations

from dataclasses import dataclass

from modelpool_client.types import ModelView

# Something is new without being further, such as what a load waits for.
LEAST_STEP = 0.0001
WHOLE = 1.0
# Leaves room for the steps of what happens after the last byte is read.
MOST_UNTIL_LOADED = 0.99


@dataclass(frozen=True)
class Told:
    """A notification: ``progress`` of ``WHOLE``, and what happens in words."""

    progress: float
    message: str


def news(view: ModelView, last: Told | None) -> Told | None:
    """What is to be told of a load after ``last``; None where that says it all."""
    message = _message(view)
    before = last.progress if last is not None else 0.0
    fraction = view.progress.fraction if view.progress is not None else None
    done = WHOLE if view.is_loaded else min(fraction or 0.0, MOST_UNTIL_LOADED)
    if done > before:
        return Told(done, message)
    if last is None or message != last.message:
        return Told(before + LEAST_STEP, message)
    return None


def _message(view: ModelView) -> str:
    stage = view.progress.stage if view.progress is not None else ""
    waits = f"waits for {view.waiting_for}" if view.waiting_for else ""
    what = stage or waits or view.reason
    return f"{view.model_id} is {view.state}: {what}"
