"""The soak's arithmetic, and one short real run; how flat it is takes minutes to say."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from e2e.helpers import fake
from e2e.support import PoolProcess

from chaos import models
from chaos.soak import KEYS, MODELS, Gate, Sample, Soak, Verdict, slope


def samples(mb_per_minute: float, descriptors: tuple[int, ...] = (19,)) -> list[Sample]:
    """Nine minutes; in the first third the manager fills what it will keep."""
    warm = [Sample(n / 10, 40 + n, 30, n) for n in range(30)]
    late = [
        Sample(n / 10, 70 + mb_per_minute * n / 10, descriptors[n % len(descriptors)], n)
        for n in range(31, 91)
    ]
    return warm + late


def test_the_slope_is_that_of_the_best_line() -> None:
    zigzag = [Sample(n, 50 + 0.25 * n + (-1) ** n, 19, n) for n in range(100)]
    assert slope(zigzag) == pytest.approx(0.25, abs=0.01)


def test_what_is_filled_in_the_first_third_does_not_count() -> None:
    verdict = Verdict.of(samples(0.09))
    assert verdict.mb_per_minute == pytest.approx(0.09)
    assert verdict.descriptors == (19, 19)
    assert verdict.is_flat


def test_memory_that_grows_is_found() -> None:
    assert not Verdict.of(samples(0.11)).is_flat
    assert "IT GROWS" in str(Verdict.of(samples(0.11)))


def test_descriptors_that_differ_are_found() -> None:
    assert not Verdict.of(samples(0, (19, 22))).is_flat


def test_a_closed_gate_has_nobody_inside() -> None:
    gate, inside, is_done = Gate(), threading.Event(), threading.Event()

    def actor() -> None:
        with gate.round():
            inside.set()
            is_done.wait(60)

    thread = threading.Thread(target=actor)
    thread.start()
    assert inside.wait(60)
    threading.Timer(0.05, is_done.set).start()
    with gate.closed():
        assert gate.rounds == 1
    thread.join(60)


@pytest.mark.e2e
def test_a_few_seconds_of_it(tmp_path: Path) -> None:
    entries = [fake(model, options=models.SOUND[model]) for model in MODELS]
    with PoolProcess(tmp_path, entries, ports=12, **KEYS) as pool:
        # Each actor has more than a turn.
        found = Soak(pool).run(0.08, lambda sample: None, rounds=8)
    assert found[-1].rounds >= 8
    assert found[-1].mb > 10
