"""A slot is the one owner of a replica: state, lease, waiters, worker.

Everything that happens to it is a message, and nothing else writes its fields. The way up is in
``loading``, use and lease in ``replica``; here is the way down: unload, eviction, idleness, death.
News of a worker carry its id, so that news of a former one are recognised and dropped.
"""

from __future__ import annotations

import asyncio

from modelpool_client.errors import (
    LoadCancelled,
    ModelNotFound,
    ModelPoolError,
    PoolStopping,
    UnloadProtected,
)
from modelpool_client.wire import (
    WORKER_EXIT_PORT_TAKEN,
    DrainReply,
    DrainRequest,
    Facts,
    Failure,
    Phase,
)

from modelpool.pool.crew import Burial, Worker
from modelpool.pool.lifecycle import Lease, State, Trigger
from modelpool.pool.loading import OOM
from modelpool.pool.watching import Watching


class Slot(Watching):
    """One replica of one model."""

    def unload(self, reason: str, *, force: bool = False, cut: bool = False) -> asyncio.Future[str]:
        """``force`` overrules warm-up and pins, ``cut`` ends current work. Resolves when COLD."""
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._post(self._on_unload, reason, force, cut, done)
        return done

    def remove(self, reason: str) -> asyncio.Future[str]:
        """The model was deleted: end it, answer whoever waits."""
        self._post(self._on_removed)
        return self.unload(reason, force=True)

    def let_go(self, reason: str) -> None:
        """Go if idle."""
        self._post(self._on_let_go, reason)

    def evict(self, on_behalf_of: str) -> None:
        """Go if idle, to make room."""
        self._post(self._on_evict, on_behalf_of)

    def adopt(self, worker: Worker, facts: Facts) -> None:
        """Take over a worker that a former manager started."""
        self._post(self._on_adopt, worker, facts)

    def _on_adopt(self, worker: Worker, facts: Facts) -> None:
        self._house.claim_port(self, worker.port)
        self.worker_id = worker.worker_id
        self.stay_up = self.model.warmup
        self._began = self._clock.now()
        self._employ(worker)
        if facts.phase is Phase.LOADING:
            self._progress_at = self._clock.now()
            self._become(Trigger.ADOPT_LOADING, "adopted while loading")
        elif facts.phase is Phase.READY:
            self.hot_since = self._clock.now()
            self.lease = Lease(self._ttl())
            self._used(self._clock.now() - facts.idle_seconds)
            self.lease = self.lease.at_least(facts.lease_left_seconds, self._clock.now())
            self._become(Trigger.ADOPT_READY, "adopted from a former manager")
        else:
            self._become(Trigger.ADOPT_DRAINING, "adopted while draining")
            self._retire(cut=False, told=True)
        self._on_facts(facts)

    def _on_removed(self) -> None:
        self.is_removed = True

    def _on_unload(self, reason: str, force: bool, cut: bool, done: asyncio.Future[str]) -> None:
        kept = "pinned" if self.model.pinned else "a warm-up model" if self.model.warmup else ""
        if kept and not force:
            text = f"{self.model.model_id} is {kept}; unload it with force"
            done.set_exception(UnloadProtected(text, param="force"))
            return
        self.stay_up = False
        if self.state is not State.UNLOADING or self._house.is_stopping:
            self.waiters.fail_all(self._cancelled(reason))
        self._unloads.append(done)
        self._house.leave_queue(self)
        if self.state is State.COLD:
            self._answer_unloads("it was not loaded")
        elif self.state is State.FAILED:
            self._become(Trigger.CLEAR, reason)
            self._answer_unloads("the failure was cleared")
        elif self.state is State.UNLOADING:
            self._cut_short(cut)
        else:
            self._stop(reason, cut=cut or self.state is State.WARMING)

    def _cancelled(self, reason: str) -> ModelPoolError:
        if self.is_removed:
            return ModelNotFound(f"{self.model.model_id} was deleted", param="model")
        if self._house.is_stopping:
            return PoolStopping("the pool is shutting down")
        return LoadCancelled(
            f"the load of {self.model.model_id} was cancelled: {reason}", retry_after=1
        )

    def _cut_short(self, cut: bool) -> None:
        if cut and not self._is_cut and self.worker is not None:
            self._is_cut = True
            self._run(self._house.crew.cut(self.worker), self._on_cut, self.worker_id)

    def _on_cut(self, worker_id: str, failure: Exception | None) -> None:
        """What follows comes from its end."""
        if failure is not None:
            self._house.bug(failure)

    def _stop(self, reason: str, *, cut: bool = False) -> None:
        self._draining_for = ""
        self.yields_to = ""
        self._become(Trigger.STOP, reason)
        if self.worker is not None:
            drains = self.facts is not None and self.facts.phase is Phase.DRAINING
            self._retire(cut=cut, told=drains)
        elif not self.worker_id:  # it was still waiting for room: there is no process to end
            self._gone(None)

    def _retire(self, *, cut: bool, told: bool = False) -> None:
        assert self.worker is not None
        self._is_cut = cut
        grace = self._house.config.graceful_shutdown_seconds
        work = self._house.crew.retire(self.worker, cut=cut, grace=grace, told=told)
        self._run(work, self._on_retired, self.worker_id)

    def _on_retired(self, worker_id: str, burial: Burial | Exception) -> None:
        if worker_id == self.worker_id:
            self._gone(burial)

    def _gone(self, burial: Burial | Exception | None) -> None:
        if isinstance(burial, Exception):
            self._house.bug(burial)
        elif burial is not None and not burial.back:
            self._house.emit("memory-not-back", self, "some of its processes would not end")
        self._give_back()
        self._become(Trigger.STOPPED, self.reason)
        self._answer_unloads(self.reason)
        if self.is_removed:
            self.waiters.fail_all(self._cancelled("deleted"))
        self._start_if_wanted()

    def _answer_unloads(self, text: str) -> None:
        answered, self._unloads = self._unloads, []
        for done in answered:
            if not done.done():
                done.set_result(text)

    def _on_evict(self, on_behalf_of: str) -> None:
        if self.is_leaving:  # the end of it will be heard
            return
        reason = f"evicted to make room for {on_behalf_of}"
        if self.is_mere_guess:
            self._cut_load(reason)
        elif not self.state.is_serving or self.is_busy or self.model.pinned:
            self._house.refused_to_leave(self)
        else:
            self._ask_to_drain(reason, 0.0)

    def _cut_load(self, reason: str) -> None:
        self._stop(reason, cut=True)
        self._note_eviction(reason)

    def _on_let_go(self, reason: str) -> None:
        if self.is_mere_guess:
            self._cut_load(reason)
        elif self.state.is_serving and not self.is_leaving and not self.is_busy:
            self._ask_to_drain(reason, 0.0)

    def _ask_to_drain(self, reason: str, if_idle_for: float) -> None:
        """The worker alone knows of requests made straight to its port, so it decides."""
        assert self.worker is not None
        self._draining_for = reason
        request = DrainRequest(if_idle_for, reason)
        self._run(self._house.crew.drain(self.worker, request), self._on_drained, self.worker_id)

    def _on_drained(self, worker_id: str, reply: DrainReply | Exception | None) -> None:
        if worker_id != self.worker_id or not self._draining_for:
            return
        reason, self._draining_for = self._draining_for, ""
        if isinstance(reply, DrainReply) and not reply.drained:
            self._stays(reply.facts)
        elif isinstance(reply, DrainReply):
            self._stop(reason)
        else:
            self._stop(f"{reason}; the worker did not answer when asked to drain")
        self._note_eviction(reason)

    def _note_eviction(self, reason: str) -> None:
        if reason.startswith("evicted") and self.state is State.UNLOADING:
            self.stay_up = False  # or two warm-up models in the room of one would take turns
            self._house.emit("model-evicted", self)

    def _stays(self, facts: Facts) -> None:
        self._on_facts(facts)
        self._house.refused_to_leave(self)
        if self.is_leaving:  # it says that it has failed
            return
        if self.state is State.COOLING:
            self._become(Trigger.USED, "used while cooling")
        self._serve_waiters()

    def _on_exit(self, worker_id: str, code: int | Exception | None) -> None:
        if worker_id != self.worker_id or self.state is State.UNLOADING:
            return
        self._bury(code if isinstance(code, int) else None)

    def _bury(self, code: int | None, *, killed: bool = False) -> None:
        assert self.worker is not None
        if not self._is_burying:
            self._is_burying = True
            work = self._house.crew.bury(self.worker, code, killed=killed)
            self._run(work, self._on_buried, self.worker_id)

    def _on_buried(self, worker_id: str, burial: Burial | Exception) -> None:
        if worker_id != self.worker_id or self.state is State.UNLOADING:
            return
        self._is_burying = False
        if isinstance(burial, Exception):
            self._house.bug(burial)
            burial = Burial(None, None)
        if not burial.back:
            self._house.emit("memory-not-back", self, "some of its processes would not end")
        if self.state is State.WARMING and burial.exit_code == WORKER_EXIT_PORT_TAKEN:
            self._port_taken()
        elif self.state is State.WARMING:
            self._fail_load(self._verdict or self.trouble.explain(burial))
        elif self._verdict is not None:
            self._died(self._verdict)
        elif burial.exit_code == 0 and not self._should_have_stayed:
            # It may have drained as we asked, and ended before its answer was read.
            reason = self._draining_for or "the worker ended by itself"
            self._become(Trigger.STOP, reason)
            self._note_eviction(reason)
            self._gone(None)
        else:
            self._died(self.trouble.explain(burial))

    @property
    def _should_have_stayed(self) -> bool:
        """Nobody asked it to end, and it would be started again at once, over and over."""
        return self.stay_up and not self._draining_for

    def _died(self, failure: Failure) -> None:
        now = self._clock.now()
        self.trouble.died(failure, now, self._clock.wall(), self._house.config)
        if failure.code == OOM:
            self._set_more_aside(failure)
        self._draining_for = self.yields_to = ""
        self.stay_up = self.stay_up or (self.model.warmup and not self._unloads)
        self._give_back()
        assert self.trouble.failure is not None
        self._become(Trigger.DIED, self.trouble.failure.message)
        if self.trouble.is_given_up:  # those who wait would wait for nothing
            self.waiters.fail_all(self._failed_error())
        self._answer_unloads("it had died")
        self._start_if_wanted()  # with no back-off there is nothing to wait for
