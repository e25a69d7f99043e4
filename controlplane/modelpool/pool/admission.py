"""PURE: may a model start now, or several together, and who must go for it?

The caller reserves in the same breath what a ``Start`` grants; the victims themselves have the
last word, for only their workers know whether they are busy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from modelpool.catalog.memory_estimate import HOST

MB = 1_000_000
SAME_SET = "is wanted together with it"
FALLS_ASLEEP = "falls asleep"
DEVICE_KEY = "device_memory_mb"


@dataclass(frozen=True)
class Requirements:
    """What a start would take: bytes of the host, and of each device that it would use.

    ``sources`` says where the figures come from, by device; that of the host is under ``host``.
    """

    model_id: str
    bytes: int
    devices: Mapping[str, int] = field(default_factory=dict, hash=False)
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Resident:
    """One that holds a reservation. ``protected`` says why it may not be evicted, or is empty.

    ``pinned`` ones stay for good; other protection passes. ``free_at`` is when it passes by
    itself (minimum residency), if that is known. ``may_yield``: it serves, and could go once it is
    idle and old enough. ``is_asleep``: it takes no place among those in memory. ``asleep`` is what
    it would hold if it slept in place of going, None: it cannot. ``loss`` orders the victims,
    smallest first: (class, what its going would cost, time of the last use). ``pending_bytes`` of
    its reservation are not yet resident, so what the host calls available still contains them.
    ``devices`` are the bytes reserved on each, ``pending_devices`` what of them the device still
    calls free.
    """

    model_id: str
    bytes: int
    loss: tuple[float, ...]
    protected: str = ""
    pinned: bool = False
    leaving: bool = False
    may_yield: bool = False
    free_at: float | None = None
    pending_bytes: int = 0
    devices: Mapping[str, int] = field(default_factory=dict, hash=False)
    pending_devices: Mapping[str, int] = field(default_factory=dict, hash=False)
    is_asleep: bool = False
    asleep: Requirements | None = None

    def returns(self, device: str) -> int:
        """Bytes of the device that are free once it is gone, and are not yet."""
        return self.devices.get(device, 0) - self.pending_devices.get(device, 0)


@dataclass(frozen=True)
class Budget:
    """What the pool may use. ``host_available`` is what the host could give now, in bytes.

    ``devices`` are the bytes that it may use of each; a device that is not named has no limit.
    ``devices_free`` are those that nobody holds now, other programs included, where that is known.
    """

    max_models: int
    limit_bytes: int
    host_available: int
    devices: Mapping[str, int] = field(default_factory=dict, hash=False)
    devices_free: Mapping[str, int] = field(default_factory=dict, hash=False)

    def without(self, resident: Resident) -> Budget:
        """As if that one had given back what it holds."""
        free = {
            device: size + resident.returns(device) for device, size in self.devices_free.items()
        }
        back = resident.bytes - resident.pending_bytes
        return replace(self, host_available=self.host_available + back, devices_free=free)


@dataclass(frozen=True)
class Start:
    """Go, once those in ``evict`` are gone; of ``asleep``, some of them, it is enough that they
    sleep."""

    evict: tuple[str, ...] = ()
    asleep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wait:
    """Not now: ``on`` are in the way for the time being, ``until`` when that is known to end."""

    on: tuple[str, ...]
    why: str
    until: float | None = None


@dataclass(frozen=True)
class Refuse:
    """Not by any eviction, with the numbers and with what would help.

    ``is_passing``: what is missing may come back; other programs hold it, or other models, where
    it ``lacks_ports``.
    """

    why: str
    advice: str = ""
    is_passing: bool = False
    lacks_ports: bool = False

    @property
    def text(self) -> str:
        return f"{self.why}; {self.advice}"


Plan = Start | Wait | Refuse


@dataclass(frozen=True)
class Step:
    """One of several that are to be there together: what its start takes, and whether it begins."""

    need: Requirements
    plan: Start | Wait


SetPlan = tuple[Step, ...] | Refuse


def plan(need: Requirements, residents: Sequence[Resident], budget: Budget) -> Plan:
    """Start at once if it fits, else after evicting the cheapest that may go, else wait, or refuse.

    Those already leaving are counted as gone: the start waits for them as for its own victims.
    """
    pinned = [r for r in residents if r.pinned and not r.leaving]
    if refusal := _never_fits(need, pinned, residents, budget):
        return refusal
    victims = _victims(need, residents, budget)
    if victims is None:
        return _wait(need, [r for r in residents if not _may_go(r) and not r.leaving], budget)
    leaving = [r for r in residents if r.leaving]
    spared = [r for r in residents if r not in victims]
    gone = leaving if not _fits(need, spared, victims, budget) else []
    going = [*victims, *gone]
    asleep = _may_sleep(need, [r for r in residents if r not in going], going, budget)
    return Start(tuple(r.model_id for r in going), asleep)


def _may_sleep(
    need: Requirements, staying: Sequence[Resident], going: Sequence[Resident], budget: Budget
) -> tuple[str, ...]:
    """Those of the victims whose room is enough without what they hold asleep."""
    asleep: list[Resident] = []
    for victim in going:
        if victim.asleep is None or victim.leaving or victim.is_asleep:
            continue
        part = sleeping_part(victim.asleep)
        if _fits(need, [*staying, *asleep, part], going, budget):
            asleep.append(part)
    return tuple(r.model_id for r in asleep)


def sleeping_part(held: Requirements) -> Resident:
    """What one that falls asleep will hold, beside itself as one that leaves."""
    return Resident(
        held.model_id,
        held.bytes,
        (),
        FALLS_ASLEEP,
        pending_bytes=held.bytes,
        devices=held.devices,
        pending_devices=held.devices,
        is_asleep=True,
    )


def sleep_refusal(
    sleeper: Resident, others: Sequence[Resident], budget: Budget, free_ports: int
) -> str:
    """Why it had better go than sleep; empty where there is room for it asleep."""
    held = sleeper.asleep
    if held is None:
        return "it cannot"
    if not free_ports:  # what sleeps keeps its own
        return "all worker ports are taken"
    if sum(r.bytes for r in others) + held.bytes > budget.limit_bytes:
        return f"asleep it would hold {amount(held)}, more than memory_limit_mb leaves"
    more = held.bytes - (sleeper.bytes - sleeper.pending_bytes)
    room = budget.host_available - sum(r.pending_bytes for r in others)
    if more > max(0, room):
        return f"it would take {_mb(more)} more of the host, which has {_mb(room)} left"
    return ""


def with_port(found: Start, residents: Sequence[Resident]) -> Plan:
    """The same where all ports are held and it needs one: somebody has to leave one behind, at
    first one that sleeps."""
    falling = {r.model_id for r in residents if r.protected == FALLS_ASLEEP}
    if any(key not in falling and key not in found.asleep for key in found.evict):
        return found
    if found.asleep:
        return replace(found, asleep=found.asleep[1:])
    if sleepers := sorted((r for r in residents if r.is_asleep and _may_go(r)), key=_loss):
        return replace(found, evict=(*found.evict, sleepers[0].model_id))
    if found.evict:
        return Wait(found.evict, "all worker ports are taken")
    return found


def set_with_ports(
    steps: tuple[Step, ...], needing: Collection[str], residents: Sequence[Resident], free: int
) -> SetPlan:
    """The same where of those that start these need a port, and so many are free: one for each, or
    who leaves one behind for it, at first one that sleeps. Refused where that is not enough."""
    plans = {step.need.model_id: step.plan for step in steps if isinstance(step.plan, Start)}
    starts = {key: found for key, found in plans.items() if key in needing}
    stays = {r.model_id for r in residents if r.protected == FALLS_ASLEEP}
    stays |= {key for found in plans.values() for key in found.asleep}
    going = dict.fromkeys(k for found in plans.values() for k in found.evict if k not in stays)
    sleepers = sorted((r for r in residents if r.is_asleep and _may_go(r)), key=_loss)
    others = [*going, *(r.model_id for r in sleepers if r.model_id not in going)]
    without: list[str] = []
    for key, found in starts.items():
        if own := next((k for k in found.evict if k in others), None):
            others.remove(own)
        else:
            without.append(key)
    for key in without[free:]:
        found = starts[key]
        if more := next((k for k in others if k in going), None):
            starts[key] = replace(found, evict=(*found.evict, more))
            others.remove(more)
        elif found.asleep:
            starts[key] = replace(found, asleep=found.asleep[1:])
        elif others:
            starts[key] = replace(found, evict=(*found.evict, others.pop(0)))
        else:
            why = f"{len(starts)} workers would start and {free + len(going)} worker ports are free"
            advice = "unload a model, or ask for fewer at a time"
            return Refuse(why, advice, is_passing=True, lacks_ports=True)
    return tuple(replace(s, plan=starts.get(s.need.model_id, s.plan)) for s in steps)


def plan_set(
    needs: Sequence[Requirements],
    residents: Sequence[Resident],
    budget: Budget,
    kept: Collection[str] = (),
) -> SetPlan:
    """Several starts decided as one, in the order in which they are to begin: those that need no
    eviction first, then as they were asked for. ``kept`` are residents that are wanted, too.

    All start where all fit at once after evicting the cheapest that may go; else those that do,
    and the others wait. None of the wanted is a victim of another. They are refused, all of them,
    where they can never be there together.
    """
    residents = protected(residents, kept)
    if refusal := _never_together(needs, residents, budget, kept):
        return refusal
    victims = _victims(_total(needs), residents, budget, len(needs))
    if victims is not None:  # nobody else has to go, whoever of them is planned first
        residents = [_protected(r) if r not in victims else r for r in residents]
    steps: list[Step] = []
    waiting = list(needs)
    for may_evict in (False, True):
        for need in tuple(waiting):
            decision = plan(need, residents, budget)
            assert not isinstance(decision, Refuse), "who fits with others fits alone"
            if decision != Start() and not may_evict:
                continue
            waiting.remove(need)
            steps.append(Step(need, decision))
            if isinstance(decision, Start):
                asleep = [r.asleep for r in residents if r.model_id in decision.asleep]
                parts = [sleeping_part(held) for held in asleep if held is not None]
                residents = [*_without(residents, decision.evict), *parts, promised(need, SAME_SET)]
    return tuple(steps)


def promised(need: Requirements, why: str) -> Resident:
    """The room that a start will take, as held by one that is ``protected`` by ``why``."""
    size = need.bytes
    return Resident(need.model_id, size, (), why, pending_bytes=size, devices=need.devices)


def protected(residents: Sequence[Resident], keys: Collection[str]) -> list[Resident]:
    """As a start sees them that none of these must make room for."""
    return [_protected(r) if r.model_id in keys else r for r in residents]


def to_yield(need: Requirements, residents: Sequence[Resident], budget: Budget) -> tuple[str, ...]:
    """Who would have to finish and go for it: the plan as if who serves were idle and old enough.

    Empty where that would not help, either.
    """
    idle = [replace(r, protected="") if r.may_yield else r for r in residents]
    decision = plan(need, idle, budget)
    if not isinstance(decision, Start):
        return ()
    staying = {r.model_id for r in residents if r.may_yield and not r.leaving}
    return tuple(model_id for model_id in decision.evict if model_id in staying)


def _protected(resident: Resident) -> Resident:
    return replace(resident, protected=resident.protected or SAME_SET, may_yield=False)


def _without(residents: Sequence[Resident], victims: Collection[str]) -> list[Resident]:
    """As they are once those were told to go."""
    return [
        replace(r, leaving=True) if r.model_id in victims and _may_go(r) else r for r in residents
    ]


def _total(needs: Sequence[Requirements]) -> Requirements:
    """What they take together."""
    devices: dict[str, int] = {}
    for need in needs:
        for device, size in need.devices.items():
            devices[device] = devices.get(device, 0) + size
    return Requirements("", sum(n.bytes for n in needs), devices)


def _may_go(resident: Resident) -> bool:
    return not (resident.leaving or resident.protected or resident.pinned)


def _victims(
    need: Requirements, residents: Sequence[Resident], budget: Budget, count: int = 1
) -> list[Resident] | None:
    """The cheapest that make room for so many models; None where even all that may go do not."""
    leaving = [r for r in residents if r.leaving]
    staying = [r for r in residents if not r.leaving]
    victims: list[Resident] = []
    candidates = sorted((r for r in staying if _may_go(r)), key=_loss)
    while not _fits(need, staying, leaving + victims, budget, count):
        if not candidates:
            return None
        victims.append(candidates.pop(0))
        staying = [r for r in staying if r not in victims]
    return _without_needless(need, residents, leaving, victims, budget, count)


def _loss(resident: Resident) -> tuple[float, ...]:
    return resident.loss


def _fits(
    need: Requirements,
    staying: Sequence[Resident],
    gone: Sequence[Resident],
    budget: Budget,
    count: int = 1,
) -> bool:
    if sum(not r.is_asleep for r in staying) + count > budget.max_models:
        return False
    if sum(r.bytes for r in staying) + need.bytes > budget.limit_bytes:
        return False
    for device in _budgeted(need, budget):
        room = _device_room(device, staying, budget)
        if device in budget.devices_free:
            room = min(room, free_on(device, staying, gone, budget))
        if need.devices[device] > room:
            return False
    returned = sum(r.bytes - r.pending_bytes for r in gone)
    promised = sum(r.pending_bytes for r in staying)
    return need.bytes <= budget.host_available + returned - promised


def _budgeted(need: Requirements, budget: Budget) -> list[str]:
    """Devices that it would use and that have a budget: how full others are is not its concern."""
    return [device for device, size in need.devices.items() if size and device in budget.devices]


def _device_room(device: str, staying: Sequence[Resident], budget: Budget) -> int:
    return budget.devices[device] - sum(r.devices.get(device, 0) for r in staying)


def free_on(
    device: str, staying: Sequence[Resident], gone: Sequence[Resident], budget: Budget
) -> int:
    """Bytes of a device in ``devices_free`` that nobody holds or was promised, once these are
    gone."""
    returned = sum(r.returns(device) for r in gone)
    promised = sum(r.pending_devices.get(device, 0) for r in staying)
    return budget.devices_free[device] + returned - promised


def _without_needless(
    need: Requirements,
    residents: Sequence[Resident],
    leaving: Sequence[Resident],
    victims: list[Resident],
    budget: Budget,
    count: int,
) -> list[Resident]:
    """Spare a small victim chosen early if a larger one chosen later makes room alone."""
    kept = list(victims)
    for victim in victims:
        fewer = [v for v in kept if v is not victim]
        gone = [*leaving, *fewer]
        if _fits(need, [r for r in residents if r not in gone], gone, budget, count):
            kept = fewer
    return kept


def _never_fits(
    need: Requirements, pinned: Sequence[Resident], residents: Sequence[Resident], budget: Budget
) -> Refuse | None:
    names = ", ".join(f"{r.model_id} {amount(r)}" for r in pinned)
    pins = f" (pinned: {names})" if pinned else ""
    unpin = ", unpin what is pinned" if pinned else ""
    if len(pinned) >= budget.max_models:
        why = f"max_concurrent_models is {budget.max_models} and all are pinned{pins}"
        return Refuse(why, "raise max_concurrent_models or unpin one of them")
    room = budget.limit_bytes - sum(r.bytes for r in pinned)
    if need.bytes > room:
        free = f"at most {_mb(room)} of {_mb(budget.limit_bytes)} can be made free{pins}"
        options = _smaller(need, HOST, "context_length or parallel option")
        advice = f"{options}, raise memory_limit_mb{unpin} or choose a smaller model"
        return Refuse(f"needs {_mb(need.bytes)}{_source(need, HOST)}, but {free}", advice)
    for device in _budgeted(need, budget):
        room = _device_room(device, pinned, budget)
        if need.devices[device] > room:
            wanted = f"{_mb(need.devices[device])} of {device}{_source(need, device)}"
            free = f"at most {_mb(room)} of {_mb(budget.devices[device])} can be made free{pins}"
            options = _smaller(need, device, "gpu_layers, context_length or parallel option")
            advice = f"{options}, raise device_memory_mb{unpin} or choose a smaller model"
            return Refuse(f"needs {wanted}, but {free}", advice)
    others = [r for r in residents if r not in pinned]
    return _beyond_devices(need, others, budget) or _beyond_host(need, others, budget)


def _beyond_devices(
    need: Requirements, residents: Sequence[Resident], budget: Budget
) -> Refuse | None:
    """As on the host: it is said only where it is so, however much of a load is there already."""
    for device in _budgeted(need, budget):
        ours = sum(r.devices.get(device, 0) for r in residents)
        free = budget.devices_free.get(device)
        if free is None or need.devices[device] <= free + ours:
            continue
        why = (
            f"needs {_mb(need.devices[device])} of {device}{_source(need, device)}, but it has"
            f" {_mb(free)} free and unloading every idle model would add {_mb(ours)};"
            " other programs hold the rest"
        )
        advice = "end some of them, wait until they give it back or choose another device"
        return Refuse(why, advice, is_passing=True)
    return None


def _never_together(
    needs: Sequence[Requirements],
    residents: Sequence[Resident],
    budget: Budget,
    kept: Collection[str],
) -> Refuse | None:
    there = [r for r in residents if r.model_id in kept and not r.leaving]
    pinned = [r for r in residents if r.pinned and not r.leaving and r not in there]
    total, held = _total(needs), [*there, *pinned]
    names = [f"{n.model_id} {amount(n)}" for n in needs]
    names += [f"{r.model_id} {amount(r)} (loaded)" for r in there]
    who = f"together ({', '.join(names)})"
    pins = f" (pinned: {', '.join(f'{r.model_id} {amount(r)}' for r in pinned)})" if pinned else ""
    unpin = ", unpin what is pinned" if pinned else ""
    if len(needs) + len(held) > budget.max_models:
        most = f"max_concurrent_models is {budget.max_models}{pins}"
        why = f"they are {len(names)} models {who}, but {most}"
        return Refuse(why, f"ask for fewer at a time, or raise max_concurrent_models{unpin}")
    for place in (HOST, *_budgeted(total, budget)):
        limit = budget.limit_bytes if place == HOST else budget.devices[place]
        room = limit - sum(_size(r, place) for r in pinned)
        wanted = _size(total, place) + sum(_size(r, place) for r in there)
        if wanted > room:
            of, key = ("", "memory_limit_mb") if place == HOST else (f" of {place}", DEVICE_KEY)
            free = f"at most {_mb(room)} of {_mb(limit)} can be made free{pins}"
            why = f"they need {_mb(wanted)}{of} {who}, but {free}"
            return Refuse(why, f"ask for fewer or smaller ones at a time, or raise {key}{unpin}")
    beyond = _beyond_host(total, [r for r in residents if r not in held], budget)
    return beyond and replace(beyond, why=f"the set, {who}, {beyond.why}")


def _size(of: Requirements | Resident, place: str) -> int:
    return of.bytes if place == HOST else of.devices.get(place, 0)


def _beyond_host(
    need: Requirements, residents: Sequence[Resident], budget: Budget
) -> Refuse | None:
    # How much of what one that loads will take the host has given already is not known; that it
    # does not fit is said only where it is so either way.
    ours = sum(r.bytes for r in residents)
    if need.bytes <= budget.host_available + ours:
        return None
    why = (
        f"needs {_mb(need.bytes)}{_source(need, HOST)}, but the host has"
        f" {_mb(budget.host_available)} available and unloading every idle model would add"
        f" {_mb(ours)}; other programs hold the rest"
    )
    advice = "end some of them, wait until they give it back or choose a smaller model"
    return Refuse(why, advice, is_passing=True)


def _smaller(need: Requirements, place: str, options: str) -> str:
    """How the figure of that place gets smaller."""
    if need.sources.get(place) == "declared":
        return "lower its memory_mb if it takes less"
    return f"lower its {options}"


def _source(need: Requirements, place: str) -> str:
    return f" ({need.sources[place]})" if place in need.sources else ""


def _wait(need: Requirements, staying: Sequence[Resident], budget: Budget) -> Wait:
    # A pinned one that loads may turn out to take less than it was promised.
    loading = [r for r in staying if r.pinned and r.pending_bytes]
    blockers = [r for r in staying if not r.pinned] or loading
    until = min((r.free_at for r in blockers if r.free_at is not None), default=None)
    holders = ", ".join(f"{r.model_id} {amount(r)} ({r.protected})" for r in blockers)
    count = f"{sum(not r.is_asleep for r in staying)} of {budget.max_models} models"
    why = f"{need.model_id} needs {amount(need)}; {count} loaded: {holders}"
    return Wait(tuple(r.model_id for r in blockers), why, until)


def amount(of: Requirements | Resident) -> str:
    """Its bytes of the host and of each device, for people."""
    devices = [f"{_mb(size)} of {device}" for device, size in of.devices.items() if size]
    return " and ".join([_mb(of.bytes), *devices])


def _mb(size: int) -> str:
    return f"{size / MB:,.0f} MB"
