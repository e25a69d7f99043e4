"""PURE: how a replica looks at one moment, for everybody outside the core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelpool_client.wire import Facts, Progress

from modelpool.catalog.model import Model
from modelpool.pool.failures import FailureHistory
from modelpool.pool.replica import Replica, Run
from modelpool.pool.states import Lease, State
from modelpool.pool.wait_queue import Position
from modelpool.pool.worker import Worker

NO_RUN = Run("", None, Lease(None), 0.0)


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A snapshot; what its fields mean stands at ``Replica`` and ``Run``.

    Attributes:
        waiting_by_class: the requests among those who wait, by priority.
        waiting_since: when the first of those who wait came, on the pool's clock.
        worker_id: of the present worker; empty, as all that is particular to one, where there is
            none.
        started_with: the entry that the worker was started with; None where it was adopted.
        is_launching: its process is being started, and not yet written down.
        is_asleep: it is COLD, and its worker waits without the memory of its devices.
        start_seconds: that its worker took to load, or to wake up.
        asleep_since: on the pool's clock; known until it has woken up.
        cannot_sleep: why it is not put to sleep any more; empty where it may be.
        diagnosis: why its worker is to be replaced; empty if it is not.
        position: where it stands among those that wait for room; None where it does not.
    """

    key: str
    number: int
    model: Model
    state: State
    reason: str
    since: float
    generation: int
    waiting: int
    waiting_by_class: Mapping[str, int]
    waiting_since: float | None
    waiting_for: str
    keep_warm: bool
    failures: FailureHistory
    uses: int
    load_seconds: float | None
    is_leaving: bool
    is_open: bool
    is_busy: bool
    in_flight: int
    yields_to: str
    worker_id: str
    worker: Worker | None
    port: int | None
    lease: Lease
    started_with: Model | None
    facts: Facts | None
    progress: Progress | None
    granted: int
    limit: int | None
    last_used: float | None
    hot_since: float | None
    cooling_since: float
    is_launching: bool
    is_speculative: bool
    is_asleep: bool
    asleep_since: float | None
    start_seconds: float | None
    cannot_sleep: str
    diagnosis: str
    position: Position | None = None

    @property
    def core_state(self) -> State:
        """As the core calls it, which tells ASLEEP from COLD."""
        return State.ASLEEP if self.is_asleep else self.state

    @property
    def started_options(self) -> Mapping[str, Any] | None:
        """With which its worker was started; None where there is none, or a former manager did
        that."""
        return self.worker.options if self.worker is not None else None

    def __repr__(self) -> str:
        port = f" on {self.port}" if self.port else ""
        return f"<{self.key} {self.state}{port}: {self.reason}>"

    def describe_wait(self) -> str:
        """For whoever waits: what for, and how far it is."""
        if self.is_open:
            limit = f" of {self.limit}" if self.limit is not None else ""
            busy = f"{self.in_flight}{limit} requests in flight, {self.waiting} waiting"
            return f"{self.key} is {self.state}, {busy} for a place"
        if self.progress is None:
            at = self.position
            where = f" (number {at.position} of {at.length})" if at is not None else ""
            return f"{self.key} is {self.state}, waiting for {self.waiting_for}{where}"
        share = self.progress.fraction
        percent = "" if share is None else f" {share:.0%}"
        about = " (estimated)" if percent and self.progress.estimated else ""
        return f"{self.key} is {self.state}: {self.progress.stage}{percent}{about}"


def status_of(replica: Replica, position: Position | None = None) -> ReplicaStatus:
    """How it is now."""
    run, oldest = replica.run or NO_RUN, replica.waiters.oldest
    return ReplicaStatus(
        key=replica.key,
        number=replica.number,
        model=replica.model,
        state=replica.state.shown,
        reason=replica.reason,
        since=replica.since,
        generation=replica.generation,
        waiting=len(replica.waiters),
        waiting_by_class=replica.waiters.by_class,
        waiting_since=oldest.since if oldest is not None else None,
        waiting_for=replica.waiting_for,
        keep_warm=replica.keep_warm,
        failures=replica.failures,
        uses=replica.uses,
        load_seconds=replica.load_seconds,
        is_leaving=replica.is_leaving,
        is_open=replica.is_open,
        is_busy=run.is_busy,
        in_flight=run.in_flight,
        yields_to=run.yields_to,
        worker_id=run.worker_id,
        worker=run.worker,
        port=run.port,
        lease=run.lease,
        started_with=run.model,
        facts=run.facts,
        progress=run.progress,
        granted=run.granted,
        limit=run.limit,
        last_used=run.last_used,
        hot_since=run.hot_since,
        cooling_since=run.cooling_since,
        is_launching=run.is_launched and run.worker is None,
        is_speculative=run.is_speculative,
        is_asleep=replica.is_asleep,
        asleep_since=run.asleep_since,
        start_seconds=run.start_seconds,
        cannot_sleep=replica.cannot_sleep,
        diagnosis=run.verdict.message if run.verdict is not None else "",
        position=position,
    )
