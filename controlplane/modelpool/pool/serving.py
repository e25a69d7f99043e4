"""Use of a replica: requests come and go, the worker reports, the lease follows."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

from modelpool_client.errors import (
    Conflict,
    ModelNotFound,
    ModelPoolError,
    PoolStopping,
    QueueFull,
)
from modelpool_client.wire import Facts, Failure, Phase, Progress

from modelpool.catalog.learned import runs_alike
from modelpool.catalog.model import Model
from modelpool.pool.failures import load_error
from modelpool.pool.holding import Holding
from modelpool.pool.lifecycle import State, Trigger
from modelpool.pool.replica import Replica
from modelpool.pool.waiters import Grant, Waiter


class Serving(Replica):
    """Grants, facts and the lease."""

    def heard(self, facts: Facts) -> None:
        self._post(self._on_facts, facts)

    def extend(self, seconds: float) -> float:
        """Add to the lease; the seconds granted.

        Raises:
            Conflict: not loaded.
        """
        if not self.state.is_serving or self.is_leaving:
            raise Conflict(
                f"{self.model.model_id} is {self.state}; only a loaded model has a lease to extend",
                code="not_loaded",
            )
        granted: list[float] = []
        self._post(self._on_extend, seconds, granted)
        return granted[0]

    def replace_model(self, model: Model) -> None:
        """Another entry for the same id; its options count from the next load on."""
        self._post(self._on_replace_model, model)

    def config_changed(self) -> None:
        self._post(self._on_config_changed)

    def hold(self, for_whom: str) -> None:
        """Let new requests wait: one has waited for this one's room for too long."""
        self._post(self._on_hold, for_whom)

    def hand_over(self, to: Serving) -> None:
        """Another copy serves already: whoever waits for this one need not."""
        self._post(self._on_hand_over, to)

    def resume(self) -> None:
        """It need not yield any more."""
        self._post(self._on_resume)

    def _on_acquire(self, waiter: Waiter) -> None:
        if self._house.is_stopping:
            waiter.outcome.set_exception(PoolStopping("the pool is shutting down"))
        elif self.is_removed:
            waiter.outcome.set_exception(
                ModelNotFound(f"{self.model.model_id} was deleted", param="model")
            )
        elif self._may_grant(waiter):
            self._grant(waiter, was_hot=True)
        elif self._refuses_while_failed(waiter):
            waiter.outcome.set_exception(self._failed_error())
        elif len(self.waiters) >= self._house.config.max_waiting_requests:
            waiter.outcome.set_exception(self._queue_full())
        else:
            self.is_spare = False
            self.waiters.add(waiter)
            self._start_if_wanted()

    def _refuses_while_failed(self, waiter: Waiter) -> bool:
        if self.state is not State.FAILED or self._clock.now() >= self.trouble.retry_at:
            return False
        return self.trouble.is_given_up or not waiter.had_worker

    def _may_grant(self, waiter: Waiter) -> bool:
        return self.is_open or (
            not waiter.wants_grant and self.state.is_serving and not self.is_leaving
        )

    def _queue_full(self) -> ModelPoolError:
        return QueueFull(
            f"{len(self.waiters)} requests wait for {self.model.model_id} already, which is"
            f" {self.state}; try again later or raise max_waiting_requests",
            retry_after=self._house.wait_seconds(self),
        )

    def _on_hold(self, for_whom: str) -> None:
        is_able = self.state.is_serving and not self.is_leaving
        if self.yields_to or not is_able or self.holding.is_useless:
            return
        config = self._house.config
        # Those that it holds back are to be served before they give up.
        longest = config.load_wait_seconds / 2
        self.holding = self.holding.begun(
            self._clock.now(), config.graceful_shutdown_seconds, longest
        )
        self.yields_to = for_whom
        text = f"yields to {for_whom}, which has waited long: new requests wait, current ones end"
        self._house.emit("model-yielding", self, text)

    def _on_hand_over(self, to: Serving) -> None:
        if self.is_open or not to.is_open:
            return
        for waiter in self.waiters.take_all():
            to.acquire(waiter)

    def _on_hold_over(self) -> None:
        text = f"its current work did not end in time for {self.yields_to}: it serves again"
        self.holding = self.holding.over(self.granted, self.in_flight)
        self._house.emit("model-resuming", self, text)
        self._on_resume()
        self._house.changed()

    def _on_resume(self) -> None:
        self.yields_to = ""
        self.holding = self.holding.dropped()
        self._serve_waiters()

    def _serve_waiters(self) -> None:
        """Those that came while it took none, as far as it takes them now."""
        for waiter in self.waiters.take_all():
            if self._may_grant(waiter):
                self._grant(waiter, was_hot=True)
            else:
                self.waiters.add(waiter)
        if self.is_open:
            self._house.opened(self)

    def _failed_error(self) -> ModelPoolError:
        left = self.trouble.retry_at - self._clock.now()
        return load_error(self.model.model_id, self.trouble, left)

    def _grant(self, waiter: Waiter, *, was_hot: bool) -> None:
        if waiter.is_gone:
            return
        self.is_spare = False
        if self.state is State.COOLING:
            self._used(self._clock.now())
            self._become(Trigger.USED, "used while cooling")
        if not waiter.wants_grant:
            waiter.outcome.set_result(None)
            return
        assert self.worker is not None
        self.granted += 1
        grant = Grant(
            self.model.model_id,
            self.worker_id,
            self.worker.port,
            self.generation,
            was_hot,
            partial(self._release, self.holding.in_vain),
        )
        waiter.outcome.set_result(grant)

    def _release(self, given_after: int, worker_id: str) -> None:
        self._post(self._on_release, worker_id, given_after)

    def _on_release(self, worker_id: str, given_after: int) -> None:
        if worker_id != self.worker_id or self.granted == 0:
            return
        self.granted -= 1
        self._note_holding(self.holding.released(given_after))
        if self.granted == 0:
            self._used(self._clock.now())
            self._house.changed()

    def _note_holding(self, holding: Holding) -> None:
        was_useless, self.holding = self.holding.is_useless, holding
        if was_useless and not holding.is_useless:
            self._house.changed()  # it may be asked to yield again

    def _used(self, at: float) -> None:
        self.last_used = max(self.last_used or 0.0, at)
        self.lease = self.lease.used(at)

    def _on_facts(self, facts: Facts) -> None:
        if facts.worker_id != self.worker_id:
            return
        if self.facts is not None and facts.sequence <= self.facts.sequence:
            return
        self._count_uses(facts)
        was_busy, self.facts = self.is_busy, facts
        self.heard_at = self._clock.now()
        self._note_holding(self.holding.heard(self.granted, facts.in_flight))
        if facts.phase is Phase.LOADING:
            self._note_progress(facts.progress)
        elif facts.phase is Phase.FAILED:
            self._on_failed(facts.failure)
        elif facts.phase is Phase.READY:
            self._ready_if_known()
        elif facts.phase is Phase.DRAINING and self.state.is_serving and not self._draining_for:
            self._stop("the worker is draining by itself")
        self._note_use(facts)
        if was_busy and not self.is_busy:
            self._house.changed()

    def _count_uses(self, facts: Facts) -> None:
        if self.facts is None and self.launched is None:
            return  # adopted: its past is not of this moment
        before = self.facts.requests_total if self.facts is not None else 0
        if (uses := facts.requests_total - before) > 0:
            self.uses += uses
            self.rate = self.rate.used(uses, self._clock.now())

    def _note_use(self, facts: Facts) -> None:
        if not self.state.is_serving:
            return
        if facts.in_flight == 0 and facts.requests_total > 0:
            self._used(self._clock.now() - facts.idle_seconds)
        self.is_spare = self.is_spare and not (facts.in_flight or facts.requests_total)
        used = facts.in_flight > 0 or facts.requests_total > self._used_before_cooling
        if self.state is State.COOLING and used:
            self._become(Trigger.USED, "used while cooling, on the worker's own port")

    def _note_progress(self, progress: Progress | None) -> None:
        if progress is None or progress == self.progress:
            return
        before, self.progress = self.progress, progress
        if _reached(progress) == _reached(before):  # what is left is only estimated anew
            return
        self._progress_at = self._clock.now()
        self._house.emit("model-progress", self)

    def _on_failed(self, failure: Failure | None) -> None:
        """It will end; meanwhile nobody is sent to it."""
        if self._failed_at is None:
            self._failed_at = self._clock.now()
        self._verdict = failure

    def _on_replace_model(self, model: Model) -> None:
        if not runs_alike(self.model, model):
            self.fell_short = None
        self.model = model
        self._on_config_changed()

    def _on_config_changed(self) -> None:
        ttl = self._ttl()
        if ttl != self.lease.ttl:
            self.lease = self.lease.with_ttl(ttl, self.last_used or self._clock.now())
            left = self.lease.remaining(self._clock.now())
            if self.state is State.COOLING and not self.is_leaving and (left is None or left > 0):
                self._become(Trigger.USED, "its lease is longer now")
        self._house.changed()

    def _on_extend(self, seconds: float, granted: list[float]) -> None:
        longest = self._house.config.max_ttl_minutes * 60
        self.lease, added = self.lease.extended(seconds, self._clock.now(), longest)
        if self.state is State.COOLING:
            self._become(Trigger.USED, "lease extended while cooling")
        granted.append(added)

    @abstractmethod
    def acquire(self, waiter: Waiter) -> None:
        """A request, or with ``wants_grant`` off the wish to have it HOT."""

    @abstractmethod
    def _start_if_wanted(self) -> None:
        """Start if someone waits and it may."""

    @abstractmethod
    def _ready_if_known(self) -> None:
        """The worker says that it is ready."""

    @abstractmethod
    def _stop(self, reason: str, *, cut: bool = False) -> None:
        """End the worker."""


def _reached(progress: Progress | None) -> tuple[object, ...]:
    """How far a load is; the time that is left grows by itself while nothing moves."""
    if progress is None:
        return ()
    return progress.stage, progress.fraction, progress.bytes_done
