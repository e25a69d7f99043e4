"""What a slot may ask of the pool around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from modelpool_client.wire import Assignment

from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.pool.admission import Need, Plan
from modelpool.pool.clock import Clock
from modelpool.pool.crew import Crew
from modelpool.pool.lifecycle import State
from modelpool.pool.queueing import Place

if TYPE_CHECKING:
    from modelpool.pool.replica import Replica


class House(Protocol):
    """The pool, as its slots see it. All of it is synchronous."""

    clock: Clock
    crew: Crew

    @property
    def config(self) -> PoolConfig: ...

    @property
    def is_stopping(self) -> bool: ...

    def admit(self, slot: Replica) -> Plan:
        """Plan, and when the plan is to start, reserve in the same step."""
        ...

    def admit_spare(self, slot: Replica) -> bool:
        """Reserve if there is room that nobody has or waits for."""
        ...

    def release(self, slot: Replica) -> None:
        """Bytes, count and port of the slot are free again."""
        ...

    def take_back(self, slot: Replica) -> None:
        """A reservation that was not used after all; unlike ``release`` this frees nothing new."""
        ...

    def join_queue(self, slot: Replica, until: float | None) -> None:
        """Try again when something changed, or at ``until``."""
        ...

    def leave_queue(self, slot: Replica) -> None: ...

    def plan_for(self, slot: Replica) -> Plan:
        """What a start would do right now; nothing is reserved."""
        ...

    def need(self, slot: Replica) -> Need:
        """What its start would reserve."""
        ...

    def held(self, slot: Replica) -> Need:
        """What it has reserved, or more where it took more."""
        ...

    def place(self, slot: Replica) -> Place | None:
        """Where it stands among those that wait for room; None if it does not."""
        ...

    def wait_seconds(self, slot: Replica) -> float:
        """About how long whoever asks for it now will wait; an estimate."""
        ...

    def ask_to_leave(self, keys: tuple[str, ...], on_behalf_of: str) -> None: ...

    def refused_to_leave(self, slot: Replica) -> None: ...

    def take_port(self, slot: Replica, avoid: frozenset[int]) -> int | None: ...

    def claim_port(self, slot: Replica, port: int) -> None: ...

    def port_is_strange(self, slot: Replica, port: int) -> None:
        """A stranger listens there."""
        ...

    def assignment(
        self, model: Model, worker_id: str, port: int, lease: float | None
    ) -> Assignment: ...

    def opened(self, slot: Replica) -> None:
        """It takes requests again; who waits for another copy of its model need not."""
        ...

    def keeps(self, slot: Replica) -> bool:
        """It is not to idle out, for its model wants that many copies while one is used."""
        ...

    def changed(self) -> None:
        """Somebody became idle or something was freed: queued starts are planned again, soon."""
        ...

    def moved(self, slot: Replica, previous: State) -> None:
        """The slot has a new state; tell the world."""
        ...

    def emit(self, event: str, slot: Replica, reason: str = "") -> None:
        """Something that is no change of state; without a reason of its own, the slot's."""
        ...

    def bug(self, error: Exception) -> None:
        """Something of ours is broken; make it visible."""
        ...
