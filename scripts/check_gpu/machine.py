"""What is done on the machine: a pool of its own is started, models are loaded, memory is taken."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelpool_client import PoolClient
from modelpool_client.errors import ModelPoolError
from modelpool_worker.devices import report
from modelpool_worker.devices.nvidia import queries

from check_gpu import verdicts
from check_gpu.verdicts import MB, Check

SCRIPTS = Path(__file__).resolve().parent.parent
# Of the whole device, for the pool.
BUDGET_SHARE = 0.95
START_SECONDS = 60.0
LOAD_SECONDS = 180.0
HOG_SECONDS = 60.0
# What the hog leaves is less than any of our models needs.
HOG_LEAVES_BYTES = 150 * MB


def look() -> dict[str, Any]:
    """The devices as the worker program sees them."""
    return report()


def smi_answers() -> dict[str, str]:
    """What nvidia-smi says to each query that is asked of it."""
    return queries()


def make_model(folder: Path) -> Path:
    """A model of half a billion random weights: 390 MB, in a few seconds."""
    target = folder / "half-billion.gguf"
    command = [sys.executable, str(SCRIPTS / "make_bench_gguf.py"), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    return target


@contextlib.contextmanager
def pool(folder: Path, port: int, devices: list[dict[str, Any]]) -> Iterator[PoolClient]:
    """A pool whose budgets are nearly all of each device."""
    budgets = {d["id"]: int(d["total_bytes"] * BUDGET_SHARE / MB) for d in devices}
    config = {
        "port": port,
        "port_range": {"start": port + 1, "end": port + 8},
        "state_dir": str(folder / "state"),
        "device_memory_mb": budgets,
        "beat_seconds": 0.5,
        "min_residency_seconds": 0,
        "port_rest_seconds": 0,
    }
    file = folder / "pool.json"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "modelpool", "serve", "--config", str(file)]
    with (folder / "pool.log").open("wb") as log:
        manager = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
    try:
        with PoolClient(f"http://127.0.0.1:{port}", timeout=30) as client:
            _wait_for(client, manager)
            yield client
    finally:
        manager.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            manager.wait(60)
        manager.kill()
        manager.wait()


def _wait_for(client: PoolClient, manager: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(ModelPoolError):
            client.health()
            return
        if manager.poll() is not None or time.monotonic() > end:
            raise SystemExit("the pool did not start; see pool.log in the folder")
        time.sleep(0.2)


def check_engines(client: PoolClient) -> list[Check]:
    """Which engines there are; whether PyTorch sees the devices, where it is installed."""
    checks = [
        Check(f"engine {e.name}", "note", e.version or e.reason or "usable")
        for e in client.engines()
    ]
    code = "import torch; print(torch.__version__, torch.cuda.device_count())"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = asked.stdout.strip() or "not installed here"
    return [*checks, Check("torch", "note", said)]


def check_model(client: PoolClient, source: Path) -> list[Check]:
    """A model on all devices, on the first alone, and on none: layers, estimate, peak, the end."""
    checks, devices = [], client.devices()
    for name, wanted in (("all", None), ("first", [devices[0].id]), ("none", [])):
        before = {d.id: d.free_bytes or 0 for d in client.devices()}
        fields: dict[str, Any] = {} if wanted is None else {"devices": wanted}
        client.register(name, source=str(source), **fields)
        needs = {d: int(mb * MB) for d, mb in client.plan(name).needs["devices_mb"].items()}
        began = time.monotonic()
        client.load(name, wait=LOAD_SECONDS)
        text = str(client.chat(name, "hello", max_tokens=32))
        took, model = time.monotonic() - began, client.model(name)
        checks.append(verdicts.answered(name, text, model.fits.get("gpu_layers"), took))
        used = {d.id: d.ours_bytes for d in _after_a_beat(client)}
        if wanted is None:
            checks += verdicts.estimated(name, needs, used)
        else:
            checks.append(verdicts.pinned(wanted, used))
        client.unload(name)
        after = {d.id: d.free_bytes or 0 for d in client.devices()}
        checks += verdicts.given_back(before, after)
    return checks


def _after_a_beat(client: PoolClient) -> Any:
    time.sleep(2)  # a worker tells of its memory with its beats
    return client.devices()


def check_crowded(client: PoolClient, devices: list[dict[str, Any]]) -> list[Check]:
    """Another process takes the memory of the first device; then it gives it back."""
    name = "another process takes the memory"
    if devices[0]["vendor"] != "nvidia":
        return [Check(name, "note", "only tried with NVIDIA's driver")]
    command = [sys.executable, str(Path(__file__).with_name("hog.py")), str(HOG_LEAVES_BYTES)]
    pipes: Mapping[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as hog:
        said = hog.stdout.readline().strip()  # type: ignore[union-attr]
        if not said.isdigit():
            hog.communicate(timeout=HOG_SECONDS)
            return [Check(name, "note", f"it could not be taken: {said}")]
        client.devices()  # look again
        plan = client.plan("first")
        hog.communicate(timeout=HOG_SECONDS)
    client.devices()
    later = client.plan("first")
    back = Check("... and gives it back", "ok" if later.action == "start" else "fail", later.reason)
    return [verdicts.crowded(plan.action, plan.reason), back]
