"""Whether what is said in requests is captured, of which models, and until when. In memory: a
manager that comes after another captures nothing until it is told to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from modelpool_client.wire import CaptureOrder

from modelpool.catalog.model import Model

OFF = CaptureOrder()


@dataclass(frozen=True)
class Capturing:
    """What is captured.

    Attributes:
        until: seconds of the loop's clock.
        ends_at: the same, seconds since 1970.
        model_ids: of which models; None: of all.
        served_by: whose workers capture it, which may be providers; None: all.
        max_bytes: of each body, at most.
    """

    until: float
    ends_at: float
    model_ids: frozenset[str] | None
    served_by: frozenset[str] | None
    max_bytes: int

    def wants(self, model_id: str) -> bool:
        """PURE. Is what that model is asked captured?"""
        return self.model_ids is None or model_id in self.model_ids


class Captures:
    """Its one writer.

    Args:
        tell: has all workers hear what ``order_for`` says of them now.
        publish: takes the name of an event, and what it says.
        now, wall: seconds of a monotonic clock, and since 1970.
    """

    def __init__(
        self,
        tell: Callable[[Callable[[str], CaptureOrder]], Awaitable[None]],
        publish: Callable[..., object],
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._tell = tell
        self._publish = publish
        self._now = now
        self._wall = wall
        self._last: Capturing | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def present(self) -> Capturing | None:
        """What is captured now; None: nothing."""
        last = self._last
        return last if last is not None and self._now() < last.until else None

    def is_kept(self, model_id: str) -> bool:
        """Whether what that model was asked is kept, when a worker tells of it: what was said
        before the end may be told after it, not what was said before a stop."""
        return self._last is not None and self._last.wants(model_id)

    def seconds_left(self) -> float:
        """Until it ends; 0: it is off."""
        present = self.present
        return 0.0 if present is None else present.until - self._now()

    def order_for(self, model_id: str) -> CaptureOrder:
        """What the worker of that model, or provider, is to do."""
        present = self.present
        if present is None:
            return OFF
        if present.served_by is not None and model_id not in present.served_by:
            return OFF
        return CaptureOrder(present.until - self._now(), present.max_bytes)

    async def start(
        self, seconds: float, models: Collection[Model] | None, max_bytes: int
    ) -> Capturing:
        """Capture from now on what those models are asked, in place of what was captured before;
        workers know when it returns. ``models`` None: all."""
        chosen = None if models is None else frozenset(m.model_id for m in models)
        served = None if models is None else frozenset(m.served_by or m.model_id for m in models)
        until = self._now() + seconds
        self._stop_timer()
        self._last = last = Capturing(until, self._wall() + seconds, chosen, served, max_bytes)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._is_over)
        whose = "all models" if chosen is None else ", ".join(sorted(chosen))
        text = f"what {whose} are asked and answer is kept in memory for {seconds / 60:g} minutes"
        self._publish("capture-started", reason=text)
        await self._tell(self.order_for)
        return last

    async def stop(self, reason: str) -> bool:
        """Capture nothing any more; False: nothing was captured."""
        was_on = self.present is not None
        self._stop_timer()
        self._last = None
        if was_on:
            self._publish("capture-ended", reason=reason)
        await self._tell(self.order_for)
        return was_on

    def close(self) -> None:
        """The manager ends; its workers stop by themselves when the time is over."""
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_over(self) -> None:
        self._timer = None
        self._publish("capture-ended", reason="the time that was asked for is over")
