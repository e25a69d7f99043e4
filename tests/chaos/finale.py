"""The end of a run: faults are healed, everything answers, everything goes, nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from e2e.helpers import until

from chaos import replies
from chaos.steps import SOUND
from chaos.world import REQUEST_SECONDS, World

Ending = Callable[[World], None]
FINALE: list[Ending] = []
SETTLE_SECONDS = 45.0  # longer than the gateway keeps a connection that nobody uses
SPARE_DESCRIPTORS = 4  # a connection kept alive here or there


def ending(check: Ending) -> Ending:
    """The next part of the end. It raises AssertionError when the rule is broken."""
    FINALE.append(check)
    return check


@ending
def every_request_has_ended(world: World) -> None:
    """With faults healed, every request that is still open ends."""
    world.heal(float("inf"))
    world.continue_all()
    world.clients_are_done()


@ending
def everything_answers(world: World) -> None:
    """Nothing is wedged: each sound model can be loaded and answers."""
    for model in SOUND:
        last: list[object] = []

        def answers(model: str = model, last: list[object] = last) -> bool:
            asked = world.request(model, "gateway")
            assert asked is not None
            reply = replies.send(asked, REQUEST_SECONDS)
            last[:] = [reply]
            return replies.verdict(reply) == "answer"

        try:
            until(answers, f"{model} to answer", SETTLE_SECONDS)
        except AssertionError as e:
            raise AssertionError(f"{e}; {last}, {world.view(model)}") from None


@ending
def everything_goes(world: World) -> None:
    """Every model can be unloaded, and then no worker process is left."""
    found = world.call("GET", "/models")[1]["models"]
    for model in found:
        world.call("POST", f"/models/{model['model_id']}/unload?wait=0", {"force": True})

    def is_over() -> bool:
        found = world.call("GET", "/models")[1]["models"]
        return all(m["state"] == "COLD" and not m["sleeping"] for m in found)

    until(is_over, "every model to be COLD", SETTLE_SECONDS)
    world.pool.assert_none_but_the_manager()


@ending
def no_reservation_is_left(world: World) -> None:
    """No bytes, no count and no port are held."""
    health = world.call("GET", "/health")[1]
    held = health["active_models"], health["total_memory_mb"]
    assert held == (0, 0), health
    assert health["available_ports"] == len(world.pool.ports), health


@ending
def no_descriptor_is_left(world: World) -> None:
    """The manager has as many open files and sockets as one that has done nothing yet."""
    limit = world.descriptors + SPARE_DESCRIPTORS
    until(lambda: world.manager().num_fds() <= limit, f"{limit} descriptors", SETTLE_SECONDS)


@ending
def no_record_is_left(world: World) -> None:
    """The journal names no worker, and no exit record lies about."""
    until(lambda: not world.journal(), f"an empty journal, not {world.journal()}")
    left = list((world.pool.state / "exits").iterdir())
    assert not left, left


@ending
def events_were_seen(world: World) -> None:
    """The events have told of every sound model up to its end: the check was not idle."""

    def missing() -> set[str]:
        return set(SOUND) - {m.model for m in world.watcher.moves if m.state == "COLD"}

    until(lambda: not missing(), f"the end of {missing()} to be told")


@ending
def nothing_is_left(world: World) -> None:
    """When the manager has been told to stop: no process, no port, no socket folder; and no log
    tells of a bug."""
    began = time.monotonic()
    world.close()
    world.counts[f"seconds to stop: {time.monotonic() - began:.0f}"] += 1
