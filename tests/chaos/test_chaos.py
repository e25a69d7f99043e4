"""The short form of ``make chaos``: one seed, one deck: every kind of step at least once."""

from __future__ import annotations

import pytest

from chaos.driver import KINDS, run

SEED = 35
STEPS = sum(kind.weight for kind in KINDS)


@pytest.mark.e2e
@pytest.mark.slow
def test_every_rule_holds() -> None:
    tally = run(SEED, STEPS)
    print(*tally.lines(), sep="\n")
    assert set(tally.steps) == {kind.name for kind in KINDS}
    assert tally.outcomes["gateway: answer"] + tally.outcomes["direct: answer"] > 0
