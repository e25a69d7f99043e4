"""What a load would do right now, with its reasons. Reads only: nothing is reserved or begun."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from modelpool.api.answers import DeviceNeeds, Needs, Plan, Room, Victim
from modelpool.api.fits import fits_how
from modelpool.api.schemas import MB, in_mb, queue_view
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.footprint import Footprint
from modelpool.catalog.model import Model
from modelpool.observe.events import iso
from modelpool.pool.admission import Refuse, Requirements, Start, Wait
from modelpool.pool.pool import Pool
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus


@dataclass(frozen=True)
class _Outlook:
    """``action`` is one of loaded, join, start, wait, refuse; ``until`` is in the pool's time."""

    action: str
    reason: str
    evict: tuple[str, ...] = ()
    asleep: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    until: float | None = None


def plan_view(status: ReplicaStatus, pool: Pool, estimator: Estimator, refused: str = "") -> Plan:
    """The plan of a load; sizes in MB of 1,000,000 bytes, as everywhere in the API. ``refused``:
    why there can be none, as far as the model's files and its engine are concerned."""
    outlook = _outlook(status, pool)
    if refused and outlook.action in ("start", "wait", "refuse"):
        outlook = _Outlook("refuse", refused)
    now = pool.clock.now()
    until = None if outlook.until is None else iso(pool.clock.wall() + outlook.until - now)
    return {
        "model_id": status.model.model_id,
        "state": status.state,
        "action": outlook.action,
        "reason": outlook.reason,
        "evict": victim_views(outlook.evict, pool, outlook.asleep),
        "waits_for": list(outlook.waits_for),
        "until": until,
        "queue": queue_view(status),
        "port": _port(status, pool, outlook),
        "needs": _needs(status, pool, estimator),
        "fits": fits_how(status, pool, estimator),
        "memory": memory_view(pool),
        "models": {"limit": pool.config.max_concurrent_models, "held": pool.loaded_count},
        "failure": status.failures.view(iso) if status.state is State.FAILED else None,
    }


def _outlook(status: ReplicaStatus, pool: Pool) -> _Outlook:
    name = status.model.model_id
    if pool.is_stopping:
        return _Outlook("refuse", "the pool is shutting down")
    if status.is_leaving:
        own = f"its own worker is ending ({status.reason}); it is loaded again after that"
        return _Outlook("wait", own, waits_for=(name,))
    if status.state.is_serving:
        return _Outlook("loaded", f"it is {status.state} already")
    if status.state is State.WARMING:
        return _Outlook("join", f"a load is under way, one for all: {status.describe_wait()}")
    plan = pool.plan(status.model.model_id)
    if isinstance(plan, Refuse):
        waits = plan.is_passing and status.model.warmup
        return _Outlook("wait" if waits else "refuse", plan.text)
    if isinstance(plan, Wait):
        return _Outlook("wait", plan.why, waits_for=plan.on, until=plan.until)
    return _start(status, pool, plan)


def _start(status: ReplicaStatus, pool: Pool, plan: Start) -> _Outlook:
    has_port = status.is_asleep or pool.ports.choose(status.model.model_id, pool.clock.now())
    if not plan.evict and not has_port:
        return _Outlook("refuse", "all worker ports are taken; unload a model")
    names = ", ".join(plan.evict)
    why = f"once {names} made room" if names else "it fits now"
    if status.is_asleep:
        why += "; it sleeps, and is woken up"
    return _Outlook("start", why, plan.evict, plan.asleep)


def victim_views(keys: tuple[str, ...], pool: Pool, asleep: Collection[str] = ()) -> list[Victim]:
    """Those that would go, in that order, each with what it holds and why it may go; ``asleep`` are
    those of which it is enough that they sleep."""
    return [_victim(victim, pool, sleeps=victim.key in asleep) for victim in _named(keys, pool)]


def _victim(victim: ReplicaStatus, pool: Pool, *, sleeps: bool) -> Victim:
    held = pool.residents()[victim.key]
    if held.leaving:
        reason = f"it is leaving already: {victim.reason}"
    elif victim.is_asleep and victim.asleep_since is not None:
        reason = f"asleep for {pool.clock.now() - victim.asleep_since:.0f} s"
    else:
        idle = pool.clock.now() - (victim.last_used or victim.hot_since or pool.clock.now())
        reason = f"idle for {idle:.0f} s, priority {victim.model.priority}"
        reason += "; it falls asleep, which is enough" if sleeps else ""
    return {
        "model_id": victim.model.model_id,
        "state": victim.state,
        "memory_mb": in_mb(held.bytes),
        "reason": reason,
    }


def _named(keys: tuple[str, ...], pool: Pool) -> list[ReplicaStatus]:
    by_key = {status.key: status for status in pool.holders}
    return [by_key[key] for key in keys if key in by_key]


def _port(status: ReplicaStatus, pool: Pool, outlook: _Outlook) -> int | None:
    if status.state.has_worker or status.is_asleep:
        return status.port
    if outlook.action != "start":
        return None
    free = pool.ports.choose(status.model.model_id, pool.clock.now())
    # With none free it gets that of a victim, when that has left.
    return free if free is not None else _named(outlook.evict, pool)[0].port


def _needs(status: ReplicaStatus, pool: Pool, estimator: Estimator) -> Needs:
    need, known = pool.requirements(status.model.model_id), pool.memory_estimate(status.model)
    return {
        "memory_mb": in_mb(need.bytes),
        "estimated_mb": in_mb(known.estimated),
        "measured_peak_mb": in_mb(known.measured_peak),
        "source": known.source,
        "devices_mb": {device: in_mb(size) for device, size in need.devices.items()},
        "devices": _devices(status.model, need, estimator),
        "parts_mb": _parts(estimator.footprint(status.model)),
    }


def _devices(model: Model, need: Requirements, estimator: Estimator) -> dict[str, DeviceNeeds]:
    """Of each device the estimate beside the measured peak, and what of them is reserved."""
    estimated, peaks = estimator.footprint(model).devices, estimator.peaks(model)
    return {
        device: {
            "estimated_mb": in_mb(estimated.get(device)),
            "measured_peak_mb": in_mb(peaks[device].peak_bytes if device in peaks else None),
            "reserved_mb": in_mb(size),
            "source": need.sources.get(device, ""),
        }
        for device, size in need.devices.items()
    }


def _parts(footprint: Footprint) -> dict[str, dict[str, float | None]]:
    """What the estimate is made of, by place."""
    return {
        place: {
            "weights": in_mb(share.weights),
            "cache": in_mb(share.cache),
            "compute": in_mb(share.compute),
            "other": in_mb(share.other),
        }
        for place, share in footprint.parts.items()
    }


def memory_view(pool: Pool) -> Room:
    """What is held and free of the host's memory, in MB."""
    budget = pool.budget()
    held = sum(pool.reserved_bytes(s.key) for s in pool.holders)
    return {
        "limit_mb": pool.config.memory_limit_bytes / MB,
        "held_mb": in_mb(held),
        "free_mb": in_mb(budget.limit_bytes - held),
        "host_available_mb": in_mb(budget.host_available),
    }
