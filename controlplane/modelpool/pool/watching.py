"""What is due by itself: the end of lease and grace, stalled loads, and workers gone quiet."""

from __future__ import annotations

from abc import abstractmethod

from modelpool_client.wire import Failure, Phase

from modelpool.pool.health import FAREWELL_SECONDS, Look, Vitals, diagnosis, progress_at
from modelpool.pool.lifecycle import State, Trigger
from modelpool.pool.loading import Loading
from modelpool.pool.waiters import Waiter


class Watching(Loading):
    """Deadlines are looked at as levels: whatever is over is acted on, whenever that is noticed."""

    def _next_deadline(self) -> float | None:
        """When something is due by itself; the alarm may ring early, never late."""
        times = (self._retry_due(), self._hold_due(), self._idle_due(), self._look_due())
        return min((t for t in times if t is not None), default=None)

    def _on_time(self) -> None:
        if self.state is State.FAILED:
            self._start_if_wanted()
            return
        now = self._clock.now()
        if (due := self._hold_due()) is not None and now >= due:
            self._on_hold_over()
        if (due := self._look_due()) is not None and now >= due:
            self._look_at_worker()
        if (due := self._idle_due()) is not None and now >= due:
            self._on_idle()

    def _retry_due(self) -> float | None:
        if self.state is not State.FAILED:
            return None
        is_wanted = self.stay_up or len(self.waiters) > 0
        cools_off = self._clock.now() < self.trouble.retry_at  # else the queue has it
        return self.trouble.retry_at if is_wanted and cools_off else None

    def _hold_due(self) -> float | None:
        return self.holding.until if self.yields_to and not self.is_leaving else None

    # -- loads that nobody waits on ----------------------------------------------------------------

    def give_up(self, waiter: Waiter, seconds: float) -> None:
        """A load that could not begin within ``seconds`` is not kept in mind for ever."""
        self._post(self._on_give_up, waiter, seconds)

    def _on_give_up(self, waiter: Waiter, seconds: float) -> None:
        if waiter.is_gone:
            return
        waiter.outcome.cancel()
        if not (self.stay_up or len(self.waiters) or self.state is State.WARMING):
            what = self.waiting_for or self.reason
            self._house.emit("load-given-up", self, f"waited {seconds:.0f} s in vain: {what}")
        self._house.changed()

    # -- idleness --------------------------------------------------------------------------------

    def _idle_due(self) -> float | None:
        if self.is_leaving or self.is_busy or not self._may_idle_out():
            return None
        if self.state is State.HOT:
            return None if self._house.keeps(self) else self.lease.until
        if self.state is State.COOLING:
            return self._cooling_since + self._house.config.grace_minutes * 60
        return None

    def _on_idle(self) -> None:
        now = self._clock.now()
        if self.state is State.HOT:
            assert self.facts is not None
            self._cooling_since = now
            self._used_before_cooling = self.facts.requests_total
            self._become(Trigger.LEASE_OVER, "idle until the lease was over")
        else:
            idle = now - self._cooling_since
            self._ask_to_drain("idle: the lease and the grace period are over", idle)

    # -- health ----------------------------------------------------------------------------------

    def _look_due(self) -> float | None:
        """When the worker must be asked how it is, unless it is heard of before."""
        is_watched = self.state.is_serving or self.state is State.WARMING
        if self.worker is None or not is_watched or self._is_looking:
            return None
        if self._ends_in_time:
            return None
        config, facts = self._house.config, self.facts
        due = Vitals(self.heard_at, config.beat_seconds, self._worked_at()).due(config.hang_seconds)
        is_loading = facts is None or facts.phase is Phase.LOADING
        stall = self._progress_at + config.load_stall_seconds
        if self.state is State.WARMING and is_loading:
            due = min(due, stall)
        if self._failed_at is not None:
            due = min(due, self._failed_at + FAREWELL_SECONDS)
        return max(due, self._looked_at + min(config.beat_seconds, config.hang_seconds))

    def _worked_at(self) -> float | None:
        """When the engine last gave something for the work that it owes; None if it owes none."""
        if self.facts is None:
            return None
        at = progress_at(self.facts, self.heard_at, self._house.config.hang_seconds)
        return None if at is None else max(at, self._looked_at)

    @property
    def _ends_in_time(self) -> bool:
        """Its end is under way, and has a limit of its own."""
        says_so_itself = self._failed_at is not None and not self._draining_for
        return self._is_burying or (self.is_leaving and not says_so_itself)

    def _look_at_worker(self) -> None:
        assert self.worker is not None
        self._is_looking = True
        self._look_began = self._clock.now()
        work = self._house.crew.look(self.worker, self._house.config.hang_seconds)
        self._run(work, self._on_looked, self.worker_id)

    def _on_looked(self, worker_id: str, look: Look | Exception) -> None:
        if worker_id != self.worker_id:
            return
        self._is_looking = False
        self._looked_at = self._clock.now()
        if isinstance(look, Exception):  # it was us who could not ask
            self._house.bug(look)
            return
        if look.facts is not None:
            self._on_facts(look.probe.facts if look.probe is not None else look.facts)
        elif self.heard_at > self._look_began:  # it spoke up meanwhile
            return
        if self._ends_in_time or worker_id != self.worker_id:
            return
        if why := diagnosis(look, self._house.config.hang_seconds):
            self._replace(Failure("worker_hung", why))
        elif self.state is State.WARMING and self._has_stalled():
            seconds = self._house.config.load_stall_seconds
            self._replace(Failure("timeout", f"no progress for {seconds:.0f} s"))
        elif self._lingers():
            said = self._verdict or Failure("worker_failed", "the worker failed")
            self._replace(Failure(said.code, f"{said.message}; it did not end by itself"))

    def _lingers(self) -> bool:
        """It has said that it failed, and stays."""
        failed_at = self._failed_at
        return failed_at is not None and self._clock.now() >= failed_at + FAREWELL_SECONDS

    def _has_stalled(self) -> bool:
        return self._clock.now() >= self._progress_at + self._house.config.load_stall_seconds

    def _replace(self, failure: Failure) -> None:
        """End a worker that will not end by itself; what follows is what follows a death."""
        assert self.worker is not None
        lines = self.trouble.last_lines(self.worker)
        self._verdict = Failure(failure.code, failure.message, lines)
        self._house.emit("worker-replaced", self, failure.message)
        self._bury(None, killed=True)

    @abstractmethod
    def _bury(self, code: int | None, *, killed: bool = False) -> None:
        """End what is left of the worker and read its last words."""

    @abstractmethod
    def _ask_to_drain(self, reason: str, if_idle_for: float) -> None:
        """Ask the worker whether it can go."""
