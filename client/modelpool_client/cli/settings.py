"""Commands on the pool's configuration and on its catalog as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.files import STDIO, assignments, write_json
from modelpool_client.cli.session import Session, refuse, session
from modelpool_client.reports import ConfigReload, KeySource

config_app = typer.Typer(
    invoke_without_command=True, rich_markup_mode=None, help="Show or change the configuration."
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.add_typer(config_app, name="config")
    app.command("export")(export_registry)


Sources = Annotated[
    bool, typer.Option("--sources", help="And where each comes from, and what needs a restart.")
]


@config_app.callback()
def config(ctx: typer.Context, sources: Sources = False) -> None:
    if ctx.invoked_subcommand is None:
        _show(session(ctx), None, with_sources=sources)


@config_app.command("show")
@config_app.command("get")
def get(
    ctx: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Only this one.")] = None,
    sources: Sources = False,
) -> None:
    """Show the configuration in force."""
    _show(session(ctx), key, with_sources=sources)


def _show(s: Session, key: str | None, *, with_sources: bool) -> None:
    if with_sources:
        _show_sources(s, key)
    else:
        _show_config(s, key)


def _show_sources(s: Session, key: str | None) -> None:
    call = calls.config_sources()
    with s.client() as pool:
        document = pool.fetch(call)
    found = call.parse(document)
    if key is not None and key not in found:
        raise refuse(f"there is no key {key!r} in the configuration", key)
    shown = found if key is None else {key: found[key]}
    s.show(document if key is None else document["keys"][key], lambda: sources_table(shown))


def sources_table(sources: Mapping[str, KeySource]) -> Table:
    """A line for each key; what was said somewhere comes before the defaults."""
    order = sorted(sources.items(), key=lambda item: item[1].source == "default")
    rows = ((key, _text(source.value), _origin(source)) for key, source in order)
    table = render.table(("KEY", "VALUE", "FROM"), rows)
    # Keys stay whole: values may be of any length, and would leave them no room.
    key, value, _ = table.columns
    key.no_wrap, value.no_wrap = True, False
    return table


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _origin(source: KeySource) -> str:
    parts = [source.place or source.source]
    if source.after_restart is not None:
        parts.append(f"a restart makes it {_text(source.after_restart)}")
    elif not source.live:
        parts.append("needs a restart")
    return "; ".join(parts)


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
