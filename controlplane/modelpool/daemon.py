"""The pool in the background: ``make up`` and ``make down``."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
from modelpool_client import PoolClient, RetryPolicy
from modelpool_client.cli.render import restart_text
from modelpool_client.errors import ModelPoolError, Unavailable
from modelpool_client.http1.upstream import Upstream
from modelpool_client.types import ModelView
from modelpool_client.wire import DrainRequest
from rich.console import Console

from modelpool.catalog.store import Store
from modelpool.config import PoolConfig
from modelpool.launchers.local import LocalLauncher
from modelpool.log_reader import tail
from modelpool.pid_file import PidFile
from modelpool.pool.context import Settings
from modelpool.pool.worker import Worker
from modelpool.pool.worker_client import HttpWorkerClient, base_url
from modelpool.pool.workers import PoolIdentity, Workers
from modelpool.registrars.client import RegistryClient
from modelpool.registrars.registrars import Registrars
from modelpool.sockets import check_free

ANSWER_SECONDS = 60.0
LOOK_SECONDS = 0.1
WARM_UP_SECONDS = 600.0
STOP_MARGIN_SECONDS = 30.0
KILL_SECONDS = 5.0

console = Console(highlight=False, soft_wrap=True, markup=False)


class StartFailed(Unavailable):
    """The manager ended before it answered."""

    default_code = "start_failed"


def start(config: PoolConfig, file: Path | None) -> None:
    """Start the manager unless it runs, wait for its warm-up models, say what to try next. In a
    pool that ran already, one that was unloaded or evicted since is as its users want it.

    Raises:
        PortTaken: a stranger has the port.
        StartFailed: its folder cannot be written, the manager ended, with its last lines, or a
            warm-up model failed.
    """
    began = time.monotonic()
    _make_folder(config.state_dir)
    pid_file = PidFile(config.state_dir / "pool.pid")
    log = config.log_file
    with pid_file.alone():
        process = pid_file.process()
        is_new = process is None
        if process is not None:
            console.print(f"the pool runs already (process {process.pid})")
        else:
            check_free(config)
            process = _spawn(file, log)
            pid_file.write(process.pid)
    for warning in config.warnings:
        console.print(f"warning: {warning}")
    with PoolClient(base_url(config.host, config.port)) as client:
        _wait_for_answer(client, process, log)
        not_loaded = _wait_for_warm_up(client, process, log)
        failed = [m for m in not_loaded if is_new or not _was_let_go(client, m)]
        for model in not_loaded:
            if model not in failed:
                console.print(f"{model.model_id} is left as it is; `poolctl load` brings it back")
        _say_what_to_try(client, time.monotonic() - began)
    if failed:
        why = "; ".join(f"{m.model_id}: {m.reason}" for m in failed)
        raise StartFailed(f"the pool is up, but not every warm-up model is. {why}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        text = f"state_dir {folder} cannot be written: {e.strerror}; set it to a folder that can be"
        raise StartFailed(text) from None


def _spawn(file: Path | None, log: Path) -> psutil.Process:
    command = [sys.executable, "-m", "modelpool", "serve"]
    if file is not None:
        command += ["--config", str(file)]
    with log.open("ab") as out:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    return psutil.Process(child.pid)


def _wait_for_answer(client: PoolClient, process: psutil.Process, log: Path) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            client.health()
            return
        except ModelPoolError as e:
            if not _is_alive(process):
                lines = "\n  ".join(tail(log, 12))
                raise StartFailed(f"the manager ended at once; its last lines:\n  {lines}") from e
            if time.monotonic() > deadline:
                raise StartFailed(f"the manager does not answer; see {log}") from e
        time.sleep(LOOK_SECONDS)


def _is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _wait_for_warm_up(client: PoolClient, process: psutil.Process, log: Path) -> list[ModelView]:
    """Wait until nothing is under way with any warm-up model; those that are not loaded."""
    said = ""
    deadline = time.monotonic() + WARM_UP_SECONDS
    while _is_alive(process) and time.monotonic() < deadline:
        models = [m for m in client.models() if m.warmup]
        waiting = [m for m in models if _is_under_way(m)]
        text = ", ".join(f"{m.model_id} {m.state}" for m in waiting)
        if text and text != said:
            console.print(f"waiting for {text}")
            said = text
        if not waiting:
            _report(models)
            return [m for m in models if not m.is_loaded]
        time.sleep(LOOK_SECONDS)
    if _is_alive(process):
        raise StartFailed(f"not HOT after {WARM_UP_SECONDS:.0f} s: {said}; the load goes on")
    raise StartFailed(f"the manager ended; see {log}")


def _is_under_way(model: ModelView) -> bool:
    """It may still become HOT by itself; one that is COLD and waits for nothing was refused, or
    evicted by another."""
    is_queued = model.state == "COLD" and bool(model.waiting_for)
    return is_queued or model.state in ("WARMING", "UNLOADING")


def _was_let_go(client: PoolClient, model: ModelView) -> bool:
    """It is COLD after it was loaded; or never was, but nothing speaks against it."""
    if model.state != "COLD":
        return False
    return model.generation > 0 or client.plan(model.model_id).action != "refuse"


def _report(models: Iterable[ModelView]) -> None:
    for model in models:
        console.print(f"  {model.model_id}  {model.state}  {model.endpoint or model.reason}")


def _say_what_to_try(client: PoolClient, seconds: float) -> None:
    url = client.base_url
    ready = next((m for m in client.models() if m.is_loaded), None)
    console.print(f"\nThe pool is up after {seconds:.1f} s: {url}\n")
    if ready is not None:
        body = {
            "model": ready.model_id,
            "messages": [
                {"role": "user", "content": "Which port does the pool manager listen on?"}
            ],
        }
        console.print(f"Open {url} in a browser, or try:")
        console.print(f"  curl -s {url}/models")
        console.print(f"  curl -s {url}/v1/chat/completions -d '{json.dumps(body)}'")
        tool = Path(sys.executable).with_name("poolctl")
        console.print(f"  {tool} chat {ready.model_id} 'How do I load a model?'")
        console.print(f"  {tool} status")
    console.print("  make down    # ends it")


def restart(config: PoolConfig) -> bool:
    """Replace the manager that runs on this configuration's port. Whether all its workers go on.

    Raises:
        PoolUnreachable: nobody answers there.
    """
    with PoolClient(base_url(config.host, config.port), retry=RetryPolicy(attempts=1)) as client:
        done = client.restart()
    console.print(restart_text(done))
    return not done.lost


def stop(config: PoolConfig) -> None:
    """End the manager and its workers; also what a killed manager has left."""
    pid_file = PidFile(config.state_dir / "pool.pid")
    process = pid_file.process()
    if process is not None:
        console.print(f"stopping the pool (process {process.pid}); current work ends first")
        process.send_signal(signal.SIGTERM)
        _wait_for_end(process, config.graceful_shutdown_seconds + STOP_MARGIN_SECONDS)
    if pid_file.path.exists():
        with pid_file.alone():
            if pid_file.process() is None:  # or it is that of a pool that was just started
                pid_file.remove()
    left = asyncio.run(_end_leftovers(config)) if config.database.exists() else 0
    if left:
        console.print(f"ended {left} workers that a killed manager had left")
    console.print("the pool is down" if process or left else "the pool was not running")


def _wait_for_end(process: psutil.Process, seconds: float) -> None:
    if not _ends_within(process, seconds):
        console.print("it does not end: killing it")
        process.kill()
        if not _ends_within(process, KILL_SECONDS):
            console.print(f"process {process.pid} is still there; the kernel holds it")


def _ends_within(process: psutil.Process, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


async def _end_leftovers(config: PoolConfig) -> int:
    store, upstream = await Store.open(config.database), Upstream()
    try:
        ended = await _end_all(config, store, HttpWorkerClient(upstream, config.host))
        await _withdraw(config, store.pool_id)
        return ended
    finally:
        upstream.close()
        await store.close()


async def _withdraw(config: PoolConfig, pool_id: str) -> None:
    """What a killed manager has told of its workers is told no longer; failures are logged."""
    client = RegistryClient()
    nothing = Registrars(config.registrars, pool_id, client, dict, lambda *_, **__: None)
    await nothing.close()
    await client.close()


async def _end_all(config: PoolConfig, store: Store, client: HttpWorkerClient) -> int:
    launcher = LocalLauncher()
    identity = PoolIdentity(store.pool_id)
    workers = Workers(identity, Settings(config), launcher, client, store)
    ended = 0
    for row in await store.workers():
        process = await launcher.attach(row)
        if process is None:
            await launcher.sweep(row)
            await workers.forget(row)
            continue
        # Asked to drain first: a TERM to one that drains already would cut its work.
        worker = Worker(row, process)
        drains = await workers.drain(worker, DrainRequest(reason="the pool was taken down"))
        grace = config.graceful_shutdown_seconds
        is_draining = drains is not None
        await workers.stop(worker, cut=False, grace=grace, is_draining=is_draining)
        ended += 1
    return ended
