"""PURE. What must hold whatever happens: one function a rule, each says what breaks it.

A rule sees a ``Sight``. Those marked ``settles`` speak of things that take a moment, such as the
end of a process: they are looked at again and again for a bounded time before they count as broken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelpool.pool.states import TRANSITIONS, State

from chaos.replies import Reply, verdict

Complaints = Iterator[str]
LEGAL = {(str(before.shown), str(after.shown)) for (before, _), after in TRANSITIONS.items()}
NO_PROGRESS = {"stage": ""}
NO_ROOM = "waiting for the memory of "
WITH_WORKER = {str(state) for state in State if state.has_worker}


@dataclass(frozen=True)
class Move:
    """An event that tells of a model's state; ``known`` is the state that the event before it
    left the model in, None where that is not known (a new manager, events that were dropped)."""

    model: str
    event: str
    previous: str
    state: str
    reason: str
    known: str | None


@dataclass(frozen=True)
class Missed:
    """A worker that a new manager did not have, and for how many seconds there had been none."""

    worker: str
    seconds: float


@dataclass(frozen=True)
class Sight:
    """What is seen of a pool from outside at one moment, and what came of requests so far.

    ``fronts``: living front processes, by pid, with the model that they serve. ``twins``: pids of
    fronts of one model that were alive at the same time. ``deaths``: when managers were gone, from
    and to. ``harmed``: pids of fronts that the test killed or stopped. ``unadopted``: what ought
    to have been adopted and was not. ``severed``: direct streams that did not outlive a manager.
    """

    models: tuple[Mapping[str, Any], ...] = ()
    health: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    fronts: Mapping[int, str] = field(default_factory=dict)
    twins: tuple[tuple[int, ...], ...] = ()
    moves: tuple[Move, ...] = ()
    nameless: tuple[Mapping[str, Any], ...] = ()
    replies: tuple[Reply, ...] = ()
    deaths: tuple[tuple[float, float], ...] = ()
    harmed: frozenset[int] = frozenset()
    unadopted: tuple[Missed, ...] = ()
    severed: tuple[str, ...] = ()
    shapeless: tuple[str, ...] = ()
    is_alive: bool = True
    answers_livez: bool = True

    @property
    def replicas(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Every copy that has a worker and is awake, with its model."""
        return [(model, r) for model, r in self._copies if r["state"] in WITH_WORKER]

    @property
    def running(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Those whose process is not asleep: one that is to wake up sleeps until there is room."""
        return [
            (model, r)
            for model, r in self.replicas
            if r["worker_pid"] and not (r["progress"] or NO_PROGRESS)["stage"].startswith(NO_ROOM)
        ]

    @property
    def sleepers(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Every copy that sleeps, with its model."""
        return [(model, r) for model, r in self._copies if r["sleeping"]]

    @property
    def _copies(self) -> list[tuple[str, Mapping[str, Any]]]:
        return [(m["model_id"], r) for m in self.models for r in m["replicas"]]


Rule = Callable[[Sight], Complaints]
AT_ONCE: list[Rule] = []
SETTLING: list[Rule] = []


def rule(check: Rule) -> Rule:
    """It holds at every moment."""
    AT_ONCE.append(check)
    return check


def settles(check: Rule) -> Rule:
    """It holds again within a bounded time."""
    SETTLING.append(check)
    return check


@rule
def the_manager_lives(sight: Sight) -> Complaints:
    """The manager ends only when it is told to or killed."""
    if not sight.is_alive:
        yield "the manager has ended by itself"


@rule
def livez_answers(sight: Sight) -> Complaints:
    """`/livez` answers as long as the manager lives, whatever its workers do."""
    if not sight.answers_livez:
        yield "/livez did not answer"


@settles
def one_worker_each(sight: Sight) -> Complaints:
    """Each replica has at most one worker process, and it is the one that `/models` names."""
    copies = (*sight.replicas, *sight.sleepers)
    named = {r["worker_pid"]: model for model, r in copies if r["worker_pid"]}
    for pid, model in sight.fronts.items():
        if named.get(pid) != model:
            yield f"front {pid} of {model} is not the one that /models names: {named}"
    for pid, model in named.items():
        if pid not in sight.fronts:
            yield f"/models names front {pid} of {model}, which is gone"


@rule
def never_two_of_one(sight: Sight) -> Complaints:
    """Two worker processes of one replica never live at the same time, not even for a moment."""
    for pids in sight.twins:
        yield f"fronts {pids} serve the same model"


@rule
def ports_are_unique(sight: Sight) -> Complaints:
    """No two workers hold one port."""
    held = Counter(r["port"] for _, r in sight.replicas if r["port"])
    held += Counter(r["sleeping"]["port"] for _, r in sight.sleepers)
    for port, count in held.items():
        if count > 1:
            yield f"port {port} is held {count} times"


@rule
def ports_are_ours(sight: Sight) -> Complaints:
    """Every worker's port lies within `port_range`."""
    span = sight.config["port_range"]
    ports = [(model, r["port"]) for model, r in sight.replicas if r["port"]]
    ports += [(model, r["sleeping"]["port"]) for model, r in sight.sleepers]
    for model, port in ports:
        if not span["start"] <= port <= span["end"]:
            yield f"{model} stands on port {port}, outside of {span}"


@rule
def memory_fits(sight: Sight) -> Complaints:
    """What models with a worker process have reserved, asleep or not, is at most
    `memory_limit_mb`."""
    sizes = {m["model_id"]: m["memory_estimate_mb"] or 0 for m in sight.models}
    total = sum(sizes[model] for model, r in sight.running)
    total += sum(r["memory_reserved_mb"] for _, r in sight.sleepers)
    if total > sight.config["memory_limit_mb"]:
        yield f"{total} MB are reserved of {sight.config['memory_limit_mb']}"


@rule
def count_fits(sight: Sight) -> Complaints:
    """At most `max_concurrent_models` have a worker process, but for what sleeps or ends asleep."""
    ending = {model for model, r in sight.replicas if _ends_asleep(sight, model, r)}
    running = [model for model, _ in sight.running if model not in ending]
    if len(running) > sight.config["max_concurrent_models"]:
        yield f"{len(running)} workers at once: {running}"


def _ends_asleep(sight: Sight, model: str, replica: Mapping[str, Any]) -> bool:
    """What is COLD to everybody and has a worker to be ended sleeps."""
    states = [m.state for m in sight.moves if m.model == model and m.state != "UNLOADING"]
    return replica["state"] == "UNLOADING" and states[-1:] == ["COLD"]


@rule
def what_sleeps_serves_nobody(sight: Sight) -> Complaints:
    """A model that sleeps is COLD to everybody, and has nothing in flight."""
    for model, r in sight.sleepers:
        if r["state"] != "COLD" or r["endpoint"] or r["in_flight"]:
            yield f"{model} sleeps, and is {r['state']} at {r['endpoint']}, {r['in_flight']} asked"


@settles
def few_sleep(sight: Sight) -> Complaints:
    """At most `max_sleeping_models` sleep."""
    asleep = [model for model, _ in sight.sleepers]
    if len(asleep) > sight.config["max_sleeping_models"]:
        yield f"{asleep} sleep"


@rule
def moves_are_legal(sight: Sight) -> Complaints:
    """Every move on `/events` is one of the table in `pool/states.py`, and begins where the
    one before it ended."""
    for move in sight.moves:
        step = (move.previous, move.state)
        if move.previous != move.state and step not in LEGAL:
            yield f"illegal: {move}"
        if move.known not in (None, move.previous):
            yield f"a move is missing before {move}"


@rule
def everything_has_a_reason(sight: Sight) -> Complaints:
    """Every event carries a reason, and so does every model's state."""
    for move in sight.moves:
        if not move.reason:
            yield f"no reason: {move}"
    for event in sight.nameless:
        if not event.get("reason"):
            yield f"no reason: {event}"
    for model in sight.models:
        if not model["reason"]:
            yield f"no reason: {model['model_id']} is {model['state']}"


@rule
def no_bugs(sight: Sight) -> Complaints:
    """No event `internal-error`: the pool never meets what it did not think of."""
    for event in sight.nameless:
        if event["event"] == "internal-error":
            yield f"a bug: {event['reason']}"


@rule
def no_request_hangs(sight: Sight) -> Complaints:
    """Every request ends by its deadline, with whatever outcome."""
    for reply in sight.replies:
        if reply.kind == "late":
            yield f"still not over: {reply}"


@rule
def answers_are_whole_or_explained(sight: Sight) -> Complaints:
    """A request through the gateway gets a whole answer or an error in the right shape, also
    within a stream: never a 200 that just ends. Only the death of the manager excuses."""
    for reply in sight.replies:
        found = verdict(reply)
        is_excused = _met_a_death(reply, sight.deaths) and found in ("cut", "reset", "refused")
        if reply.request.way == "gateway" and not (_is_fine(found) or is_excused):
            yield f"{found}: {reply}"


@rule
def direct_answers_are_too(sight: Sight) -> Complaints:
    """A request to a worker's port gets the same, or no connection at all where the worker has
    left. It is cut without a word only where the front itself was killed or stopped."""
    for reply in sight.replies:
        found = verdict(reply)
        is_excused = reply.request.front in sight.harmed and found == "cut"
        is_fine = _is_fine(found) or found in ("refused", "reset") or is_excused
        if reply.request.way == "direct" and not is_fine:
            yield f"{found}: {reply}"


@rule
def refusals_have_the_shape(sight: Sight) -> Complaints:
    """An error of the management API says what happened, in the one shape of all errors."""
    yield from sight.shapeless


@rule
def streams_outlive_the_manager(sight: Sight) -> Complaints:
    """A stream on a worker's port does not notice that the manager is killed and started again."""
    yield from sight.severed


@rule
def workers_are_adopted(sight: Sight) -> Complaints:
    """A manager that is started again has the same workers, by pid, as the one that was killed,
    unless it was away for so long that they may have left (`orphan_seconds`)."""
    for missed in sight.unadopted:
        # What is counted begins with the last answer that a worker had, a heartbeat or two before.
        if missed.seconds < sight.config["orphan_seconds"] - 2 * sight.config["beat_seconds"]:
            yield f"{missed.worker}, after {missed.seconds:.0f} s without a manager"


def _is_fine(found: str) -> bool:
    return found in ("answer", "left") or found.startswith("error ")


def _met_a_death(reply: Reply, deaths: tuple[tuple[float, float], ...]) -> bool:
    return any(reply.began <= back and gone <= reply.ended for gone, back in deaths)
