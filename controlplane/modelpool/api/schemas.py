"""How the pool looks from outside: plain JSON values."""

from __future__ import annotations

from collections.abc import Sequence

from modelpool_client.wire import encode

from modelpool.api.answers import (
    BreakerView,
    Concurrency,
    Copy,
    Json,
    Lease,
    Memory,
    ModelDetails,
    ModelView,
    ProfileView,
    Queue,
    Sleeping,
)
from modelpool.api.fits import fits_view
from modelpool.config import PoolConfig
from modelpool.gateway.breaker import State
from modelpool.gateway.breakers import View
from modelpool.observe.events import iso
from modelpool.pool.admission import Requirements
from modelpool.pool.capacity import Capacity
from modelpool.pool.pool import Pool
from modelpool.pool.status import ReplicaStatus
from modelpool.pool.waiters import PRIORITIES
from modelpool.pool.worker_client import base_url
from modelpool.services import Services

MB = 1_000_000


def endpoint(status: ReplicaStatus, config: PoolConfig) -> str | None:
    """Where the model answers, if it does."""
    if not status.state.is_serving or status.port is None:
        return None
    return base_url(config.host, status.port)


def lease(status: ReplicaStatus, pool: Pool) -> Lease:
    """``ttl_remaining_minutes`` 0 and ``expires_at`` None: never, or not loaded."""
    left = status.lease.remaining(pool.clock.now()) if status.state.is_serving else None
    return {
        "ttl_remaining_minutes": round((left or 0.0) / 60, 3),
        "expires_at": None if left is None else iso(pool.clock.wall() + left),
    }


def replica(status: ReplicaStatus, pool: Pool) -> Copy:
    """What is particular to a running copy."""
    facts = status.facts
    return {
        "state": status.state,
        "reason": status.reason,
        "since": iso(status.since),
        "generation": status.generation,
        "port": status.port if status.state.has_worker else None,
        "endpoint": endpoint(status, pool.config),
        **lease(status, pool),
        "in_flight": status.in_flight,
        "waiting": status.waiting,
        "concurrency_limit": status.limit,
        "slots": facts.slots if facts else None,
        "requests_total": facts.requests_total if facts else 0,
        "tokens_total": facts.tokens_total if facts else 0,
        "worker_pid": status.worker.process.pid if status.worker else None,
        "engine_pid": facts.engine_pid if facts else None,
        "engine_runs": (facts.runs if facts else "") or None,
        "memory_measured_mb": in_mb(facts.taken_bytes if facts else None),
        "memory_reserved_mb": in_mb(pool.reserved_bytes(status.key)),
        "progress": encode(status.progress),
        "failure": status.failures.view(iso),
        "sleeping": sleeping(status, pool),
    }


def sleeping(status: ReplicaStatus, pool: Pool) -> Sleeping | None:
    """Of a copy that is COLD, and whose worker waits without the memory of its devices."""
    if not status.is_asleep or status.asleep_since is None or status.facts is None:
        return None
    ago = pool.clock.now() - status.asleep_since
    since = pool.clock.wall() - ago
    return {
        "level": status.facts.sleep_level,
        "since": iso(since),
        "until": iso(since + pool.config.sleep_minutes * 60),
        "port": status.port,
        "memory_mb": in_mb(pool.reserved_bytes(status.key)),
    }


def model_view(
    status: ReplicaStatus, services: Services, capacity: Capacity | None = None
) -> ModelView:
    """One model of ``GET /models``; ``capacity``: of the pool, where it is known already."""
    model, pool = status.model, services.pool
    shown, need = model.shown(), pool.requirements(model.model_id)
    copy = replica(status, pool)
    return {
        "model_id": model.model_id,
        "display_name": shown["display_name"] or model.model_id,
        "model_type": model.model_type,
        "engine": model.engine,
        "engine_problem": services.engines.problem(model),
        "environment": services.engines.known_environment_of(model),
        "devices": None if model.devices is None else list(model.devices),
        "source": shown["source"],
        **copy,
        "concurrency": concurrency_view(pool.statuses(model.model_id), pool),
        "waiting_for": status.waiting_for,
        "queue": queue_view(status),
        "warmup": model.warmup,
        "pinned": model.pinned,
        "auto_unload": model.auto_unload,
        "ttl_minutes": model.ttl_minutes,
        "min_replicas": model.min_replicas,
        "max_replicas": model.max_replicas,
        "priority": model.priority,
        "coalesce": model.coalesce,
        "balance": model.balance,
        "fallbacks": list(model.fallbacks),
        "missing_fallbacks": [n for n in model.fallbacks if not services.is_name(n)],
        "breakers": [breaker_view(view) for view in services.breakers.of(model.model_id)],
        "tags": shown["tags"],
        "aliases": list(model.aliases),
        "capabilities": list(model.capabilities),
        "options": dict(shown["options"]),
        "effective_options": effective_options(status, pool),
        "memory_estimate_mb": in_mb(need.bytes),
        "memory": memory_view(status, need, pool),
        "fits": fits_view(status, need, pool.effective(model), capacity or pool.capacity()),
        "size_mb": in_mb(model.size_bytes),
        "context_length": (status.facts.context_length if status.facts else None)
        or model.context_length,
        "quantization": model.quantization,
        "architecture": model.architecture,
        "origin": model.origin,
        "places": list(model.places),
        "companions": dict(model.companions),
        "companion_reasons": dict(model.companion_reasons),
        "served_by": model.served_by or None,
        "prices": dict(model.prices),
        "upstream": _upstream(status),
        "replicas": [
            {"replica": s.key, **replica(s, pool)}
            for s in pool.statuses(model.model_id)
            if s.state.has_worker or s.is_asleep
        ],
    }


def breaker_view(view: View) -> BreakerView:
    """A breaker as the API shows it."""
    breaker, seconds = view.breaker, view.seconds
    return {
        "breaker": view.breaker_id,
        "model_id": view.model_id,
        "state": breaker.state.value,
        "reason": breaker.reason,
        "recent_failures": len(breaker.failed),
        "successes": breaker.good if breaker.state is State.HALF_OPEN else 0,
        "trials": breaker.trials,
        "is_shut_out": view.is_shut_out,
        "retry_seconds": None if seconds is None else round(seconds, 1),
    }


def _upstream(status: ReplicaStatus) -> Json:
    """What the server elsewhere has said of its limits: of one of its models, or of all."""
    said = dict(status.facts.upstream) if status.facts is not None else {}
    if not said or not status.model.served_by:
        return said
    own = said.get("models", {}).get(status.model.source)
    return {**said, "models": {status.model.source: own} if own else {}}


def details_view(
    status: ReplicaStatus, services: Services, profile: ProfileView | None
) -> ModelDetails:
    """Of one model alone: with all that its files say, and its last profile."""
    facts, request = dict(status.model.facts), dict(status.model.request)
    return {**model_view(status, services), "facts": facts, "request": request, "profile": profile}


def effective_options(status: ReplicaStatus, pool: Pool) -> Json:
    """With what the model is started, beyond what was declared."""
    model = status.started_with or status.model
    declared = model.options
    chosen = status.started_options
    chosen = pool.effective(model).options if chosen is None else chosen
    return {**model.shown()["options"], **{k: v for k, v in chosen.items() if k not in declared}}


def memory_view(status: ReplicaStatus, need: Requirements, pool: Pool) -> Memory:
    """What is known of the model's memory on the host. ``reserved_mb`` is what it holds, or would
    if it were loaded now; that is the figure named by ``source_of_reservation``."""
    known, facts = pool.memory_estimate(status.model), status.facts
    reserved = pool.reserved_bytes(status.key)
    needed = reserved or need.bytes
    return {
        "estimated_mb": in_mb(known.estimated),
        "declared_mb": in_mb(known.declared),
        "measured_peak_mb": in_mb(known.measured_peak),
        "current_mb": in_mb(facts.taken_bytes if facts else None),
        "current_peak_mb": in_mb(facts.memory_peak_bytes if facts else None),
        "reserved_mb": in_mb(needed),
        "source_of_reservation": known.source,
        "devices_mb": {device: in_mb(size) for device, size in facts.device_memory_bytes.items()}
        if facts
        else {},
    }


def queue_view(status: ReplicaStatus) -> Queue | None:
    """Where it stands among those that wait for room, seconds estimated; None if it does not."""
    at = status.position
    if at is None:
        return None
    return {
        "position": at.position,
        "length": at.length,
        "estimated_wait_seconds": round(at.seconds, 1),
    }


def concurrency_view(copies: Sequence[ReplicaStatus], pool: Pool) -> Concurrency:
    """Of all copies of a model: requests in flight, how many there may be at a time (None where
    that has no limit, or nothing serves), and who waits, for a load or for a place."""
    limits = [c.limit for c in copies if c.state.is_serving]
    known = [limit for limit in limits if limit is not None]
    since = [c.waiting_since for c in copies if c.waiting_since is not None]
    waiting = {name: sum(c.waiting_by_class[name] for c in copies) for name in PRIORITIES}
    return {
        "setting": copies[0].model.concurrency_limit or pool.config.concurrency_limit,
        "limit": sum(known) if limits and len(known) == len(limits) else None,
        "in_flight": sum(c.in_flight for c in copies),
        "waiting": waiting,
        "oldest_wait_seconds": round(pool.clock.now() - min(since), 3) if since else 0.0,
    }


def in_mb(size: int | None) -> float | None:
    """Bytes as MB of 1,000,000, to a tenth."""
    return None if size is None else round(size / MB, 1)
