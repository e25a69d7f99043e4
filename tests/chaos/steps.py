"""What a client or an operator does to a pool. Each step says in a few words what came of it.

The arguments of ``step`` are the choices that the plan has. Faults are in ``faults``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from chaos import models
from chaos.plan import Kind
from chaos.world import KEYS, World

Act = Callable[..., str]
KINDS: list[Kind] = []

SOUND = (*models.SOUND, models.DEMO)
ANY = (*SOUND, *SOUND, *models.BAD)
STREAM_OR_NOT = (True, False)
DOZE_SECONDS = 8.0  # the lease, the longest grace of a patch, and a little


def step(name: str, weight: int, **choices: Sequence[Any]) -> Callable[[Act], Act]:
    """Make a function ``(world, number, **arguments)`` a kind of step."""

    def add(act: Act) -> Act:
        KINDS.append(Kind(name, weight, choices, act))
        return act

    return add


@step("load", 4, model=ANY, wait=(0, 0, 3))
def load(world: World, _: int, model: str, wait: int) -> str:
    status, body = world.call("POST", f"/models/{model}/load?wait={wait}")
    return outcome(status, body)


@step("unload", 3, model=ANY, force=(True, False), wait=(0, 3))
def unload(world: World, _: int, model: str, force: bool, wait: int) -> str:
    status, body = world.call("POST", f"/models/{model}/unload?wait={wait}", {"force": force})
    return outcome(status, body)


@step("request", 6, model=ANY, stream=STREAM_OR_NOT)
def request(world: World, _: int, model: str, stream: bool) -> str:
    asked = world.request(model, "gateway", is_stream=stream)
    assert asked is not None
    world.ask(asked)
    return "sent"


@step("direct-request", 4, model=SOUND, stream=STREAM_OR_NOT)
def direct_request(world: World, _: int, model: str, stream: bool) -> str:
    asked = world.request(model, "direct", is_stream=stream)
    if asked is None:
        return "it has no worker"
    world.ask(asked)
    return f"sent to port {asked.port}"


@step("leave", 3, model=("long", "steady", models.DEMO), way=("gateway", "direct"))
def leave(world: World, _: int, model: str, way: str) -> str:
    asked = world.request(model, way, is_stream=True, leaves=True)
    if asked is None:
        return "it has no worker"
    world.ask(asked)
    return "will leave in the middle"


@step("crowd", 2, stream=STREAM_OR_NOT)
def crowd(world: World, _: int, stream: bool) -> str:
    for model in SOUND:
        asked = world.request(model, "gateway", is_stream=stream)
        assert asked is not None
        world.ask(asked)
    return f"{len(SOUND)} models asked for, more than fit"


@step("extend", 2, model=SOUND, minutes=(0.05, 5))
def extend(world: World, _: int, model: str, minutes: float) -> str:
    status, body = world.call("POST", f"/models/{model}/extend-ttl", {"minutes": minutes})
    return outcome(status, body)


@step(
    "patch",
    2,
    change=(
        {"default_ttl_minutes": 0.02},
        {"default_ttl_minutes": 0.3},
        {"grace_minutes": 0.01},
        {"grace_minutes": 0.1},
        {"auto_unload": False},
        {"auto_unload": True},
        {"port_range": {"start": 1, "end": 2}},
        {"stream_ping_seconds": -1},
    ),
)
def patch(world: World, _: int, change: dict[str, Any]) -> str:
    status, body = world.call("PATCH", "/config", change)
    return outcome(status, body)


@step("register", 2, model=models.GUESTS)
def register(world: World, _: int, model: str) -> str:
    status, body = world.call("POST", "/models/register", models.entry(model, {}))
    if status == 201:
        world.call("POST", f"/models/{model}/load?wait=0")
    return outcome(status, body)


@step("delete", 2, model=models.GUESTS)
def delete(world: World, _: int, model: str) -> str:
    status, body = world.call("DELETE", f"/models/{model}")
    return outcome(status, body)


@step("doze", 2)
def doze(world: World, _: int) -> str:
    """A model falls asleep when its lease is over, if it is left alone for so long."""
    return f"asleep for {seen['memory_mb']} MB" if (seen := asleep(world)) else "it does not sleep"


@step("wake", 2, stream=STREAM_OR_NOT)
def wake(world: World, _: int, stream: bool) -> str:
    """By several requests at once."""
    is_asleep = bool(asleep(world))
    for _i in range(3):
        asked = world.request(models.DROWSY, "gateway", is_stream=stream)
        assert asked is not None
        world.ask(asked)
    return "sent to one asleep" if is_asleep else "sent to one awake"


@step("end-sleep", 1, how=("unload", "time", "none may"))
def end_sleep(world: World, _: int, how: str) -> str:
    if not asleep(world):
        return "it does not sleep"
    if how == "unload":
        return outcome(*world.call("POST", f"/models/{models.DROWSY}/unload?wait=3", {}))
    key, value = ("sleep_minutes", 0.001) if how == "time" else ("max_sleeping_models", 0)
    status, body = world.call("PATCH", "/config", {key: value})
    end = time.monotonic() + DOZE_SECONDS
    while (is_asleep := world.view(models.DROWSY)["sleeping"]) and time.monotonic() < end:
        time.sleep(0.05)
    world.call("PATCH", "/config", {key: KEYS[key]})
    return f"{outcome(status, body)}: {'it sleeps on' if is_asleep else 'unloaded'}"


def asleep(world: World) -> dict[str, Any]:
    """What is seen of the model that sleeps, once it does; nothing where it is kept awake or is
    not loaded at all. Others go on being asked meanwhile."""
    if not world.view(models.DROWSY)["sleeping"]:
        world.raised(models.DROWSY)
    end = time.monotonic() + DOZE_SECONDS
    while not (seen := world.view(models.DROWSY)["sleeping"]) and time.monotonic() < end:
        time.sleep(0.05)
    return dict(seen or {})


@step("listen", 1, path=("/events", "/models/swift/logs?follow=true"))
def listen(world: World, _: int, path: str) -> str:
    with world.pool.http.stream("GET", path) as answer:
        return f"left after {next(answer.iter_bytes())[:20]!r}"


@step("look", 1, path=("/metrics", "/statistics", "/engines", "/registry", "/v1/models"))
def look(world: World, _: int, path: str) -> str:
    answer = world.pool.http.get(path)
    return f"{answer.status_code}, {len(answer.content)} bytes"


@step("pause", 3, seconds=(0.2, 0.5, 1.5))
def pause(world: World, _: int, seconds: float) -> str:
    """Leases run out meanwhile."""
    time.sleep(seconds)
    return "waited"


def outcome(status: int, body: Any) -> str:
    """A management answer in a few words."""
    if status < 400:
        return f"{status} {body.get('message', '')}".rstrip()
    error = body.get("error") or {}
    return f"{status} {error.get('code')}"
