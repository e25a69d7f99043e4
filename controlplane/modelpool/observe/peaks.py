"""What workers really take: written down now and then, and told to the estimator."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from modelpool_client.wire import Facts

from modelpool.catalog.estimator import Estimator
from modelpool.catalog.memory_estimate import HOST, Key, Peak
from modelpool.catalog.model import Model, is_trial
from modelpool.pool.pool import Pool

log = logging.getLogger(__name__)

# Bytes, and whether a request had been answered when they were measured.
Seen = tuple[int, bool]


class PeakStore(Protocol):
    async def add_peaks(self, peaks: Iterable[Peak]) -> None: ...


@dataclass
class _Life:
    """One worker: the model as it was loaded, when (seconds since 1970), the newest facts, and
    what of them was saved."""

    model: Model
    began: float
    facts: Facts
    key: Key | None = None
    is_outdated: bool = False
    saved: dict[str, Seen] = field(default_factory=dict)

    def news(self) -> dict[str, Seen]:
        """By device."""
        return {d: seen for d, seen in _seen(self.facts).items() if seen != self.saved.get(d)}


class PeakMeter:
    """Looks at the workers of a pool; ``wall`` gives seconds since 1970."""

    def __init__(self, pool: Pool, estimator: Estimator, wall: Callable[[], float]) -> None:
        self._pool = pool
        self._estimator = estimator
        self._wall = wall
        self._lives: dict[str, _Life] = {}
        self._trials: dict[str, tuple[Model, Collection[str]]] = {}

    def stand_for(self, trial_id: str, model: Model, added: Collection[str]) -> None:
        """What workers of a trial take holds for the model with the same options, but for those
        ``added`` that only a trial has and that take no memory."""
        self._trials[trial_id] = (model, added)

    def forget_trial(self, trial_id: str) -> None:
        """What its workers told is kept."""
        self._trials.pop(trial_id, None)

    def record(self, model: Model, facts: Facts) -> None:
        """A worker of the model told how it is."""
        life = self._lives.get(facts.worker_id)
        if life is not None:
            life.facts = facts
        # The model's entry may be replaced later; the worker keeps its options.
        elif (started := self._started(model)) is not None:
            began = self._wall() - facts.uptime_seconds
            self._lives[facts.worker_id] = _Life(started, began, facts)

    def _started(self, model: Model) -> Model | None:
        """As its worker was started; None for a trial of which nobody knows what it stood for."""
        effective = self._estimator.effective(model)
        if not is_trial(model.model_id):
            return effective
        if model.model_id not in self._trials:
            return None
        real, added = self._trials[model.model_id]
        options = {k: v for k, v in effective.options.items() if k not in added}
        options |= {name: real.options[name] for name in added if name in real.options}
        return dataclasses.replace(effective, model_id=real.model_id, options=options)

    async def save(self, store: PeakStore) -> None:
        """Write down what is new; what the store refuses comes with the next time."""
        self._forget_deleted()
        news = {worker_id: life.news() for worker_id, life in self._lives.items()}
        peaks = [p for worker_id in news for p in await self._peaks(worker_id, news[worker_id])]
        if peaks:
            try:
                await store.add_peaks(peaks)
            except Exception as e:
                log.warning("measured memory could not be saved: %s", e)
                return
            self._estimator.learn(peaks)
        for worker_id, seen in news.items():
            if (life := self._lives.get(worker_id)) is not None:
                life.saved |= seen
        self._forget_ended()

    def _forget_deleted(self) -> None:
        """Or their peaks would be there again for the next model of that name."""
        gone = [w for w, life in self._lives.items() if not self._pool.has(life.model.model_id)]
        for worker_id in gone:
            del self._lives[worker_id]

    def _forget_ended(self) -> None:
        alive = self._pool.worker_ids
        for worker_id, life in list(self._lives.items()):
            if worker_id not in alive and not life.news():
                del self._lives[worker_id]

    async def _peaks(self, worker_id: str, news: Mapping[str, Seen]) -> list[Peak]:
        life = self._lives[worker_id]
        if news and life.key is None and not life.is_outdated:
            key, changed_at = await self._estimator.look(life.model)
            # What it took says nothing of a file that took the place of the one it has loaded.
            life.is_outdated = changed_at > life.began
            life.key = None if life.is_outdated else key
        now = self._wall()
        return [
            Peak(*life.key, device, size, int(device not in life.saved), worked, now)
            for device, (size, worked) in news.items()
            if life.key is not None
        ]


def _seen(facts: Facts) -> dict[str, Seen]:
    if facts.memory_peak_bytes is None:
        return {}
    answered = facts.memory_requests
    if answered is None:  # of a version that does not say
        answered = facts.requests_total - facts.in_flight
    sizes = {HOST: facts.memory_peak_bytes, **facts.device_memory_bytes}
    return {device: (size, answered > 0) for device, size in sizes.items()}
