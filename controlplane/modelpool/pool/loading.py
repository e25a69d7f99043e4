"""From the wish for a model to a worker that serves: admission, room, launch, ready, failure."""

from __future__ import annotations

import uuid
from abc import abstractmethod

from modelpool_client.errors import CannotFit, ModelPoolError, NoMemoryFree, NoPortFree
from modelpool_client.wire import Failure, Phase, Progress

from modelpool.catalog.learned import runs_alike
from modelpool.pool.admission import Refuse, Wait, amount
from modelpool.pool.crew import Burial, Worker
from modelpool.pool.failures import without_room
from modelpool.pool.lifecycle import Lease, State, Trigger
from modelpool.pool.needs import short_of
from modelpool.pool.serving import Serving
from modelpool.pool.waiters import Waiter

OOM = "oom"
# What other programs hold comes back without notice: so often it is worth to ask again.
HOST_RETRY_SECONDS = 10.0


class Loading(Serving):
    """The way up."""

    def acquire(self, waiter: Waiter) -> None:
        """A request, or with ``wants_grant`` off the wish to have it HOT."""
        self._post(self._on_acquire, waiter)

    def load(self, waiter: Waiter, reason: str, *, stay_up: bool = False) -> None:
        """An explicit load: from FAILED it does not wait for the cooling-off to be over."""
        self._post(self._on_load, waiter, reason, stay_up)

    def start_spare(self, reason: str) -> None:
        """Start into room that nobody has or waits for; else nothing happens."""
        self._post(self._on_start_spare, reason)

    def room_made(self, by: str) -> None:
        self._post(self._on_room_made, by)

    def room_denied(self, by: str) -> None:
        self._post(self._on_room_denied, by)

    def retry_admission(self) -> None:
        """Something changed in the pool; a queued start may be possible now."""
        self._post(self._on_retry_admission)

    def _on_load(self, waiter: Waiter, reason: str, stay_up: bool) -> None:
        if waiter.is_standing and any(w.is_standing for w in self.waiters):
            waiter.outcome.cancel()  # one wish for a load that nobody waits on is enough
            return
        if self.state is State.FAILED:
            self.trouble.retry_at = self._clock.now()
        self.stay_up = self.stay_up or stay_up
        waiter.why = reason
        self._on_acquire(waiter)

    def _start_if_wanted(self) -> None:
        """Level, not edge: whatever state it is in, start if someone waits and it may."""
        if not (self.stay_up or len(self.waiters)):
            self._leave_queue()
        elif self.may_start:
            self._try_start()

    def _leave_queue(self) -> None:
        if not self.state.has_worker:
            self.waiting_for = ""
        self._house.leave_queue(self)

    def _on_start_spare(self, reason: str) -> None:
        if self.may_start and self._house.admit_spare(self):
            self._begin((), reason)
            self.is_spare = self.state is State.WARMING

    def _try_start(self) -> None:
        plan = self._house.admit(self)
        if isinstance(plan, Refuse):
            self._refuse(plan)
        elif isinstance(plan, Wait):
            self.waiting_for = plan.why
            self._house.join_queue(self, plan.until)
        else:
            self._begin(plan.evict, self._why)

    @property
    def _why(self) -> str:
        """What a start is for: the one who has waited longest says it."""
        return next((w.why for w in self.waiters), "it is to stay up")

    def _begin(self, victims: tuple[str, ...], why: str) -> None:
        self.waiting_for = ""
        self.port = self._house.take_port(self, frozenset())
        if self.port is None and not victims:
            self._no_port()
            return
        self.launched = self.model
        self._began = self._clock.now()
        self._become(Trigger.START, f"loading: {why}")
        self._make_room(victims)
        # Only now: those that yield to it are asked to leave before they may serve again.
        self._house.leave_queue(self)

    def _no_port(self) -> None:
        self._house.take_back(self)  # nothing is free that was not before: nobody is told
        self.reason = "all worker ports are taken"
        self._not_now("a free port", _no_port_free())

    def _not_now(self, waiting_for: str, error: ModelPoolError) -> None:
        """It is nobody's failure: whoever asks is told, and a warm-up model waits for it."""
        self.waiters.fail_all(error)
        if self.stay_up:
            self.waiting_for = waiting_for
            self._house.join_queue(self, None)
        else:
            self._house.leave_queue(self)

    def _refuse(self, refusal: Refuse) -> None:
        name = self.model.model_id
        if self.fell_short is not None:
            self._try_as_before(refusal)
        elif refusal.is_passing:
            self.reason = f"refused for now: {refusal.why}"
            if not self.stay_up:
                self._house.emit("model-refused", self)
            text = f"{name} does not fit now: {refusal.text}"
            self._not_now(refusal.why, NoMemoryFree(text, retry_after=HOST_RETRY_SECONDS))
        else:
            self._house.leave_queue(self)
            self.stay_up = False
            self.reason = f"refused: {refusal.why}"
            self._house.emit("model-refused", self)
            self.waiters.fail_all(CannotFit(f"{name} can never fit: {refusal.text}"))

    def _try_as_before(self, refusal: Refuse) -> None:
        """It ran well with less before, or runs out of memory again and cools off."""
        self.fell_short = None
        text = f"there is no room for more than when it ran out of memory: {refusal.why}"
        self._house.emit("model-retrying", self, text)
        self._try_start()

    def _make_room(self, victims: tuple[str, ...]) -> None:
        self._room_from = set(victims)
        if victims:
            names = ", ".join(victims)
            self.progress = Progress(f"waiting for the memory of {names}", estimated=False)
            self.waiting_for = f"the memory of {names}"
            self._house.ask_to_leave(victims, self.key)
        else:
            self._launch()

    def _on_room_made(self, by: str) -> None:
        if by not in self._room_from:
            return
        self._room_from.discard(by)
        if not self._room_from and self.state is State.WARMING:
            self._launch()

    def _on_room_denied(self, by: str) -> None:
        if by not in self._room_from:
            return
        self._give_back()
        self._become(Trigger.ROOM_LOST, f"{by} is in use after all")
        self._start_if_wanted()

    def _on_retry_admission(self) -> None:
        self._start_if_wanted()

    def _launch(self) -> None:
        if self.port is None:  # it was to come from a victim, or a stranger had the last one
            self.port = self._house.take_port(self, self._ports_tried)
        self.worker_id = uuid.uuid4().hex
        self.waiting_for = "the load"
        self._progress_at = self._clock.now()
        self.progress = Progress("starting the worker", estimated=False)
        if self.port is None:
            self._fail_load(Failure("no_port_free", "all worker ports are taken"))
            return
        model = self.launched or self.model  # another entry may have come since room was made
        assignment = self._house.assignment(model, self.worker_id, self.port, self.lease.ttl)
        self._run(self._house.crew.launch(assignment), self._on_launched, self.worker_id)

    def _on_launched(self, worker_id: str, worker: Worker | Exception) -> None:
        assert worker_id == self.worker_id
        if isinstance(worker, Exception):
            failure = Failure("launch_failed", str(worker))
            if self.state is State.UNLOADING:
                self._on_retired(worker_id, Burial(None, failure))
            else:
                self._fail_load(failure)
            return
        self._employ(worker)
        if self.state is State.UNLOADING:
            self._retire(cut=True)
        self._ready_if_known()

    def _employ(self, worker: Worker) -> None:
        self.worker = worker
        self.port = worker.port
        self.generation = worker.record.epoch
        self.heard_at = self._clock.now()
        self._run(worker.process.wait(), self._on_exit, worker.worker_id)

    def _ready_if_known(self) -> None:
        """Its word and the news of its start may come in either order."""
        is_ready = self.facts is not None and self.facts.phase is Phase.READY
        if self.state is State.WARMING and self.worker and is_ready and not self._is_burying:
            self._on_ready()

    def _on_ready(self) -> None:
        now = self._clock.now()
        self.progress = None
        self.waiting_for = ""
        self.hot_since = now
        self.load_seconds = now - self._began
        self.lease = Lease(self._ttl())
        self._used(now)
        self.trouble.load_succeeded()
        self._become(Trigger.READY, "loaded")
        for waiter in self.waiters.take_all():
            self._grant(waiter, was_hot=False)
        self._house.changed()

    def _port_taken(self) -> None:
        assert self.port is not None
        self._house.emit("port-taken", self)
        self._ports_tried |= {self.port}
        self._house.port_is_strange(self, self.port)
        self.port = None
        self.worker = None
        self.facts = None
        self._is_looking = False
        self._launch()

    def _fail_load(self, failure: Failure) -> None:
        is_first = failure.code == OOM and self.fell_short is None
        held = amount(self._house.held(self))
        if is_first:
            self._set_more_aside(failure)
        self._give_back()
        if is_first:
            decision = self._house.plan_for(self)
            if not isinstance(decision, Refuse):
                self._try_with_more(held)
                return
            self.fell_short = None
            failure = without_room(failure, held, decision.text)
        self.trouble.load_failed(failure, self._clock.now(), self._clock.wall(), self._house.config)
        self._become(Trigger.LOAD_FAILED, f"the load failed ({failure.code}): {failure.message}")
        no_port = failure.code == NoPortFree.default_code
        self.waiters.fail_all(_no_port_free() if no_port else self._failed_error())
        self._answer_unloads("the load had failed")

    def _try_with_more(self, held: str) -> None:
        """Once; its options are its own, so what changes is the room that is made for it."""
        more = amount(self._house.need(self))
        text = f"out of memory with {held}; trying once more with {more} set aside"
        self._house.emit("model-retrying", self, text)
        self._become(Trigger.ROOM_LOST, text)
        self._start_if_wanted()

    def _set_more_aside(self, failure: Failure) -> None:
        """For the next start, after it ran out of memory; not for another entry's."""
        if self.fell_short is None and runs_alike(self.launched or self.model, self.model):
            self.fell_short = short_of(self._house.held(self), failure.message)

    def _give_back(self) -> None:
        """Port, bytes and count return to the ledger; whoever waits for them is told."""
        self._house.release(self)
        self.waiting_for = ""
        self._forget_worker()

    @abstractmethod
    def _retire(self, *, cut: bool) -> None:
        """End the worker process."""

    @abstractmethod
    def _on_retired(self, worker_id: str, burial: Burial | Exception) -> None:
        """The crew has ended it."""

    @abstractmethod
    def _gone(self, burial: Burial | Exception | None) -> None:
        """The worker process is gone."""

    @abstractmethod
    def _on_exit(self, worker_id: str, code: int | Exception | None) -> None:
        """The worker process ended."""

    @abstractmethod
    def _answer_unloads(self, text: str) -> None:
        """Whoever asked for an unload has it."""


def _no_port_free() -> NoPortFree:
    return NoPortFree("all worker ports are taken; unload a model", retry_after=10)
