"""PURE: the table *state x message -> state, commands*, made by asking ``decide`` itself.

``python -m modelpool.pool.decide`` prints it, the documents have it, and a test walks every pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from modelpool_client.wire import DrainReply, Facts, Failure, Phase

from modelpool.catalog.database import WorkerRow
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.pool import messages as m
from modelpool.pool.admission import Refuse, Requirements, Start, Wait
from modelpool.pool.commands import Command, Publish
from modelpool.pool.context import Context
from modelpool.pool.decide import decide
from modelpool.pool.failures import FailureHistory
from modelpool.pool.health import HealthReport
from modelpool.pool.replica import Replica, Run
from modelpool.pool.states import Lease, State
from modelpool.pool.waiters import UNUSED, USED, Outcome, Waiter
from modelpool.pool.worker import ExitReport, Worker

NOW = 1000.0
TTL = 900.0
PORT = 8051
HELD = Requirements("m", 100)
FAILURE = Failure("worker_died", "died")


class NoOutcome:
    """Of somebody who never looks."""

    def done(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...

    def cancel(self) -> bool:
        return True


@dataclass(frozen=True)
class Situation:
    """A state, and what else of it makes a difference. ``make`` gives a fresh replica in it."""

    state: State
    detail: str
    make: Callable[[], Replica]


@dataclass(frozen=True)
class Kind:
    """A message, and what of it makes a difference. ``make`` gives one for a replica, or None
    where there can be none."""

    message: type
    detail: str
    make: Callable[[Replica], m.Message | None]


@dataclass(frozen=True)
class Row:
    """What follows. ``commands`` are their names, an event's with a colon."""

    situation: Situation
    kind: Kind
    state: State
    commands: tuple[str, ...]


def context(now: float = NOW) -> Context:
    """The default settings, at that time."""
    return Context(now, 1.8e9 + now, PoolConfig.model_validate({}), is_stopping=False)


def facts(phase: Phase = Phase.READY, *, in_flight: int = 0, total: int = 1) -> Facts:
    """What a worker reports; the newest of all."""
    level = int(phase in (Phase.FALLING_ASLEEP, Phase.ASLEEP))
    return Facts(
        *("w", "p", 1, 10, phase, PORT, 7),
        in_flight=in_flight,
        requests_total=total,
        sleep_level=level,
    )


def waiter(*, wants_grant: bool = True) -> Waiter:
    """A request, or a load."""
    return Waiter(NoOutcome(), wants_grant, since=NOW)


def worker() -> Worker:
    """A handle that nothing is asked of."""
    return Worker(WorkerRow("w", "p", "m", 1, PORT, "secret"), cast("Any", None))


def _cold() -> Replica:
    return Replica(Model(model_id="m", engine="sim", source=""))


def _failed(retry_at: float) -> Replica:
    replica = _cold()
    replica.state = State.FAILED
    replica.failures = FailureHistory(FAILURE, NOW, retry_at)
    return replica


def _with_room_to_come() -> Replica:
    replica = _cold()
    replica.state = State.WARMING
    replica.run = Run("w", None, Lease(TTL), NOW, replica.model, victims={"other"})
    return replica


def _with_worker(state: State, **fields: Any) -> Replica:
    replica = _cold()
    replica.state = state
    run = Run("w", PORT, Lease(TTL, NOW + TTL), NOW - 10, replica.model, is_launched=True)
    run.worker = worker()
    run.heard_at = run.check_began = run.progress_at = run.cooling_since = NOW
    is_loading = state is State.WARMING
    phase, requests = (Phase.LOADING, 0) if is_loading else (Phase.READY, 1)
    run.facts = Facts("w", "p", 1, 1, phase, PORT, 7, requests_total=requests)
    run.requests_before_cooling = requests
    if not is_loading:
        run.hot_since = NOW - 5
    run.is_checking = True
    for name, value in fields.items():
        setattr(run, name, value)
    replica.run = run
    return replica


def _sleeper(state: State, phase: Phase, **fields: Any) -> Replica:
    """Of an engine that can sleep."""
    asleep_since = None if phase is Phase.READY else NOW
    replica = _with_worker(state, **{"asleep_since": asleep_since} | fields)
    run = replica.run
    assert run is not None
    assert run.facts is not None
    run.facts = replace(run.facts, phase=phase, sleep_level=1)
    run.hot_since = NOW - 5 if state.is_serving else None
    return replica


def _asleep(**fields: Any) -> Replica:
    return _sleeper(State.ASLEEP, Phase.ASLEEP, **fields)


def _asleep_and_awaited() -> Replica:
    replica = _asleep()
    replica.waiters.add(waiter())
    return replica


def _launching() -> Replica:
    return _with_worker(State.WARMING, worker=None, facts=None)


def _awaited() -> Replica:
    replica = _with_worker(State.WARMING)
    replica.waiters.add(waiter())
    return replica


def _full(state: State) -> Replica:
    replica = _with_worker(state, granted=1, limit=1, limit_basis=(1, None))
    replica.model = replace(replica.model, concurrency_limit=1)
    replica.waiters.add(waiter())
    return replica


def _reaping(state: State) -> Replica:
    return _with_worker(state, is_reaping=True)


SITUATIONS: tuple[Situation, ...] = (
    Situation(State.COLD, "", _cold),
    Situation(State.WARMING, "waits for room", _with_room_to_come),
    Situation(State.WARMING, "is launched", _launching),
    Situation(State.WARMING, "comes up", lambda: _with_worker(State.WARMING, facts=None)),
    Situation(State.WARMING, "loads", lambda: _with_worker(State.WARMING)),
    Situation(State.WARMING, "loads and is awaited", _awaited),
    Situation(State.WARMING, "has a worker that died", lambda: _reaping(State.WARMING)),
    Situation(
        State.WARMING,
        "waits for room to wake up",
        lambda: _sleeper(State.WARMING, Phase.ASLEEP, is_waking=True, victims={"other"}),
    ),
    Situation(
        State.WARMING,
        "wakes up",
        lambda: _sleeper(State.WARMING, Phase.LOADING, is_waking=True),
    ),
    Situation(
        State.WARMING,
        "has a worker that died when it was to wake up",
        lambda: _sleeper(State.WARMING, Phase.LOADING, is_waking=True, is_reaping=True),
    ),
    Situation(State.HOT, "is idle", lambda: _with_worker(State.HOT)),
    Situation(State.HOT, "is in use", lambda: _with_worker(State.HOT, granted=1)),
    Situation(State.HOT, "has no place for who waits", lambda: _full(State.HOT)),
    Situation(
        State.HOT,
        "has a lease that is over",
        lambda: _with_worker(State.HOT, lease=Lease(TTL, NOW)),
    ),
    Situation(
        State.HOT, "was asked to drain", lambda: _with_worker(State.HOT, drain_reason="idle")
    ),
    Situation(State.HOT, "has a worker that died", lambda: _reaping(State.HOT)),
    Situation(State.COOLING, "is idle", lambda: _with_worker(State.COOLING)),
    Situation(State.COOLING, "is in use", lambda: _with_worker(State.COOLING, granted=1)),
    Situation(
        State.COOLING,
        "has a grace period that is over",
        lambda: _with_worker(State.COOLING, cooling_since=NOW - 120),
    ),
    Situation(
        State.COOLING,
        "was asked to drain",
        lambda: _with_worker(State.COOLING, drain_reason="idle"),
    ),
    Situation(
        State.COOLING,
        "has a grace period that is over, and can sleep",
        lambda: _sleeper(State.COOLING, Phase.READY, cooling_since=NOW - 120),
    ),
    Situation(
        State.COOLING,
        "was asked to sleep",
        lambda: _sleeper(State.COOLING, Phase.READY, drain_reason="idle", is_asked_to_sleep=True),
    ),
    Situation(State.UNLOADING, "ends", lambda: _with_worker(State.UNLOADING)),
    Situation(
        State.UNLOADING,
        "falls asleep",
        lambda: _sleeper(
            State.UNLOADING, Phase.FALLING_ASLEEP, falls_asleep_by=NOW + 300, asleep_since=None
        ),
    ),
    Situation(
        State.UNLOADING,
        "does not fall asleep",
        lambda: _sleeper(
            State.UNLOADING, Phase.FALLING_ASLEEP, falls_asleep_by=NOW, asleep_since=None
        ),
    ),
    Situation(State.ASLEEP, "may sleep on", _asleep),
    Situation(State.ASLEEP, "is awaited", _asleep_and_awaited),
    Situation(State.ASLEEP, "has slept for long enough", lambda: _asleep(asleep_since=NOW - 3600)),
    Situation(State.ASLEEP, "has a worker that died", lambda: _asleep(is_reaping=True)),
    Situation(State.FAILED, "backs off", lambda: _failed(NOW + 10)),
    Situation(State.FAILED, "may be tried again", lambda: _failed(NOW)),
)


def _always(message: type, make: Callable[[], m.Message], detail: str = "") -> Kind:
    return Kind(message, detail, lambda replica: make())


def _of_run(message: type, make: Callable[[Run], m.Message], detail: str = "") -> Kind:
    return Kind(message, detail, lambda r: make(r.run) if r.run is not None else None)


def _reports(phase: Phase, detail: str, **fields: int) -> Kind:
    return _of_run(m.Reported, lambda run: m.Reported(run, facts(phase, **fields)), detail)


def _reaped(code: int, detail: str, failure: str = "worker_died") -> Kind:
    report = ExitReport(code, Failure(failure, "died"))
    return _of_run(m.Reaped, lambda run: m.Reaped(run, report, HELD), detail)


def _outcome() -> Outcome:
    return NoOutcome()


KINDS: tuple[Kind, ...] = (
    _always(m.Acquire, lambda: m.Acquire(waiter())),
    Kind(
        m.Withdraw,
        "",
        lambda r: m.Withdraw(next(iter(r.waiters))) if len(r.waiters) else None,
    ),
    _always(m.Load, lambda: m.Load(waiter(wants_grant=False))),
    Kind(
        m.AbandonLoad,
        "",
        lambda r: m.AbandonLoad(next(iter(r.waiters)), 300) if len(r.waiters) else None,
    ),
    _always(m.LoadSpeculatively, lambda: m.LoadSpeculatively("preloaded")),
    _always(m.RefuseLoad, lambda: m.RefuseLoad("its file is missing")),
    _always(m.Extend, lambda: m.Extend(60, _outcome())),
    _always(m.Unload, lambda: m.Unload("asked", False, False, _outcome())),
    _always(m.Unload, lambda: m.Unload("asked", True, True, _outcome()), "by force"),
    _always(m.Delete, m.Delete),
    _always(m.Evict, lambda: m.Evict("other")),
    _always(m.Evict, lambda: m.Evict("other", may_sleep=True), "may sleep"),
    _always(m.Restart, lambda: m.Restart("it fails")),
    _always(m.StopIfIdle, lambda: m.StopIfIdle("scaled down")),
    _always(m.Yield, lambda: m.Yield("other")),
    _always(m.Resume, m.Resume),
    _always(m.HandOver, lambda: m.HandOver(1)),
    Kind(m.ReplaceModel, "", lambda r: m.ReplaceModel(r.model)),
    _always(m.ConfigChanged, m.ConfigChanged),
    _always(m.Tick, m.Tick),
    _always(m.RetryAdmission, m.RetryAdmission),
    _always(m.RoomFreed, lambda: m.RoomFreed("other")),
    _always(m.RoomDenied, lambda: m.RoomDenied("other")),
    _always(m.Admitted, lambda: m.Admitted(Start(), "asked", "w2", PORT), "start"),
    _always(
        m.Admitted, lambda: m.Admitted(Start(("other",)), "asked", "w2"), "start after an eviction"
    ),
    _always(m.Admitted, lambda: m.Admitted(Wait(("other",), "busy"), "asked"), "wait"),
    _always(m.Admitted, lambda: m.Admitted(Refuse("too large"), "asked"), "refuse"),
    _of_run(m.PortAssigned, lambda run: m.PortAssigned(run, PORT, "w2")),
    _of_run(m.PortAssigned, lambda run: m.PortAssigned(run, None, "w2"), "none is free"),
    _of_run(
        m.RetryPlanned,
        lambda run: m.RetryPlanned(run, Start(), HELD, Failure("oom", "out of memory"), HELD),
    ),
    _always(m.Adopt, lambda: m.Adopt(worker(), facts(Phase.LOADING)), "loading"),
    _always(m.Adopt, lambda: m.Adopt(worker(), facts()), "ready"),
    _always(m.Adopt, lambda: m.Adopt(worker(), facts(Phase.DRAINING)), "draining"),
    _always(m.Adopt, lambda: m.Adopt(worker(), facts(Phase.FALLING_ASLEEP)), "falling asleep"),
    _always(m.Adopt, lambda: m.Adopt(worker(), facts(Phase.ASLEEP)), "asleep"),
    _of_run(m.Launched, lambda run: m.Launched(run, worker())),
    _of_run(m.Launched, lambda run: m.Launched(run, OSError("no program")), "failed"),
    _reports(Phase.LOADING, "loading"),
    _reports(Phase.READY, "ready, idle"),
    _reports(Phase.READY, "ready, in use", in_flight=1, total=2),
    _reports(Phase.DRAINING, "draining"),
    _reports(Phase.FAILED, "failed"),
    _reports(Phase.FALLING_ASLEEP, "falling asleep"),
    _reports(Phase.ASLEEP, "asleep"),
    _of_run(m.RequestEnded, lambda run: m.RequestEnded(run, 0, 1, USED), "served"),
    _of_run(m.RequestEnded, lambda run: m.RequestEnded(run, 0, 1, UNUSED), "refused"),
    _of_run(m.Drained, lambda run: m.Drained(run, DrainReply(True, facts())), "it drains"),
    _of_run(
        m.Drained,
        lambda run: m.Drained(run, DrainReply(False, facts(in_flight=1))),
        "it is in use",
    ),
    _of_run(m.Drained, lambda run: m.Drained(run, None), "no answer"),
    _of_run(m.SleepPlanned, lambda run: m.SleepPlanned(run, 120), "there is room"),
    _of_run(m.SleepPlanned, lambda run: m.SleepPlanned(run, 120, "no room"), "there is none"),
    _of_run(m.Woken, lambda run: m.Woken(run, facts(Phase.LOADING)), "it wakes up"),
    _of_run(m.Woken, lambda run: m.Woken(run, None), "no answer"),
    _of_run(m.HealthChecked, lambda run: m.HealthChecked(run, HealthReport(facts())), "well"),
    _of_run(m.HealthChecked, lambda run: m.HealthChecked(run, HealthReport(None)), "silent"),
    _of_run(m.Exited, lambda run: m.Exited(run, 0)),
    _reaped(0, "exit code 0"),
    _reaped(-9, "killed"),
    _reaped(5, "port taken"),
    _reaped(3, "out of memory", "oom"),
    _of_run(m.Terminated, lambda run: m.Terminated(run, ExitReport(0, None))),
    _of_run(m.WorkCut, lambda run: m.WorkCut(run, None)),
)


def row(situation: Situation, kind: Kind) -> Row | None:
    """None where there can be no such message."""
    replica = situation.make()
    message = kind.make(replica)
    if message is None:
        return None
    commands = decide(replica, message, context())
    return Row(situation, kind, replica.state, tuple(map(name_of, commands)))


def name_of(command: Command) -> str:
    """Its type; of an event its name, or that of the new state."""
    if isinstance(command, Publish):
        return f"Publish:{command.name or command.status.core_state}"
    return type(command).__name__


def rows() -> Iterator[Row]:
    """Every pair in which something happens."""
    for situation in SITUATIONS:
        for kind in KINDS:
            found = row(situation, kind)
            if found is not None and (found.commands or found.state is not situation.state):
                yield found


def markdown() -> Iterator[str]:
    """The table, a part for each state; situations in which the same follows share a line."""
    for state in State:
        yield f"\n#### {state}\n"
        yield "| message | when it | to | commands |\n|---|---|---|---|"
        lines: dict[tuple[str, str, str], list[str]] = {}
        for each in rows():
            if each.situation.state is state:
                to = each.state if each.state is not state else ""
                key = (_title(each.kind), to, ", ".join(each.commands))
                lines.setdefault(key, []).append(each.situation.detail)
        every = sum(situation.state is state for situation in SITUATIONS)
        for (title, to, commands), details in lines.items():
            when = "" if len(details) == every else "; ".join(details)
            yield f"| {title} | {when} | {to} | {commands} |"


def _title(kind: Kind) -> str:
    name = f"`{kind.message.__name__}`"
    return f"{name} {kind.detail}" if kind.detail else name
