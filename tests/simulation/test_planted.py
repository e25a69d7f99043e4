"""A fault that is planted is found within a few seeds, and its seed shows it again."""

from __future__ import annotations

import pytest

from simulation.driver import SeedFailed, run
from simulation.planted import PLANTED, Plant, starves

SEEDS = range(40)
STEPS = 100


def play(plant: Plant, seed: int, steps: int) -> None:
    """Only who starves is not seen before the end, where everybody asks at once."""
    with plant():
        run(seed, steps, has_finale=plant is starves)


def first_failure(plant: Plant) -> SeedFailed:
    for seed in SEEDS:
        try:
            play(plant, seed, STEPS)
        except SeedFailed as e:
            return e
    raise AssertionError("it was not found")


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_fault_is_found_and_its_seed_replays(plant: Plant) -> None:
    found = first_failure(plant)
    with pytest.raises(SeedFailed) as again:
        play(plant, found.seed, STEPS)
    assert (again.value.step, again.value.why) == (found.step, found.why)
    assert again.value.lines == found.lines
    with pytest.raises(SeedFailed) as shorter:
        play(plant, found.seed, found.step)
    assert shorter.value.rule == found.rule
