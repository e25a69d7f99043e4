"""Commands on models: list, status, load, unload, extend, register, delete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from modelpool_client import _calls as calls
from modelpool_client import errors
from modelpool_client._sync import PoolClient
from modelpool_client.cli import render
from modelpool_client.cli.files import assignments, read_json
from modelpool_client.cli.session import Session, exit_code, refuse, session
from modelpool_client.types import ModelView

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model's id.")]
Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models' ids.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.command("list")(list_models)
    for command in (status, load, unload, extend, register, delete, find, versions, rollback):
        app.command()(command)


def list_models(
    ctx: typer.Context,
    engine: Annotated[str | None, typer.Option(help="Only of this engine.")] = None,
    capability: Annotated[str | None, typer.Option(help="Only what can do this.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    model_type: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    min_size_mb: Annotated[float | None, typer.Option(help="The least size of files.")] = None,
    max_size_mb: Annotated[float | None, typer.Option(help="The greatest.")] = None,
    search: Annotated[str | None, typer.Option(help="A part of a name or tag.")] = None,
    sort: Annotated[str | None, typer.Option(help="A field; - before it: greatest first.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most models to show.")] = 100,
    offset: Annotated[int | None, typer.Option(min=0, help="Leave out so many.")] = None,
) -> None:
    """List the models and their states."""
    conditions = {"engine": engine, "capability": capability, "state": state, "tag": tag}
    conditions |= {"model_type": model_type, "q": search, "sort": sort}
    sizes = {"min_size_mb": min_size_mb, "max_size_mb": max_size_mb}
    page = {"limit": limit, "offset": offset}
    s, call = session(ctx), calls.models({**conditions, **sizes, **page})
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: _page(render.models_table(call.parse(document)), document))


def _page(table: RenderableType, document: Mapping[str, Any]) -> RenderableType:
    """With what to ask for next, where that is not all."""
    at, total = document.get("next_offset"), document.get("total", 0)
    return Group(table, Text(f"{total:,} in all; go on with --offset {at}")) if at else table


def status(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="A model's id.")] = None,
) -> None:
    """Show the pool and what is loaded, or all about one model."""
    s = session(ctx)
    if model is None:
        _pool_status(s)
    else:
        _model_status(s, model)


def _model_status(s: Session, model: str) -> None:
    call = calls.model(model)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: render.model_details(call.parse(document)))


def _pool_status(s: Session) -> None:
    health, models = calls.health(), calls.awake_models()
    with s.client() as pool:
        document = {"health": pool.fetch(health), **pool.fetch(models)}
    awake = models.parse(document)
    line = render.health_line(health.parse(document["health"]))
    s.show(document, lambda: Group(Text(line), render.models_table(awake)) if awake else line)


def load(
    ctx: typer.Context,
    models: Models,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for it.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait.")] = calls.DEFAULT_WAIT,
) -> None:
    """Load models and wait until they answer; several are planned as one, and none makes room for
    another."""
    s, seconds = session(ctx), 0.0 if no_wait else wait
    if len(models) > 1:
        _load_set(s, models, seconds)
        return
    model = models[0]
    with s.client() as pool:
        if s.is_json:
            s.show(pool.fetch(calls.load(model, seconds)), str)
            return
        with _progress_bars(s) as on_progress:
            view = pool.load(model, seconds, on_progress)
    where = f" at {view.endpoint}" if view.endpoint else ""
    print(render.clean(f"{model} is {view.state}{where}"))


def _load_set(s: Session, models: list[str], seconds: float) -> None:
    """Exits with the code of the first that could not be loaded."""
    call = calls.load_set(models, seconds)
    with s.client() as pool:
        if s.is_json:
            document = pool.fetch(call)
            loaded = call.parse(document)
            s.show(document, str)
        else:
            with _progress_bars(s) as on_progress:
                loaded = pool.load_set(models, seconds, on_progress)
            s.show(None, lambda: "\n".join(render.load_outcomes(loaded)))
    if loaded.failed:
        code = exit_code(errors.from_response(503, {"error": loaded.failed[0].error}))
        raise typer.Exit(code)


def show_load(s: Session, pool: PoolClient, model: str) -> None:
    """Load the model before it is asked, so that somebody at a terminal sees how far it is: without
    one, and for a name that may stand for others, too, the request itself waits for the load."""
    if s.is_json or not s.console(stderr=True).is_terminal:
        return
    try:
        view = pool.model(model)
    except errors.ModelNotFound:
        return
    if view.state in ("COLD", "WARMING") and not view.fallbacks:
        with _progress_bars(s) as on_progress:
            pool.load(model, calls.DEFAULT_WAIT, on_progress)


@contextmanager
def _progress_bars(s: Session) -> Iterator[Callable[[ModelView], None] | None]:
    """A callback that draws how far loads are; None where nobody would see it."""
    console = s.console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.fields[id]}", markup=False), BarColumn(30))
    text = TextColumn("{task.description}", markup=False)
    with Progress(*columns, text, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def update(view: ModelView) -> None:
            if view.model_id not in tasks:
                tasks[view.model_id] = bars.add_task("waiting", total=None, id="")
            p = view.progress
            known = p is not None and p.fraction is not None
            bars.update(
                tasks[view.model_id],
                id=render.clean(view.model_id),
                total=1.0 if known or view.is_loaded else None,
                completed=1.0 if view.is_loaded else (p.fraction or 0.0) if p else 0.0,
                description=render.clean(render.progress_text(p) if p else view.reason),
            )

        yield update


def unload(
    ctx: typer.Context,
    model: Model,
    force: Annotated[
        bool, typer.Option("--force", help="Cut its work; protected models too.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for it.")] = False,
) -> None:
    """Unload a model; its work may end first."""
    s = session(ctx)
    call = calls.unload(model, force, not no_wait)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: f"{model} is {call.parse(document).state}")


def extend(
    ctx: typer.Context,
    model: Model,
    minutes: Annotated[float, typer.Argument(metavar="MINUTES", help="How much longer.")],
) -> None:
    """Let an idle model stay longer."""
    s, call = session(ctx), calls.extend(model, minutes)
    with s.client() as pool:
        document = pool.fetch(call)
    got = call.parse(document)
    capped = ", the most there is" if got.capped else ""
    text = got.message or (
        f"{got.granted_minutes:g} min granted{capped}; {got.ttl_remaining_minutes:.1f} min left"
    )
    s.show(document, lambda: f"{model}: {text}")


def register(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Argument(metavar="ID", help="The new model's id.")] = None,
    source: Annotated[str | None, typer.Option(help="A file, a folder or a name.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="See `poolctl engines`; GGUF files need none.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A load option; repeatable.")
    ] = None,
    ttl: Annotated[float | None, typer.Option(help="Minutes it may idle; 0: for ever.")] = None,
    warmup: Annotated[bool, typer.Option("--warmup", help="Load it with the pool.")] = False,
    pinned: Annotated[bool, typer.Option("--pinned", help="Never evict it.")] = False,
    alias: Annotated[list[str] | None, typer.Option(help="Another name; repeatable.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; repeatable.")] = None,
    priority: Annotated[str | None, typer.Option(help="high, normal or low.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    memory_mb: Annotated[float | None, typer.Option(help="An estimate of its memory.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="A JSON file that describes it; - is stdin.")
    ] = None,
) -> None:
    """Add a model to the catalog."""
    s = session(ctx)
    given: dict[str, Any] = {"model_id": model, "source": source, "engine": engine}
    given |= {"ttl_minutes": ttl, "warmup": warmup or None, "pinned": pinned or None}
    given |= {"options": assignments(option or []), "aliases": alias, "tags": tag}
    given |= {"priority": priority, "display_name": name, "memory_mb": memory_mb}
    body = _from_file(file) | {k: v for k, v in given.items() if v not in (None, {}, [])}
    missing = [key for key in ("model_id", "source") if not body.get(key)]
    if missing:
        raise typer.BadParameter(f"give {', '.join(missing)}, or a --file that says it")
    with s.client() as pool:
        document = pool.fetch(calls.register(body))
    s.show(document, lambda: f"{body['model_id']} is registered")


def _from_file(file: Path | None) -> dict[str, Any]:
    document = read_json(file) if file else {}
    if not isinstance(document, dict) or "models" in document:
        raise refuse(f"{file} does not describe one model; for many: `poolctl import`")
    return document


def delete(ctx: typer.Context, model: Model) -> None:
    """Take a model out of the catalog, unloading it first."""
    s = session(ctx)
    with s.client() as pool:
        document = pool.fetch(calls.delete(model))
    s.show(document, lambda: f"{model} is deleted")


def find(
    ctx: typer.Context,
    model_type: Annotated[str | None, typer.Option("--type", help="llm, embedding …")] = None,
    max_memory_gb: Annotated[float | None, typer.Option(min=0, help="Of a load.")] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Of a request, on average.")] = None,
    capability: Annotated[list[str] | None, typer.Option(help="It can; repeatable.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="It has; repeatable.")] = None,
    repository: Annotated[str | None, typer.Option(help="Where it comes from.")] = None,
) -> None:
    """Find the model that suits a purpose best (1: none does)."""
    wanted = {"model_type": model_type, "max_memory_gb": max_memory_gb, "tags": tag}
    wanted |= {"max_latency_ms": max_latency_ms, "required_capabilities": capability}
    s, call = session(ctx), calls.find_best({**wanted, "repository": repository})
    with s.client() as pool:
        document = pool.fetch(call)
    found = call.parse(document)
    s.show(document, lambda: render.findings(found))
    if found.best is None:
        raise typer.Exit(1)


def versions(ctx: typer.Context, model: Model) -> None:
    """Show what a model's entry said before it was changed."""
    s, call = session(ctx), calls.versions(model)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: render.versions_table(call.parse(document)))


def rollback(
    ctx: typer.Context,
    model: Model,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="See `poolctl versions`.")],
) -> None:
    """Let a model's entry say again what it said."""
    s = session(ctx)
    with s.client() as pool:
        document = pool.fetch(calls.rollback(model, version))
    s.show(document, lambda: f"{model} is as it was in version {version}; it counts at a load")
