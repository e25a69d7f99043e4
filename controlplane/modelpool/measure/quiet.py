"""PURE: is the machine quiet enough to measure on it?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelpool.pool.status import ReplicaStatus


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
