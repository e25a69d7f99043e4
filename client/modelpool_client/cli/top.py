"""Commands that show the pool at this moment: ps, top; and open, the page that does."""

from __future__ import annotations

import time
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from modelpool_client import _calls as calls
from modelpool_client._sync import PoolClient
from modelpool_client.cli import render
from modelpool_client.cli.keys import pressed_keys
from modelpool_client.cli.session import Session, session
from modelpool_client.errors import PoolUnreachable
from modelpool_client.types import ModelView, PoolHealth

EVERY_SECONDS = 1.0


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    for command in (ps, top):
        app.command()(command)
    app.command("open")(open_page)


@dataclass(frozen=True)
class Reading:
    """The pool at one moment; ``at`` is seconds of a monotonic clock."""

    at: float
    health: PoolHealth
    models: Sequence[ModelView]
    document: Mapping[str, Any] = field(default_factory=dict)


def rates(before: Reading | None, now: Reading) -> dict[str, tuple[float, float]]:
    """PURE. Requests and tokens a second of each model between two readings; none for what was
    loaded anew meanwhile."""
    if before is None or now.at <= before.at:
        return {}
    span, earlier = now.at - before.at, {m.model_id: m for m in before.models}
    found = {}
    for model in now.models:
        old = earlier.get(model.model_id)
        if old is not None and old.generation == model.generation:
            requests = (model.requests_total - old.requests_total) / span
            tokens = (model.tokens_total - old.tokens_total) / span
            found[model.model_id] = (max(0.0, requests), max(0.0, tokens))
    return found


def ps(ctx: typer.Context) -> None:
    """Show the models that are loaded, loading or leaving."""
    s = session(ctx)
    call = calls.awake_models()
    with s.client() as pool:
        document = pool.fetch(call)
    models = call.parse(document)
    s.show(document, lambda: render.models_table(models) if models else "no model is loaded")


def top(
    ctx: typer.Context,
    seconds: Annotated[
        float, typer.Option("-d", "--delay", min=0.1, help="Between two looks.")
    ] = EVERY_SECONDS,
    count: Annotated[
        int | None, typer.Option("-n", min=1, help="Stop after so many looks.")
    ] = None,
) -> None:
    """Show the pool live: memory, models, requests and tokens a second. q or Ctrl-C ends it, any
    other key looks at once."""
    s = session(ctx)
    with s.client() as pool:
        first = _read(pool)
        if s.is_json or not s.console().is_terminal:
            _print(s, pool, first, seconds, count)
        else:
            _show(s, pool, first, seconds, count)


def open_page(ctx: typer.Context) -> None:
    """Open the pool's page in a browser."""
    s = session(ctx)
    with s.client() as pool:
        pool.fetch(calls.health())
        url = pool.base_url
    is_open = not s.is_json and webbrowser.open(url)
    s.show({"url": url}, lambda: f"{url} is open" if is_open else f"open {url} in a browser")


def _read(pool: PoolClient) -> Reading:
    health, models = calls.health(), calls.awake_models()
    told, listed = pool.fetch(health), pool.fetch(models)
    document = {"health": told, "models": listed["models"]}
    return Reading(time.monotonic(), health.parse(told), models.parse(listed), document)


def _print(s: Session, pool: PoolClient, now: Reading, seconds: float, count: int | None) -> None:
    """One after the other, for programs and pipes."""
    before, looks = None, 0
    while True:
        looks += 1
        if s.is_json:
            speeds = rates(before, now)
            each = {m: {"requests": r, "tokens": t} for m, (r, t) in speeds.items()}
            s.line({**now.document, "per_second": each}, "")
        else:
            s.console().print(screen(before, now))
        if looks == count:
            return
        time.sleep(seconds)
        before, now = now, _read(pool)


def _show(s: Session, pool: PoolClient, now: Reading, seconds: float, count: int | None) -> None:
    before, looks = None, 0
    live = Live(screen(before, now), console=s.console(), screen=count is None)
    with pressed_keys() as key_within, live:
        while True:
            looks += 1
            if looks == count or key_within(seconds) in ("q", "Q"):
                return
            try:
                before, now = now, _read(pool)
                live.update(screen(before, now), refresh=True)
            except PoolUnreachable as e:
                lost = Text(render.clean(f"{e.message}; asking again …"), style="red")
                live.update(Group(lost, screen(before, now)), refresh=True)


def screen(before: Reading | None, now: Reading) -> RenderableType:
    """All of it, for a terminal."""
    speeds = rates(before, now)
    requests = sum(r for r, _ in speeds.values())
    tokens = sum(t for _, t in speeds.values())
    line = f"{requests:,.1f} requests/s, {tokens:,.1f} tokens/s"
    if not now.models:
        return Group(Text(render.health_line(now.health)), Text(line), Text("no model is loaded"))
    return Group(
        Text(render.health_line(now.health)),
        Text(line),
        Text(""),
        render.top_table(now.models, speeds),
    )
