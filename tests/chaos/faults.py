"""What goes wrong: processes die, stop and hang, ports are stolen, clocks jump, disks fill up."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import httpx
import psutil
from e2e.helpers import free_block, marked

from chaos import models
from chaos.rules import Missed
from chaos.steps import SOUND, asleep, outcome, step
from chaos.watcher import run_of
from chaos.world import REQUEST_SECONDS, World

RIVAL_SECONDS = 60.0
WHO = ("worker_pid", "engine_pid")


@step("kill", 4, model=SOUND, who=WHO, is_busy=(True, False))
def kill(world: World, _: int, model: str, who: str, is_busy: bool) -> str:
    view = busied(world, model) if is_busy else world.raised(model)
    pid = view.get(who)
    if not pid:
        return "nobody to kill"
    world.hurt(view, who)
    return f"killed {pid}" if world.signal(pid, SIGKILL) else "gone before"


@step("kill-while-loading", 2, who=WHO)
def kill_while_loading(world: World, _: int, who: str) -> str:
    model = "org/slow:7b"
    world.call("POST", f"/models/{model}/unload?wait=3", {"force": True})
    world.call("POST", f"/models/{model}/load")
    end = time.monotonic() + 5
    view = world.view(model)
    while not view[who] and time.monotonic() < end:
        time.sleep(0.05)
        view = world.view(model)
    pid = view[who]
    if not pid:
        return "nobody to kill"
    world.hurt(view, who)
    return f"killed {pid}" if world.signal(pid, SIGKILL) else "gone before"


@step("hiccup", 2, model=SOUND, who=WHO, seconds=(0.2, 1.0))
def hiccup(world: World, _: int, model: str, who: str, seconds: float) -> str:
    """Stopped for a moment: it must go on as if nothing had been."""
    pid = busied(world, model).get(who)
    if not pid or not world.signal(pid, SIGSTOP):
        return "nobody to stop"
    time.sleep(seconds)
    world.signal(pid, SIGCONT)
    return f"stopped {pid} and let it go on"


@step("hang", 3, model=SOUND, who=WHO, is_busy=(True, False))
def hang(world: World, _: int, model: str, who: str, is_busy: bool) -> str:
    """Stopped for good: the pool must notice, at the latest when it has something to do."""
    view = busied(world, model) if is_busy else world.raised(model)
    pid = view.get(who)
    if not pid:
        return "nobody to stop"
    world.hurt(view, "worker_pid")  # to end it takes a KILL to its whole group
    if not world.signal(pid, SIGSTOP):
        return "gone before"
    return f"stopped {pid} for good"


@step("hurt-asleep", 2, who=WHO, how=("kill", "hang"), is_asked=(True, False))
def hurt_asleep(world: World, _: int, who: str, how: str, is_asked: bool) -> str:
    """A front or an engine dies or is stopped while it sleeps; it is noticed by the next request,
    or without one."""
    if not asleep(world):
        return "it does not sleep"
    view = world.view(models.DROWSY)
    pid = view.get(who)
    if not pid:
        return "nobody to hurt"
    world.hurt(view, "worker_pid" if how == "hang" else who)
    if not world.signal(pid, SIGKILL if how == "kill" else SIGSTOP):
        return "gone before"
    if is_asked:
        asked = world.request(models.DROWSY, "gateway")
        assert asked is not None
        world.ask(asked)
    return f"{how} of {pid}, asleep"


@step("kill-manager", 3, moment=("quiet", "streaming", "loading", "unloading", "asleep"))
def kill_manager(world: World, _: int, moment: str) -> str:
    """Whatever it was doing, the next one has the same workers, and direct streams go on."""
    view = world.raised("steady")
    asked = world.request("long", "direct", is_stream=True) if moment == "streaming" else None
    client = world.ask(asked) if asked else None
    if moment == "loading":
        world.call("POST", "/models/org/slow:7b/load")
    if moment == "unloading":
        world.call("POST", "/models/swift/unload?wait=0", {})
    if moment == "asleep":
        asleep(world)
    settled = settled_workers(world)
    world.signal(world.pool.pid, SIGSTOP)  # else it could still end a lease
    expected = [m for m in settled if m["sleeping"] or says_ready(m["port"])]
    world.restart()
    missed = [m for m in expected if not is_adopted(world, m["model_id"], m["generation"])]
    gone, back = world.deaths[-1]
    world.unadopted += [
        Missed(
            f"{m['model_id']} generation {m['generation']}, front {m['worker_pid']}", back - gone
        )
        for m in missed
    ]
    if asked and client:
        client.join()
        last = next(r for r in reversed(world.replies) if r.request is asked)
        # Whose front or engine was hurt before is replaced meanwhile, under either manager.
        if last.kind not in ("whole", "refused") and asked.front not in world.doomed:
            world.severed.append(str(last))
    return f"{len(expected)} workers to adopt, {len(missed)} missed, steady was {view.get('state')}"


def settled_workers(world: World) -> list[dict[str, Any]]:
    """What is seen of the models whose workers a new manager has no reason to end."""
    found = world.call("GET", "/models")[1]["models"]
    if any(m["waiting_for"] not in ("", "the load") for m in found):
        return []  # somebody may be leaving at this very moment, to make room
    hot = [m for m in found if m["state"] == "HOT" and m["model_id"] in SOUND]
    hot += [m for m in found if m["sleeping"]]
    return [m for m in hot if m["worker_pid"] not in world.doomed]


def says_ready(port: int) -> bool:
    """The worker on that port, which was not told to leave."""
    with contextlib.suppress(httpx.HTTPError):
        url = f"http://127.0.0.1:{port}/health"
        answer = httpx.get(url, timeout=REQUEST_SECONDS, trust_env=False)
        return bool(answer.json()["status"] == "ready")
    return False


def is_adopted(world: World, model: str, generation: int) -> bool:
    """The new manager told so as it started."""
    events = world.pool.events()
    now = run_of(events[-1])
    told = [e for e in events if e["event"] == "model-adopted" and run_of(e) == now]
    return (model, generation) in [(e["model_id"], e["generation"]) for e in told]


@step("rival", 1)
def rival(world: World, _: int) -> str:
    """A second manager on the same database must not start, nor harm the first."""
    environment = {**world.pool.environment, "MODELPOOL_PORT": str(free_block(1))}
    command = [sys.executable, "-m", "modelpool", "serve", "--config", str(world.pool.config)]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=RIVAL_SECONDS, check=False
    )
    assert run.returncode != 0, "a second manager has run"
    return f"refused: {run.stderr.strip()[-60:]}"


@step("steal-ports", 2, count=(1, 3, 6), steps=(1, 3))
def steal_ports(world: World, number: int, count: int, steps: int) -> str:
    """Somebody else listens where the next workers would."""
    stolen = []
    for port in world.pool.ports:
        if len(stolen) < count and (thief := listening(port)):
            stolen.append(thief)

    def give_back() -> None:
        for thief in stolen:
            thief.close()

    world.heal_after(number + steps, give_back)
    world.call("POST", "/models/single/load")
    return f"{len(stolen)} ports stolen"


def listening(port: int) -> socket.socket | None:
    thief = socket.socket()
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        thief.bind(("127.0.0.1", port))
        thief.listen()
    except OSError:
        thief.close()
        return None
    return thief


@step("step-clock", 2, seconds=(-86_400, -2, 3600, 86_400))
def step_clock(world: World, _: int, seconds: int) -> str:
    """The wall clock jumps. Nothing that counts time may mind, and it stays that way."""
    clock = world.pool.clock
    now = float(clock.read_text()) if clock.exists() else 0.0
    fresh = clock.with_suffix(".new")
    fresh.write_text(str(now + seconds))
    os.replace(fresh, clock)
    return f"{now + seconds:+.0f} s from true time"


@step("fill-disk", 2, steps=(1, 2, 4))
def fill_disk(world: World, number: int, steps: int) -> str:
    """Every write of the manager to a file fails, and of what it starts meanwhile."""
    limit_files(world, 0)
    world.heal_after(number + steps, lambda: limit_files(world, psutil.RLIM_INFINITY))
    status, _body = world.call("POST", "/models/register", models.entry("org/full:1b", {}))
    if status == 201:
        world.call("DELETE", "/models/org/full:1b")
    world.call("POST", "/models/swift/load?wait=2")
    return f"writes fail, a registration is answered {status}"


def limit_files(world: World, size: int) -> None:
    """The size that files may have is what can be limited without root."""
    for process in marked(world.pool.mark):
        if size == 0 and process.pid != world.pool.pid:
            continue
        try:
            _, most = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (size, most))
        except psutil.Error:
            continue


@step("press-memory", 2, how=("short", "waiting"), steps=(1, 3))
def press_memory(world: World, number: int, how: str, steps: int) -> str:
    """Other programs take the memory of the host: idle models go, and nothing new fits."""
    if how == "short":
        world.tell_memory(available_mb=50)
    else:
        world.tell_memory(waiting_percent=80)
    world.heal_after(number + steps, world.tell_memory)
    status, body = world.call("POST", "/models/steady/load?wait=2")
    return f"a load is answered: {outcome(status, body)}"


def busied(world: World, model: str) -> dict[str, Any]:
    """The view of a model that is answering a direct and a relayed stream, or nothing."""
    for way in ("direct", "gateway"):
        asked = world.request(model, way, is_stream=True)
        if asked is not None:
            world.ask(asked)
    end = time.monotonic() + 2
    view = world.view(model)
    while not view["in_flight"] and time.monotonic() < end:
        view = world.view(model)
    return view
