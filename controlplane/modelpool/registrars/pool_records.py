"""PURE: what registries should list of a pool."""

from __future__ import annotations

from collections.abc import Iterable

from modelpool.catalog.model import is_trial
from modelpool.observe.events import iso
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus

from .record import Record


def hot_records(
    statuses: Iterable[ReplicaStatus], host: str, pool: str, node: str
) -> dict[str, Record]:
    """What a registry should list of these, by worker id: those that are HOT, no other."""
    return {
        status.worker_id: Record(
            id=status.worker_id,
            model=status.model.model_id,
            engine=status.model.engine,
            host=host,
            port=status.worker.port,
            pool=pool,
            node=node,
            started_at=iso(status.worker.record.started_at) or "",
            aliases=status.model.aliases,
            capabilities=status.model.capabilities,
        )
        for status in statuses
        if status.state is State.HOT
        and status.worker is not None
        and not is_trial(status.model.model_id)
    }
