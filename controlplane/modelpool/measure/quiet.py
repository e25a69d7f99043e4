"""PURE: is the machine quiet enough to measure on it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modelpool.pool.status import ReplicaStatus


@dataclass(frozen=True)
class Served:
    """Requests that a worker has begun since its start; None where it did not say."""

    model_id: str
    requests: int | None


def disturbance(
    statuses: Iterable[ReplicaStatus], own: Mapping[str, int], subject: str = ""
) -> str:
    """What would spoil a measurement, in words; empty where nothing would.

    Args:
        statuses: of all copies of models that hold memory or are waited for.
        own: requests that the measurement itself has made and that are not over, by the ids of the
            models that it drives.
        subject: the model that is measured.
    """
    requests: dict[str, int] = {}
    for status in statuses:
        name = status.model.model_id
        if status.state.has_worker and not status.state.is_serving and name not in own:
            return f"{name} is being loaded or unloaded"
        # What a worker last reported to be in flight may be over, and ours: only of those that came
        # straight to its port is there no other word.
        direct = status.facts.direct if status.facts is not None else 0
        requests[name] = requests.get(name, 0) + status.granted + direct + status.waiting
    others = {name: n - own.get(name, 0) for name, n in requests.items()}
    busy = sorted(name for name, n in others.items() if n > 0)
    if subject in busy:
        return f"a client asks for {subject}"
    if busy:
        return f"{' and '.join(busy)} {'is' if len(busy) == 1 else 'are'} at work"
    return ""


def unseen_requests(
    before: Mapping[str, Served],
    after: Mapping[str, Served],
    made: Mapping[str, int],
    subject: str = "",
) -> str:
    """Which requests of others came between two counts, however short they were, in words; empty
    where there were none.

    Args:
        before, after: by worker. One that is only in ``after`` was started in between.
        made: requests that the measurement itself has made in between, by model id.
    """
    served: Counter[str] = Counter()
    for worker_id, now in after.items():
        then = before.get(worker_id, Served(now.model_id, 0))
        if now.requests is not None and then.requests is not None:
            served[now.model_id] += now.requests - then.requests
    others = {name: n - made.get(name, 0) for name, n in served.items()}
    found = sorted(name for name, n in others.items() if n > 0)
    if subject in found:
        return f"a client asked for {subject}"
    return f"{' and '.join(found)} answered meanwhile" if found else ""
