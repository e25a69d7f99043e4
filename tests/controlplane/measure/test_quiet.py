"""When a machine is quiet enough to be measured on."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from modelpool.catalog.model import Model, is_trial, trial_id
from modelpool.measure.quiet import Served, disturbance, unseen_requests
from modelpool.pool.replica import Replica
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus, status_of
from modelpool_client.wire import Facts, Phase


def status(
    model_id: str, state: State = State.HOT, direct: int = 0, **values: Any
) -> ReplicaStatus:
    found = status_of(Replica(Model(model_id, "fake", "none"), state=state))
    facts = Facts("w", "p", 1, 1, Phase.READY, 1, 1, in_flight=9, direct=direct)
    return dataclasses.replace(found, facts=facts, **values)


@pytest.mark.parametrize(
    ("statuses", "own", "said"),
    [
        ([], {}, ""),
        ([status("m")], {"m": 0}, ""),
        ([status("m", granted=4)], {"m": 4}, ""),
        ([status("m", granted=2, waiting=2)], {"m": 4}, ""),
        ([status("m", granted=5)], {"m": 4}, "a client asks for m"),
        ([status("m", waiting=1)], {"m": 0}, "a client asks for m"),
        ([status("m", direct=1)], {"m": 0}, "a client asks for m"),
        ([status("m"), status("b", granted=1)], {"m": 0}, "b is at work"),
        ([status("b", granted=1), status("a", granted=1)], {"m": 0}, "a and b are at work"),
        ([status("b", State.WARMING)], {"m": 0}, "b is being loaded or unloaded"),
        ([status("b", State.UNLOADING)], {"m": 0}, "b is being loaded or unloaded"),
        ([status("b", State.COLD, waiting=1)], {"m": 0}, "b is at work"),
        ([status("m", State.WARMING)], {"m": 0}, ""),
        ([status("m", granted=1), status("m", granted=1)], {"m": 2}, ""),
    ],
)
def test_what_would_spoil_a_measurement(
    statuses: list[ReplicaStatus], own: dict[str, int], said: str
) -> None:
    assert disturbance(statuses, own, "m") == said


HAD = {"w1": Served("m", 10), "w2": Served("b", 3), "w3": Served("c", None)}


@pytest.mark.parametrize(
    ("after", "made", "said"),
    [
        ({}, {}, ""),
        ({}, {"m": 4}, ""),
        ({"w1": 14}, {"m": 4}, ""),
        ({"w1": 15}, {"m": 4}, "a client asked for m"),
        ({"w1": 15, "w2": 4}, {"m": 4}, "a client asked for m"),
        ({"w2": 4}, {"m": 4}, "b answered meanwhile"),
        ({"w2": 4, "w4": 1}, {}, "b and d answered meanwhile"),
        # What was started in between had nothing before; of c nobody knows.
        ({"w4": 2}, {"d": 2}, ""),
        ({"w4": 3}, {"d": 2}, "d answered meanwhile"),
        ({"w3": 9}, {}, ""),
        ({"w2": None}, {}, ""),
        # A worker that ended took what it had with it.
        ({"w1": None, "w5": 4}, {"m": 6}, ""),
    ],
)
def test_requests_too_short_to_be_seen_are_counted(
    after: dict[str, int | None], made: dict[str, int], said: str
) -> None:
    names = {"w1": "m", "w2": "b", "w3": "c", "w4": "d", "w5": "m"}
    now = {**HAD, **{w: Served(names[w], n) for w, n in after.items()}}
    assert unseen_requests(HAD, now, made, "m") == said


def test_names_of_trials_are_nobody_elses() -> None:
    names = [trial_id("a/b:7b", n) for n in (1, 10, 123)]
    assert all(map(is_trial, names))
    assert not any(is_trial(name) for name in ("a/b:7b", "m#2", "m#10", "m#", "m#0x", "m"))
