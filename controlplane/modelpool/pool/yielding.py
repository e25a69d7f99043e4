"""PURE: how long a replica in another's way lets its new requests wait, and when it does so again.

That is of use only if its current work ends meanwhile. One long stream would otherwise keep its own
model from everybody for as long as anybody waits for another one, who gets nothing for it either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from modelpool.pool.states import backoff

LEAST_SECONDS = 1.0
# A single one may find a grant whose request has not reached the worker, or has left it already.
REPORTS = 2


@dataclass(frozen=True)
class Yielding:
    """``until`` is the end of the present hold, None if there is none; ``in_vain`` counts the holds
    in a row whose end found it in use. Of that use ``left`` grants have not come back yet. Where
    there were also requests of which only the worker knows, ``others`` reports without any are
    still to come, one after the other.
    """

    until: float | None = None
    in_vain: int = 0
    left: int = 0
    others: int = 0

    @property
    def is_useless(self) -> bool:
        """What outlasted the last hold is still under way."""
        return self.left > 0 or self.others > 0

    def begun(self, now: float, work_seconds: float, longest: float) -> Yielding:
        """Twice as long after each that was in vain, or work that takes longer would always win."""
        seconds = backoff(self.in_vain + 1, max(work_seconds, LEAST_SECONDS), longest)
        return replace(self, until=now + seconds)

    def dropped(self) -> Yielding:
        """Nobody needs it any more."""
        return replace(self, until=None)

    def over(self, granted: int, in_flight: int) -> Yielding:
        """Its time is over; so many grants are out, so many requests on the worker."""
        if not (granted or in_flight):
            return Yielding()
        return Yielding(None, self.in_vain + 1, granted, REPORTS if in_flight > granted else 0)

    def released(self, given_after: int) -> Yielding:
        """A grant came back that was given after so many holds in vain."""
        is_old = given_after < self.in_vain and self.left > 0
        return replace(self, left=self.left - 1) if is_old else self

    def heard(self, granted: int, in_flight: int) -> Yielding:
        """So many grants are out, and the worker reports so many requests."""
        if not (granted or in_flight):
            return Yielding(self.until)
        if not self.others:
            return self
        return replace(self, others=REPORTS if in_flight > granted else self.others - 1)
