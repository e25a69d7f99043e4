"""PURE. What batches cost, found out from those that were computed, and how often items come."""

from __future__ import annotations

# Of what was seen so much is left after one more batch: some fifty of them count.
_KEPT = 0.98
_KEPT_GAPS = 0.9
_GROWTH = 2


class BatchCost:
    """A batch of ``n`` takes ``each * n + fixed`` seconds: least squares, the older the lighter.

    While all batches had one size nothing tells the two apart; ``fixed`` is taken for the whole of
    it by who asks whether waiting pays, which soon gives another size, and ``seconds`` counts the
    whole for each item, which promises too little.
    """

    def __init__(self) -> None:
        self._w = self._n = self._nn = self._s = self._ns = 0.0
        self._largest = 0

    @property
    def most_tried(self) -> int:
        """The largest batch that ``seconds`` may be asked about: twice the largest there was."""
        return max(1, _GROWTH * self._largest)

    def observed(self, size: int, seconds: float) -> None:
        """A batch took so long."""
        self._w = self._w * _KEPT + 1
        self._n = self._n * _KEPT + size
        self._nn = self._nn * _KEPT + size * size
        self._s = self._s * _KEPT + seconds
        self._ns = self._ns * _KEPT + size * seconds
        self._largest = max(self._largest, size)

    @property
    def each(self) -> float:
        """Seconds that an item adds; 0 while that is not known."""
        fit = self._fit()
        return fit[0] if fit is not None else 0.0

    @property
    def fixed(self) -> float:
        """Seconds that a batch takes beside its items; 0 before the first."""
        fit = self._fit()
        if fit is not None:
            return fit[1]
        return self._s / self._w if self._w else 0.0

    def seconds(self, size: int) -> float:
        """What a batch will take; 0 before the first."""
        fit = self._fit()
        if fit is not None:
            return fit[0] * size + fit[1]
        return self._s / self._n * size if self._n else 0.0

    def _fit(self) -> tuple[float, float] | None:
        if not self._w:
            return None
        spread = self._nn - self._n * self._n / self._w
        if spread < 1e-6 * self._nn:
            return None
        each = (self._ns - self._n * self._s / self._w) / spread
        # Neither is negative: what was measured errs.
        each = min(max(0.0, each), self._ns / self._nn)
        return each, max(0.0, (self._s - each * self._n) / self._w)


class Gaps:
    """How long it takes until the next item comes, by the last ten or so."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._mean: float | None = None

    def arrived(self, now: float) -> None:
        """One more."""
        if self._last is not None:
            gap = max(0.0, now - self._last)
            known = self._mean
            self._mean = gap if known is None else _KEPT_GAPS * known + (1 - _KEPT_GAPS) * gap
        self._last = now

    @property
    def expected(self) -> float:
        """Seconds; infinite while nothing is known."""
        return float("inf") if self._mean is None else self._mean
