"""The pure core on random messages: the rules hold, and planted faults are found."""

from __future__ import annotations

from typing import Any

import pytest

from simulation import planted
from simulation.core import Broken, run

SEEDS, STEPS = 10, 2_500
# What only shows in processes, adoption or the host is for the other simulation.
PLANTED = (
    planted.loses_a_waiter,
    planted.forgets_the_queue,
    planted.leaks_ports,
    planted.loses_a_release,
    planted.knows_no_limit,
    planted.tells_no_other_copy,
)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_rules_hold(seed: int) -> None:
    counts = run(seed, STEPS)
    assert counts["WARMING->HOT"] > 0


def test_a_seed_decides_everything() -> None:
    assert run(3, 1_000) == run(3, 1_000)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant: Any) -> None:
    with plant(), pytest.raises(Broken):
        run_all()


def run_all() -> None:
    for seed in range(SEEDS):
        run(seed, STEPS)
