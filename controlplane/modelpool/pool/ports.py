"""The worker ports: standing ones for warm-up models, dynamic ones for the rest."""

from __future__ import annotations

from collections.abc import Sequence


class Ports:
    """Hands out ports of ``[start, end]``; a freed one rests ``rest`` seconds unless none is left.

    A rest keeps a client that still holds the old address from talking to another model.
    """

    def __init__(self, start: int, end: int, *, rest: float) -> None:
        self.all = range(start, end + 1)
        self.rest = rest
        self._held: dict[int, str] = {}
        self._freed: dict[int, float] = {}
        self._standing: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Ports {len(self._held)} held, {self.available} available>"

    @property
    def available(self) -> int:
        """Ports that nobody holds, resting ones included."""
        return len(self.all) - len(self._held)

    def reserve_standing(self, model_ids: Sequence[str]) -> None:
        """The n-th model stands on ``start + n`` while it is listed."""
        self._standing = dict(zip(model_ids, self.all, strict=False))

    def stand_for(self, model_id: str, names: Sequence[str]) -> None:
        """The list may know the model by an alias."""
        listed = [self._standing.pop(name) for name in names if name in self._standing]
        if listed:
            self._standing[model_id] = min(listed)

    def standing(self, model_id: str) -> int | None:
        return self._standing.get(model_id)

    def take(self, model_id: str, now: float, *, avoid: frozenset[int] = frozenset()) -> int | None:
        """A port for the model, or None when all are held. ``avoid``: found taken by strangers."""
        port = self.choose(model_id, now, avoid=avoid)
        return None if port is None else self._hold(port, model_id)

    def choose(
        self, model_id: str, now: float, *, avoid: frozenset[int] = frozenset()
    ) -> int | None:
        """The port that ``take`` would give; nobody holds it yet."""
        standing = self._standing.get(model_id)
        if standing is not None and standing not in self._held and standing not in avoid:
            return standing
        others = set(self._standing.values())
        free = [p for p in self.all if p not in self._held and p not in avoid]
        rested = [p for p in free if now - self._freed.get(p, -self.rest) >= self.rest]
        for choice in (
            [p for p in rested if p not in others],
            sorted((p for p in free if p not in others), key=lambda p: self._freed.get(p, 0.0)),
            rested,
            free,
        ):
            if choice:
                return choice[0]
        return None

    def claim(self, port: int, model_id: str) -> bool:
        """Hold a given port, for an adopted worker; False if another holds it."""
        if self._held.get(port, model_id) != model_id:
            return False
        self._hold(port, model_id)
        return True

    def free(self, port: int, now: float) -> None:
        """Give a port back; it rests first."""
        if self._held.pop(port, None) is not None:
            self._freed[port] = now

    def _hold(self, port: int, model_id: str) -> int:
        self._held[port] = model_id
        self._freed.pop(port, None)
        return port
