"""Commands on the pool's configuration and on its catalog as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.files import STDIO, assignments, read_json, write_json
from modelpool_client.cli.session import Session, refuse, session
from modelpool_client.reports import ConfigReload

config_app = typer.Typer(
    invoke_without_command=True, rich_markup_mode=None, help="Show or change the configuration."
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.add_typer(config_app, name="config")
    app.command("export")(export_registry)
    app.command("import")(import_registry)


@config_app.callback()
def config(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        _show_config(session(ctx), None)


@config_app.command("get")
def get(
    ctx: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Only this one.")] = None,
) -> None:
    """Show the configuration in force."""
    _show_config(session(ctx), key)


def _show_config(s: Session, key: str | None) -> None:
    with s.client() as pool:
        document: dict[str, Any] = pool.config()
    if key is not None and key not in document:
        raise refuse(f"there is no key {key!r} in the configuration", key)
    shown = document if key is None else {key: document[key]}
    s.show(document if key is None else document[key], lambda: render.pairs(shown))


@config_app.command("set")
def set_config(
    ctx: typer.Context,
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="What to change.")],
) -> None:
    """Change the configuration of the running pool; running models are not touched."""
    s, call = session(ctx), calls.configure(assignments(changes))
    with s.client() as pool:
        document = pool.fetch(call)
    changed = call.parse(document).changed
    s.show(document, lambda: render.pairs(changed) if changed else "nothing changed")


@config_app.command("reload")
def reload_config(ctx: typer.Context) -> None:
    """Have the pool read its config file again; only what changed in it is touched."""
    s, call = session(ctx), calls.reload_config()
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: render.pairs(_changes(call.parse(document))))


def _changes(done: ConfigReload) -> dict[str, Any]:
    told = {**done.changed, **{f"models {what}": ids for what, ids in done.models.items() if ids}}
    told |= {f"{key} (needs a restart)": value for key, value in done.needs_restart.items()}
    return told or {done.file: "nothing changed"}


def export_registry(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to; - is stdout.")] = STDIO,
    whole: Annotated[
        bool, typer.Option("--config", help="A config file instead: its keys and its models.")
    ] = False,
) -> None:
    """Write the catalog as a registry file, or the whole pool as a config file."""
    s = session(ctx)
    with s.client() as pool:
        document = pool.config_file() if whole else pool.registry()
    if file == STDIO:
        Session(is_json=True).show(document, str)
    else:
        write_json(file, document)
        count = len(document.get("models", []))
        s.show({"file": str(file), "models": count}, lambda: f"{count} models written to {file}")


def import_registry(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A registry file; - is stdin.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Also over models that differ.")
    ] = False,
) -> None:
    """Take over a registry file into the catalog."""
    s, found = session(ctx), read_json(file)
    models = found.get("models") if isinstance(found, dict) else found
    if not isinstance(models, list):
        raise refuse(f"{file} is no registry: it should hold a list under 'models'")
    call = calls.import_registry(models, replace)
    with s.client() as pool:
        document = pool.fetch(call)
    change = call.parse(document)
    s.show(
        document,
        lambda: (
            f"{len(change.added)} added, {len(change.updated)} updated, "
            f"{len(change.deleted)} deleted"
        ),
    )
