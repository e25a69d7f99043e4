"""PURE: may a model start now, and who must go for it?

The caller reserves in the same breath what a ``Start`` grants; the victims themselves have the
last word, for only their workers know whether they are busy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from modelpool.catalog.memory_estimate import HOST

MB = 1_000_000


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
    idle and old enough. ``loss`` orders the victims, smallest first: (class, what its going would
    cost, time of the last use). ``pending_bytes`` of its reservation are not yet
    resident, so what the host calls available still contains them. ``devices`` are the bytes
    reserved on each.
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


@dataclass(frozen=True)
class Budget:
    """What the pool may use. ``host_available`` is what the host could give now, in bytes.

    ``devices`` are the bytes that it may use of each; a device that is not named has no limit.
    """

    max_models: int
    limit_bytes: int
    host_available: int
    devices: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Start:
    """Go, once those in ``evict`` are gone."""

    evict: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wait:
    """Not now: ``on`` are in the way for the time being, ``until`` when that is known to end."""

    on: tuple[str, ...]
    why: str
    until: float | None = None


@dataclass(frozen=True)
class Refuse:
    """Not by any eviction, with the numbers and with what would help.

    ``is_passing``: other programs hold what is missing, and may give it back.
    """

    why: str
    advice: str = ""
    is_passing: bool = False

    @property
    def text(self) -> str:
        return f"{self.why}; {self.advice}"


Plan = Start | Wait | Refuse


def plan(need: Requirements, residents: Sequence[Resident], budget: Budget) -> Plan:
    """Start at once if it fits, else after evicting the cheapest that may go, else wait, or refuse.

    Those already leaving are counted as gone: the start waits for them as for its own victims.
    """
    pinned = [r for r in residents if r.pinned and not r.leaving]
    if refusal := _never_fits(need, pinned, residents, budget):
        return refusal
    leaving = [r for r in residents if r.leaving]
    staying = [r for r in residents if not r.leaving]
    victims: list[Resident] = []
    candidates = sorted((r for r in staying if not r.protected and not r.pinned), key=_loss)
    while not _fits(need, staying, leaving + victims, budget):
        if not candidates:
            return _wait(need, staying, budget)
        victims.append(candidates.pop(0))
        staying = [r for r in staying if r not in victims]
    victims = _without_needless(need, residents, leaving, victims, budget)
    spared = [r for r in residents if r not in victims]
    gone = leaving if not _fits(need, spared, victims, budget) else []
    return Start(tuple(r.model_id for r in [*victims, *gone]))


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


def _loss(resident: Resident) -> tuple[float, ...]:
    return resident.loss


def _fits(
    need: Requirements, staying: Sequence[Resident], gone: Sequence[Resident], budget: Budget
) -> bool:
    if len(staying) + 1 > budget.max_models:
        return False
    if sum(r.bytes for r in staying) + need.bytes > budget.limit_bytes:
        return False
    if any(need.devices[d] > _device_room(d, staying, budget) for d in _budgeted(need, budget)):
        return False
    returned = sum(r.bytes - r.pending_bytes for r in gone)
    promised = sum(r.pending_bytes for r in staying)
    return need.bytes <= budget.host_available + returned - promised


def _budgeted(need: Requirements, budget: Budget) -> list[str]:
    """Devices that it would use and that have a budget: how full others are is not its concern."""
    return [device for device, size in need.devices.items() if size and device in budget.devices]


def _device_room(device: str, staying: Sequence[Resident], budget: Budget) -> int:
    return budget.devices[device] - sum(r.devices.get(device, 0) for r in staying)


def _without_needless(
    need: Requirements,
    residents: Sequence[Resident],
    leaving: Sequence[Resident],
    victims: list[Resident],
    budget: Budget,
) -> list[Resident]:
    """Spare a small victim chosen early if a larger one chosen later makes room alone."""
    kept = list(victims)
    for victim in victims:
        fewer = [v for v in kept if v is not victim]
        gone = [*leaving, *fewer]
        if _fits(need, [r for r in residents if r not in gone], gone, budget):
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
    return _beyond_host(need, [r for r in residents if r not in pinned], budget)


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
    count = f"{len(staying)} of {budget.max_models} models"
    why = f"{need.model_id} needs {amount(need)}; {count} loaded: {holders}"
    return Wait(tuple(r.model_id for r in blockers), why, until)


def amount(of: Requirements | Resident) -> str:
    """Its bytes of the host and of each device, for people."""
    devices = [f"{_mb(size)} of {device}" for device, size in of.devices.items() if size]
    return " and ".join([_mb(of.bytes), *devices])


def _mb(size: int) -> str:
    return f"{size / MB:,.0f} MB"
