"""PURE. A circuit breaker: whether who has failed often is to be asked for now.

CLOSED lets everything pass and counts what fails; after ``failures`` within the window, where they
are a good share of all that was asked, it is OPEN and lets nothing pass. After ``open_seconds`` it
is HALF_OPEN: as many requests as successes are wanted are let through to find out. All of them good
close it, one that fails opens it anew.

What is no failure: a client that leaves, a mistake of the client's, a load in progress, a worker
that drains, too much asked at a time (429, or 503 of an engine of ours). All times are seconds of
one steady clock, given as arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from modelpool_client.errors import CODE_HEADER, SOURCE_HEADER
from modelpool_client.http1.message import Headers

SOURCE, CODE, _RETRY_AFTER = SOURCE_HEADER.encode(), CODE_HEADER.encode(), b"retry-after"
# With a status from 500 on; nobody has failed, or asking another would not help.
_NO_FAILURES = frozenset({501, 505, 507})
_OF_THE_MOMENT = frozenset({b"oom", b"model_loading", b"worker_draining", b"circuit_open"})


class State(StrEnum):
    """Of a breaker."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Verdict(StrEnum):
    """What a request says about who was asked."""

    GOOD = "good"
    BAD = "bad"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Rules:
    """When a breaker opens and closes.

    Attributes:
        failures: as many within the window open it; 0: it never opens.
        share: of all requests since the first of these failures, they are at least so many.
        window_seconds: in which failures are counted.
        open_seconds: from OPEN to HALF_OPEN.
        successes: trials that are to be good, and as many are let through.
    """

    failures: int = 5
    share: float = 0.2
    window_seconds: float = 60.0
    open_seconds: float = 60.0
    successes: int = 3


@dataclass(frozen=True, slots=True)
class Breaker:
    """Of one worker or one server elsewhere.

    Attributes:
        since: when it came into its state.
        reason: why it did, for people.
        era: another number in every state: what was begun in a former one says nothing in this.
        failed: the last failures in CLOSED: when, and after how many good ones in this era.
        good: requests of this era that were.
        trials: of HALF_OPEN, those that are under way.
    """

    state: State = State.CLOSED
    since: float = 0.0
    reason: str = "nothing has failed"
    era: int = 0
    failed: tuple[tuple[float, int], ...] = ()
    good: int = 0
    trials: int = 0

    @property
    def is_at_rest(self) -> bool:
        """Nothing has to be remembered."""
        return self.state is State.CLOSED and not self.failed


def looked_at(breaker: Breaker, now: float, rules: Rules) -> Breaker:
    """As time has made it."""
    if breaker.state is State.OPEN and now >= breaker.since + rules.open_seconds:
        reason = f"open for {rules.open_seconds:g} s: {rules.successes} requests find out"
        return _become(breaker, State.HALF_OPEN, reason, now)
    if breaker.failed and breaker.failed[-1][0] <= now - rules.window_seconds:
        return replace(breaker, failed=(), good=0)
    return breaker


def admits(breaker: Breaker, rules: Rules) -> bool:
    """Whether a request may pass, of one that was just looked at."""
    if breaker.state is State.HALF_OPEN:
        return breaker.trials + breaker.good < rules.successes
    return breaker.state is State.CLOSED


def began(breaker: Breaker) -> Breaker:
    """A request passes."""
    if breaker.state is not State.HALF_OPEN:
        return breaker
    return replace(breaker, trials=breaker.trials + 1)


def ended(
    breaker: Breaker, verdict: Verdict, era: int, now: float, rules: Rules, why: str = ""
) -> Breaker:
    """A request that began in that era is over. ``why`` it failed, in words."""
    if era != breaker.era or breaker.state is State.OPEN:
        return breaker
    if breaker.state is State.HALF_OPEN:
        return _tried(breaker, verdict, now, rules, why)
    if verdict is Verdict.GOOD and breaker.failed:
        return replace(breaker, good=breaker.good + 1)
    if verdict is not Verdict.BAD or rules.failures == 0:
        return breaker
    failed = (*breaker.failed, (now, breaker.good))[-rules.failures :]
    first_at, good_before = failed[0]
    asked = len(failed) + breaker.good - good_before
    is_recent = first_at > now - rules.window_seconds
    if len(failed) < rules.failures or not is_recent or len(failed) < rules.share * asked:
        return replace(breaker, failed=failed)
    seconds = now - first_at
    text = f"{len(failed)} of {asked} requests failed in {seconds:.1f} s"
    return _become(breaker, State.OPEN, f"{text}; the last: {why}" if why else text, now)


def _tried(breaker: Breaker, verdict: Verdict, now: float, rules: Rules, why: str) -> Breaker:
    breaker = replace(breaker, trials=max(0, breaker.trials - 1))
    if verdict is Verdict.BAD:
        return _become(breaker, State.OPEN, f"a trial failed: {why}" if why else "", now)
    if verdict is Verdict.GOOD:
        breaker = replace(breaker, good=breaker.good + 1)
        if breaker.good >= rules.successes:
            reason = f"{breaker.good} requests in a row were answered"
            return _become(breaker, State.CLOSED, reason, now)
    return breaker


def reset(breaker: Breaker, reason: str, now: float) -> Breaker:
    """Closed by somebody."""
    return _become(breaker, State.CLOSED, reason, now)


def _become(breaker: Breaker, state: State, reason: str, now: float) -> Breaker:
    return Breaker(state, now, reason, breaker.era + 1)


def verdict_of(status: int, headers: Headers) -> tuple[Verdict, str]:
    """What an answer of a worker says, and about whom: ``upstream`` or ``worker``."""
    if status < 400:
        return Verdict.GOOD, ""
    fields = dict(headers)
    source = fields.get(SOURCE, b"worker").decode("latin-1")
    who = "upstream" if source == "upstream" else "worker"
    if status < 500 or status in _NO_FAILURES or fields.get(CODE) in _OF_THE_MOMENT:
        return Verdict.NOTHING, who
    # An engine here is as busy as we make it; of a server elsewhere nobody else can tell.
    if status == 503 and who == "worker":
        return Verdict.NOTHING, who
    return Verdict.BAD, who


def told_pause(status: int, headers: Headers) -> float:
    """Seconds that a server elsewhere wants not to be asked, of a 429 that says so; 0: none."""
    if status != 429:
        return 0.0
    fields = dict(headers)
    text = fields.get(_RETRY_AFTER, b"")
    return float(text) if fields.get(SOURCE) == b"upstream" and text.isdigit() else 0.0


def shut_out(copies: Sequence[tuple[str, bool]]) -> frozenset[str]:
    """The copies of a model that get no requests, of (key, whether its breaker admits): never all
    of them, for somebody has to be asked."""
    shut = frozenset(key for key, is_admitted in copies if not is_admitted)
    return frozenset() if len(shut) == len(copies) else shut
