"""Commands that say what works here and what does not: doctor, devices, version."""

from __future__ import annotations

import platform
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from modelpool_client import __version__
from modelpool_client import _calls as calls
from modelpool_client._sync import PoolClient
from modelpool_client.cli import render
from modelpool_client.cli.session import exit_code, session
from modelpool_client.errors import ModelPoolError
from modelpool_client.types import DeviceView, EngineView
from modelpool_client.wire import encode

MANAGER_PORT = 8050
WORKER_PORTS = range(8051, 8100)
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Check:
    """One thing looked at, and what to do about it if it is not as it should be."""

    name: str
    result: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    for command in (devices, doctor, version):
        app.command()(command)


def devices(ctx: typer.Context) -> None:
    """List the GPUs of the pool's machine, with what is free of each and who holds the rest."""
    s, call = session(ctx), calls.devices()
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: render.devices_table(call.parse(document)))


def version(ctx: typer.Context) -> None:
    """Show the versions of this program and of the pool."""
    s = session(ctx)
    with s.client() as pool:
        try:
            of_pool = pool.health().version or "not told"
        except ModelPoolError as e:
            of_pool = e.message
    document = {"poolctl": __version__, "pool": of_pool, "python": platform.python_version()}
    s.show(document, lambda: render.pairs(document))


def doctor(ctx: typer.Context) -> None:
    """Look for what could be wrong, with the pool up or down."""
    s = session(ctx)
    checks, code = [_python()], 0
    with s.client() as pool:
        try:
            checks += _pool_checks(pool)
        except ModelPoolError as e:
            code = exit_code(e)
            checks += [Check("pool", "fail", e.message), _server_parts(), _ports()]
    code = code or int(any(c.result == "fail" for c in checks))
    s.show({"ok": code == 0, "checks": encode(checks)}, lambda: _table(checks))
    raise typer.Exit(code)


def _pool_checks(pool: PoolClient) -> list[Check]:
    health = pool.health()
    checks = [Check("pool", "ok", f"{pool.base_url}: {render.health_line(health)}")]
    checks += [_versions(health.version), _free_ports(health.available_ports)]
    checks += [_config(pool.config()), *_engines(pool), *_devices(pool)]
    return checks


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    is_old = sys.version_info < (3, 11)
    return Check("python", "fail" if is_old else "ok", found, "3.11 or later" if is_old else "")


def _versions(of_pool: str) -> Check:
    if not of_pool:
        return Check("versions", "warn", f"poolctl {__version__}; the pool does not tell its own")
    found = f"poolctl {__version__}, pool {of_pool}"
    if of_pool == __version__:
        return Check("versions", "ok", found)
    return Check("versions", "warn", found, "install the same version on both sides")


def _free_ports(count: int) -> Check:
    advice = "" if count else "unload a model: `poolctl unload MODEL`"
    return Check("ports", "ok" if count else "warn", f"{count} free for workers", advice)


def _config(config: dict[str, Any]) -> Check:
    shown = {k: config[k] for k in ("max_concurrent_models", "memory_limit_mb") if k in config}
    found = ", ".join(f"{k} {v}" for k, v in shown.items()) or f"{len(config)} keys"
    return Check("config", "ok", found)


def _engines(pool: PoolClient) -> list[Check]:
    document = pool.fetch(calls.engines(refresh=True))
    found = calls.engines().parse(document)
    # What nobody asks for is no trouble; a plug-in that was installed is to work.
    wanted = {model.engine for model in pool.models()}
    missing = [e for e in found if not e.usable and not e.is_plugin and e.name not in wanted]
    checks = [_engine(e) for e in found if e not in missing]
    if missing:
        names = ", ".join(e.name for e in missing)
        found_text = (
            f"not here, and no model needs them: {names}; `poolctl engines` says how to get one"
        )
        checks.append(Check("other engines", "ok", found_text))
    checks += [_environment(e) for e in document.get("environments", ())]
    if not any(e.usable for e in found):
        checks.append(Check("engines", "fail", "none is usable", "install one of the above"))
    return checks


def _environment(environment: Mapping[str, Any]) -> Check:
    name, reason = f"environment {environment['name']}", str(environment.get("reason", ""))
    if not environment.get("usable"):
        return Check(name, "warn", reason)
    return Check(name, "warn" if reason else "ok", reason or str(environment.get("python", "")))


def _devices(pool: PoolClient) -> list[Check]:
    """What is seen; for each vendor whose cards are there and cannot be used, why."""
    document = pool.fetch(calls.devices())
    found = calls.devices().parse(document)
    checks = [_device(device) for device in found]
    budgets = document.get("budgets_mb", {})
    for name in sorted(budgets.keys() - {d.id for d in found}):
        text = f"device_memory_mb has {budgets[name]} MB for it, but it is not seen"
        checks.append(Check(f"device {name}", "warn", text, "see the names above"))
    vendors = [v for v in document.get("vendors", ()) if v.get("hint")]
    checks += [Check(f"devices by {v['name']}", "warn", v["reason"], v["hint"]) for v in vendors]
    if not checks:
        checks.append(Check("devices", "ok", "no GPU: models are computed by the processor"))
    return checks


def _device(device: DeviceView) -> Check:
    size = render.gigabytes
    found = f"{device.name}, {size(device.free_bytes)} of {size(device.total_bytes)} free"
    if device.others_bytes:
        found += f", other programs hold {size(device.others_bytes)}"
    name = f"device {device.id}"
    if device.budget_bytes is None and not device.is_shared:
        whole = device.total_bytes // 1_000_000
        advice = f'give the pool a budget: device_memory_mb: {{"{device.id}": {whole}}}'
        return Check(name, "warn", f"{found}, and the pool counts none of it", advice)
    return Check(name, "ok", found)


def _engine(engine: EngineView) -> Check:
    if engine.usable:
        where = f"in environment {engine.environment}" if engine.environment else ""
        found = ", ".join(filter(None, (engine.reason, engine.version, where))) or "usable"
        return Check(f"engine {engine.name}", "ok", found)
    return Check(f"engine {engine.name}", "warn", engine.reason, engine.install_hint)


def _server_parts() -> Check:
    missing = [name for name in ("fastapi", "httptools", "psutil") if find_spec(name) is None]
    if not missing:
        return Check("server", "ok", "installed here")
    found = f"not installed here: {', '.join(missing)}"
    return Check("server", "warn", found, "pip install 'modelpool[server]' to run a pool here")


def _ports() -> Check:
    taken = [str(port) for port in (MANAGER_PORT, *WORKER_PORTS) if not _is_free(port)]
    if not taken:
        return Check("ports", "ok", f"{MANAGER_PORT}-{WORKER_PORTS[-1]} are free here")
    return Check("ports", "warn", f"taken by others here: {', '.join(taken)}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do, so that a connection of before that still lingers does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _table(checks: list[Check]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for width in (4, None, None):
        table.add_column(width=width, overflow="fold")
    for check in checks:
        found = render.clean("\n".join(filter(None, (check.found, check.advice))))
        table.add_row(Text(check.result, _STYLES[check.result]), Text(check.name), Text(found))
    return table
