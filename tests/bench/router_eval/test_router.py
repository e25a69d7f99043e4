"""What the router must reach on families that it was not made with. The full table, with intervals,
is ``scripts/router_eval``."""

from __future__ import annotations

import pytest

from . import development, held_out, training
from .evaluate import Report, evaluate
from .items import Item, all_items, difficulty
from .paraphrases import paraphrases
from .replay import replay
from .simulator import outcomes

COUNT = 12


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return all_items(held_out.FAMILIES, count=COUNT)


@pytest.fixture(scope="module")
def report(items: list[Item]) -> Report:
    return evaluate(items)


def test_the_gap_is_recovered(report: Report) -> None:
    assert report.apgr["router"] >= 0.65
    assert report.apgr["router"] > report.apgr["prompt length"] + 0.02
    assert report.apgr["oracle"] > report.apgr["router"]


def test_confidence_is_calibrated(report: Report) -> None:
    assert report.calibration <= 0.05


def test_paraphrases_seldom_flip_the_choice(report: Report) -> None:
    assert report.flips <= 0.10


def test_strategies_are_what_they_are_called(report: Report) -> None:
    rows = {row.name: row for row in report.rows}
    assert rows["quality"].quality >= rows["balanced"].quality > rows["random"].quality
    assert rows["cost"].cost < rows["balanced"].cost < rows["quality"].cost
    assert rows["balanced"].quality - rows["random"].quality > 0.05


def test_families_are_held_out_and_broad(items: list[Item]) -> None:
    sets = [
        {family.name for family in module.FAMILIES} for module in (training, development, held_out)
    ]
    assert len(set.union(*sets)) == sum(map(len, sets))
    assert len({item.task for item in items}) >= 8
    assert len({item.language for item in items}) >= 3
    seen = {
        item.prompt for module in (training, development) for item in all_items(module.FAMILIES)
    }
    assert not seen & {item.prompt for item in items}


def test_construction_and_outcomes_are_the_same_each_time(items: list[Item]) -> None:
    assert items == all_items(held_out.FAMILIES, count=COUNT)
    assert outcomes(items) == outcomes(items)
    assert all(0 <= item.difficulty < 1 for item in items)
    assert difficulty(steps=3) > difficulty(steps=2) > difficulty()


def test_harder_items_are_answered_less_often(items: list[Item]) -> None:
    chances = outcomes(items).chance
    easy = [c["small"] for c, item in zip(chances, items, strict=True) if item.difficulty < 0.3]
    hard = [c["small"] for c, item in zip(chances, items, strict=True) if item.difficulty > 0.6]
    assert sum(easy) / len(easy) > 0.9 > 0.6 > sum(hard) / len(hard)


def test_paraphrases_differ_from_the_original(items: list[Item]) -> None:
    for item in items[::20]:
        assert sum(text != item.prompt for text in paraphrases(item)) >= 3


def test_all_decisions_of_a_replay_are_explained() -> None:
    found = replay(decisions=200, models=300)
    assert found.unexplained == 0
    assert found.none < found.decisions / 2
