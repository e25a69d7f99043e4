"""PURE. What alerts can be raised on: everything here is measured, nothing is guessed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """What a value is: a share of 1, seconds, a number of things, money, or whether it is so."""

    SHARE = "share"
    SECONDS = "seconds"
    COUNT = "count"
    COST = "cost"
    TRUTH = "truth"


@dataclass(frozen=True)
class Signal:
    """Something that is measured.

    Attributes:
        of_model: there is a value for each model; else one for the pool (of cost one for each
            currency).
        is_windowed: it is about a time before now, the rule's window.
        of_requests: it is known from requests that are over, and only where they are told
            (``request_log: facts``).
        text: what it is, in a sentence with the value in front.
        counted: what ``min_count`` counts.
    """

    name: str
    unit: Unit
    text: str
    of_model: bool = True
    is_windowed: bool = False
    of_requests: bool = False
    counted: str = ""


def _requests(name: str, unit: Unit, text: str, counted: str) -> Signal:
    return Signal(name, unit, text, is_windowed=True, of_requests=True, counted=counted)


SIGNALS = {
    signal.name: signal
    for signal in (
        _requests("error_rate", Unit.SHARE, "of requests failed (5xx)", "requests"),
        _requests("latency_p95", Unit.SECONDS, "takes a request at its worker (p95)", "requests"),
        _requests("first_token_p95", Unit.SECONDS, "pass until a stream begins (p95)", "streams"),
        _requests("broken_share", Unit.SHARE, "of streams that began broke off", "streams"),
        _requests("empty_share", Unit.SHARE, "of answers in text have no token", "answers"),
        _requests("left_share", Unit.SHARE, "of clients left before the end", "requests"),
        Signal("waiting_seconds", Unit.SECONDS, "the first of those that wait has waited"),
        Signal("waiting", Unit.COUNT, "requests wait for a load or a place"),
        Signal(
            "failures",
            Unit.COUNT,
            "loads failed, or workers died or hung",
            is_windowed=True,
        ),
        Signal("failed", Unit.TRUTH, "the model is FAILED"),
        Signal("breaker_open", Unit.TRUTH, "a breaker of the model is open"),
        Signal(
            "evictions",
            Unit.COUNT,
            "models were evicted for others",
            of_model=False,
            is_windowed=True,
        ),
        Signal("memory_pressure", Unit.TRUTH, "the host is short of memory", of_model=False),
        Signal("cost_day", Unit.COST, "was spent since midnight UTC", of_model=False),
        Signal("cost_month", Unit.COST, "was spent since the first of the month", of_model=False),
    )
}


def shown(value: float, unit: Unit) -> str:
    """A value as people read it."""
    if unit is Unit.SHARE:
        return f"{value * 100:.3g} %"
    if unit is Unit.SECONDS:
        return f"{value:.3g} s"
    if unit is Unit.COST:
        return f"{value:.2f}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"
