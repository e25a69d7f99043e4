"""What is told of whom, and the difference between what is listed and what should be."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.pool.states import State
from modelpool.registrars.pool_records import hot_records
from modelpool.registrars.record import Record, difference, read_record

SECRET = "s3cret-of-a-worker"


def record(record_id: str, **values: Any) -> Record:
    plain = {"model": "m", "engine": "fake", "host": "127.0.0.1", "port": 8051, "pool": "p"}
    return Record(**{"id": record_id, "node": "n", "started_at": "t", **plain, **values})


def status(state: State, worker_id: str = "w", port: int = 8051, model: str = "m") -> Any:
    entry = SimpleNamespace(model_id=model, engine="fake", aliases=("a",), capabilities=("chat",))
    row = SimpleNamespace(started_at=0.0, secret=SECRET)
    worker = SimpleNamespace(record=row, port=port) if state.has_worker else None
    return SimpleNamespace(state=state, worker_id=worker_id, model=entry, worker=worker)


ids = st.sampled_from("abcdef")
records = st.dictionaries(ids, st.sampled_from(["x", "y"])).map(
    lambda found: {i: record(i, model=model) for i, model in found.items()}
)
listings = st.dictionaries(ids, st.sampled_from(["x", "y", None])).map(
    lambda found: {i: model and record(i, model=model) for i, model in found.items()}
)


@given(records, listings)
def test_the_difference_makes_the_registry_right(
    wanted: dict[str, Record], found: dict[str, Record | None]
) -> None:
    changes = difference(wanted, found)
    after = {i: r for i, r in found.items() if i not in changes.remove}
    after |= {r.id: r for r in changes.put}
    assert after == wanted
    assert {r.id for r in changes.keep} == {i for i in wanted if found.get(i) == wanted[i]}
    touched = [*changes.remove, *(r.id for r in changes.put), *(r.id for r in changes.keep)]
    assert len(touched) == len(set(touched)) == len({*wanted, *found})


@given(records)
def test_what_is_right_is_only_renewed(wanted: dict[str, Record]) -> None:
    changes = difference(wanted, wanted)
    assert (changes.remove, changes.put) == ((), ())
    assert {r.id for r in changes.keep} == set(wanted)


@pytest.mark.parametrize("state", list(State))
def test_only_hot_workers_are_told_of(state: State) -> None:
    found = hot_records([status(state)], "127.0.0.1", "pool", "node")
    assert set(found) == ({"w"} if state is State.HOT else set())


def test_two_replicas_of_a_model_are_two_records() -> None:
    statuses = [status(State.HOT, "one", 8051), status(State.HOT, "two", 8052)]
    found = hot_records(statuses, "127.0.0.1", "pool", "node")
    assert {i: r.url for i, r in found.items()} == {
        "one": "http://127.0.0.1:8051",
        "two": "http://127.0.0.1:8052",
    }


def test_a_record_says_what_a_client_needs_and_no_secret() -> None:
    found = hot_records([status(State.HOT)], "::1", "pool", "node")["w"]
    said = found.as_dict()
    assert found.url == "http://[::1]:8051"
    assert set(said) >= {"id", "model", "aliases", "engine", "host", "port", "scheme", "base_path"}
    assert set(said) >= {"state", "pool", "node", "version", "started_at"}
    assert (said["state"], said["started_at"]) == ("HOT", "1970-01-01T00:00:00.000+00:00")
    assert SECRET not in json.dumps(said)


@given(st.text(), st.lists(st.text()), st.integers(1, 65535))
def test_a_record_survives_its_way(model: str, aliases: list[str], port: int) -> None:
    told = record("a", model=model, aliases=tuple(aliases), port=port)
    assert read_record(json.loads(json.dumps(told.as_dict()))) == told


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"id": "a"}, record("a").as_dict() | {"more": 1}, {"id": []}],
)
def test_what_we_would_not_have_written_is_no_record(data: object) -> None:
    assert read_record(data) is None
