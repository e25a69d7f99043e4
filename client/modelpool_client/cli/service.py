"""``poolctl service``: the pool started at login, and again after a failure."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from modelpool_client._connection import RetryPolicy
from modelpool_client._sync import PoolClient
from modelpool_client.cli.server_program import ask_server, server_command
from modelpool_client.cli.service_files import Service
from modelpool_client.cli.service_managers import MANAGERS, Manager, manager_here
from modelpool_client.cli.session import refuse, session
from modelpool_client.errors import ModelPoolError, PoolUnreachable

PREFIX = "MODELPOOL_"
# Of the one who installs, not of the pool.
NOT_CARRIED = frozenset({"MODELPOOL_CONFIG", "MODELPOOL_URL"})
# What every service has from its manager; the configuration is tried with these.
GIVEN = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "XDG_RUNTIME_DIR", "TMPDIR")
ANSWER_SECONDS = 60.0
LOOK_SECONDS = 0.2

service_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run the pool as a service of yours: systemd's user manager, or launchd.",
)

Kind = Literal["systemd", "launchd"]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.add_typer(service_app, name="service")
    service_app.command("install")(install)
    service_app.command("uninstall")(uninstall)
    service_app.command("status")(status)


def install(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="MODELPOOL_CONFIG", help="Its config file."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env", metavar="NAME[=VALUE]", help="A variable for it, no secret; repeatable."
        ),
    ] = None,
    environment_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of NAME=VALUE lines, such as keys; systemd only."),
    ] = None,
    start: Annotated[bool, typer.Option(help="Start it, and wait until it answers.")] = True,
    only_print: Annotated[
        bool, typer.Option("--print", help="Only show the file, and change nothing.")
    ] = False,
    kind: Annotated[
        Kind | None, typer.Option("--as", help="With --print: that of another system.")
    ] = None,
) -> None:
    """Have the pool started at login, and again when it fails; a wrong config file is refused."""
    s = session(ctx)
    if kind is not None and not only_print:
        raise refuse("--as goes with --print: only the manager of this system can be told")
    manager = MANAGERS[kind] if kind else manager_here()
    service = _service(manager, config, env or [], environment_file)
    text = manager.text(service)
    if only_print:
        found = {"manager": manager.name, "file": str(manager.file), "text": text}
        s.show(found, lambda: text.rstrip())
        return
    is_new = _put(manager, service, text, start)
    document: dict[str, Any] = {"manager": manager.name, "file": str(manager.file)}
    document |= {"url": service.url, "changed": is_new, "advice": manager.advice()}
    s.show(document, lambda: "\n".join(_installed(document, manager, start)))


def _service(
    manager: Manager, config: Path | None, env: list[str], environment_file: Path | None
) -> Service:
    """The service, once the server has said that it would start so."""
    if environment_file is not None and manager.name == "launchd":
        raise refuse(
            "launchd reads no file of variables: name a provider's key by api_key_file in the"
            " config file (docs/remote.md)"
        )
    environ = _environ(env)
    extra = _of_file(environment_file) if environment_file else {}
    arguments = ["--config", str(config.absolute())] if config else []
    given = {name: os.environ[name] for name in GIVEN if name in os.environ}
    facts = ask_server("check", *arguments, "--json", environ={**given, **environ, **extra})
    return Service(
        server_command("serve", *arguments),
        str(config.absolute().parent if config else Path.home()),
        facts["url"],
        environ,
        str(environment_file.absolute()) if environment_file else "",
        facts["log_file"],
        facts["graceful_shutdown_seconds"],
    )


def _environ(env: list[str]) -> dict[str, str]:
    """PATH and the pool's own keys as they are here, and what was asked for."""
    found = {"PATH": os.environ.get("PATH", os.defpath)}
    own = (n for n in sorted(os.environ) if n.startswith(PREFIX) and n not in NOT_CARRIED)
    found |= {name: os.environ[name] for name in own}
    for each in env:
        name, equals, value = each.partition("=")
        if not name.isidentifier():
            raise refuse(f"--env {each}: should be NAME or NAME=VALUE")
        if not equals and name not in os.environ:
            raise refuse(f"--env {name}: it is not set here; say {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def _of_file(file: Path) -> dict[str, str]:
    """As systemd reads it, as far as people write it."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise refuse(f"cannot read {file}: {e}") from e
    found = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith(("#", ";")):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip().isidentifier():
            raise refuse(f"{file} has no NAME=VALUE in line {number}")
        text = value.strip()
        is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
        found[name.strip()] = text[1:-1] if is_quoted else text
    return found


def _put(manager: Manager, service: Service, text: str, start: bool) -> bool:
    """Write the file and start it; whether the file says anything new."""
    file = manager.file
    former = file.read_text(encoding="utf-8") if file.exists() else None
    if start and former is None and _answers(service.url):
        raise refuse(
            f"a pool answers at {service.url} already: end it first, modelpool down or make down"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        Path(service.log_file).parent.mkdir(parents=True, exist_ok=True)
        if text != former:
            file.write_text(text, encoding="utf-8")
    except OSError as e:
        raise refuse(f"cannot write {file}: {e.strerror}") from e
    if start:
        try:
            manager.start()
        except ModelPoolError:
            if former is None:  # nothing was changed
                file.unlink(missing_ok=True)
            raise
        _wait(manager, service.url)
    return text != former


def _answers(url: str) -> bool:
    try:
        with PoolClient(url, retry=RetryPolicy(attempts=1, down_seconds=0)) as pool:
            pool.health()
    except PoolUnreachable:
        return False
    except ModelPoolError:
        return True
    return True


def _wait(manager: Manager, url: str) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while not _answers(url):
        state = manager.state()
        if state.is_failed or time.monotonic() > deadline:
            raise refuse(f"it is installed, but {state.text} and does not answer: {manager.logs}")
        time.sleep(LOOK_SECONDS)


def _installed(document: Mapping[str, Any], manager: Manager, start: bool) -> Iterator[str]:
    verb = "is written" if document["changed"] else "says that already"
    yield f"{document['file']} {verb}"
    if start:
        yield f"the pool answers at {document['url']}, and starts at login"
        if document["changed"]:
            yield f"if it ran before, the file counts after: {manager.restarts}"
    if document["advice"]:
        yield document["advice"]


def uninstall(ctx: typer.Context) -> None:
    """End the service and remove its file; models and settings stay."""
    s, manager = session(ctx), manager_here()
    was_there = manager.file.exists()
    if was_there:
        manager.stop()
    document = {"manager": manager.name, "file": str(manager.file), "removed": was_there}
    text = f"{manager.file} is removed, the pool has ended" if was_there else "it is not installed"
    s.show(document, lambda: text)


def status(ctx: typer.Context) -> None:
    """Show whether the service is installed and runs (1: it does not)."""
    s, manager = session(ctx), manager_here()
    if not manager.file.exists():
        document: dict[str, Any] = {"manager": manager.name, "installed": False, "active": False}
        s.show(document, lambda: "it is not installed: poolctl service install")
        raise typer.Exit(1)
    state = manager.state()
    document = {"manager": manager.name, "installed": True, "active": state.is_active}
    document |= {"state": state.text, "pid": state.pid, "file": str(manager.file)}
    s.show(document, lambda: _state_text(document, manager))
    if not state.is_active:
        raise typer.Exit(1)


def _state_text(document: Mapping[str, Any], manager: Manager) -> str:
    process = f", process {document['pid']}" if document["pid"] else ""
    return f"{document['state']}{process}\nfile: {document['file']}\nlog: {manager.logs}"
