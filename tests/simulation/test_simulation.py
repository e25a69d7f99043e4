"""A short simulation, and that a seed is all that decides it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.driver import run
from simulation.planted import PLANTED
from simulation.rules import DESCRIBED
from simulation.steps import STEPS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("seed", range(8))
def test_every_rule_holds(seed: int) -> None:
    report = run(seed, 250)
    assert report.steps == 250
    assert report.events["COLD->WARMING"]


def test_a_seed_decides_everything_in_another_process_too() -> None:
    def digest(hash_seed: str) -> str:
        command = [sys.executable, str(ROOT / "scripts/simulate"), "--seed", "5", "--steps", "120"]
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split()[-1]

    assert digest("1") == digest("2") == run(5, 120).digest
    assert run(6, 120).digest != run(5, 120).digest


def test_every_rule_step_and_planted_fault_is_described() -> None:
    text = (ROOT / "docs/testing.md").read_text()
    described = [*DESCRIBED, *(step.act for step in STEPS), *PLANTED]
    missing = [thing.__name__ for thing in described if f"`{thing.__name__}`" not in text]
    assert not missing
    assert all(thing.__doc__ for thing in described)
