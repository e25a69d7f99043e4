"""Commands on who answers: virtual models, presets, and a look at what a request would do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.files import assignments, read_json, write_json
from modelpool_client.cli.session import refuse, session
from modelpool_client.reports import Route, VirtualModel, VirtualModelChange

Name = Annotated[str, typer.Argument(metavar="NAME", help="A virtual model's name.")]
IfVersion = Annotated[
    int | None, typer.Option("--if-version", min=0, help="Only if it is at that; 0: only if new.")
]
Kind = Literal["preferences", "settings"]
SHOWN_EXCLUDED = 10
FILES = {"preferences": "model-preferences", "settings": "advanced-model-settings"}


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    alias = typer.Typer(help="Names that are no models, and what they stand for.")
    alias.command("list")(list_virtual)
    alias.command("show")(show)
    alias.command("set")(set_)
    alias.command("delete")(delete)
    alias.command("versions")(versions)
    alias.command("rollback")(rollback)
    app.add_typer(alias, name="alias", no_args_is_help=True)
    preset = typer.Typer(help="Named sets of parameters, also by class of caller.")
    preset.command("list")(presets)
    preset.command("set")(set_preset)
    preset.command("delete")(delete_preset)
    preset.command("import")(import_file)
    preset.command("export")(export_file)
    app.add_typer(preset, name="preset", no_args_is_help=True)
    app.command()(route)


def list_virtual(ctx: typer.Context) -> None:
    """List the virtual models."""
    s, call = session(ctx), calls.virtual_models()
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: _table(call.parse(document)))


def show(ctx: typer.Context, name: Name) -> None:
    """Show what a name stands for."""
    s, call = session(ctx), calls.virtual_model(name)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: json.dumps(document, indent=2, ensure_ascii=False))


def set_(
    ctx: typer.Context,
    name: Name,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET...", help="One: an alias; several: the next where one fails."
        ),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="MODEL=N", help="Share the requests by weight."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="An entry as JSON; - is stdin.")
    ] = None,
    if_version: IfVersion = None,
) -> None:
    """Let a name stand for something from the next request on."""
    given = [bool(targets), bool(weight), file is not None]
    if sum(given) != 1:
        raise refuse("say targets, or --weight MODEL=N for each, or --file")
    entry: Any
    if file is not None:
        entry = read_json(file)
    elif weight:
        entry = assignments(weight)
    else:
        entry = targets[0] if targets and len(targets) == 1 else targets
    s, call = session(ctx), calls.set_virtual_model(name, entry, if_version)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: _changed(call.parse(document)))


def delete(ctx: typer.Context, name: Name, if_version: IfVersion = None) -> None:
    """Let a name stand for nothing any more; rollback brings it back."""
    s, call = session(ctx), calls.delete_virtual_model(name, if_version)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: _changed(call.parse(document)))


def versions(ctx: typer.Context, name: Name) -> None:
    """Show what a name stood for before each of its last changes."""
    s, call = session(ctx), calls.virtual_model_versions(name)
    with s.client() as pool:
        document = pool.fetch(call)
    found = call.parse(document)
    rows = [(str(v.version), v.until, json.dumps(v.entry), v.reason) for v in found]
    table = render.table(("VERSION", "UNTIL", "ENTRY", "MADE"), rows)
    s.show(document, lambda: table if rows else f"{name} was never changed")


def rollback(
    ctx: typer.Context,
    name: Name,
    version: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="Left out: undo the last change.")
    ] = None,
) -> None:
    """Let a name stand for what it stood for before."""
    s, call = session(ctx), calls.rollback_virtual_model(name, version)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: _changed(call.parse(document)))


def presets(ctx: typer.Context) -> None:
    """List the presets."""
    s, call = session(ctx), calls.presets()
    with s.client() as pool:
        document = pool.fetch(call)
    rows = [(name, json.dumps(values)) for name, values in call.parse(document).items()]
    s.show(document, lambda: render.table(("PRESET", "VALUES"), rows))


def set_preset(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PRESET")],
    values: Annotated[list[str], typer.Argument(metavar="PARAMETER=VALUE...")],
) -> None:
    """Make a preset, or change one."""
    s, call = session(ctx), calls.set_preset(name, assignments(values))
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: f"{name} is set")


def delete_preset(
    ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="PRESET")]
) -> None:
    """Remove a preset that was made at run time."""
    s, call = session(ctx), calls.delete_preset(name)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: f"{name} is removed")


def import_file(
    ctx: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="Which of the two files it is.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="- is stdin.")],
) -> None:
    """Take over a model_preferences.json or an advanced_model_settings.json."""
    s, call = session(ctx), calls.set_class_file(FILES[kind], read_json(file))
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: _changed(call.parse(document)))


def export_file(
    ctx: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="Which of the two files.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Left out: print it.")
    ] = None,
) -> None:
    """Write a model_preferences.json or an advanced_model_settings.json."""
    s, call = session(ctx), calls.class_file(FILES[kind])
    with s.client() as pool:
        document = pool.fetch(call)
    if file is None:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    write_json(file, document)
    s.show(document, lambda: f"{file} is written")


def route(
    ctx: typer.Context,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What would be said.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Whom; left out: auto.")] = None,
    agent_class: Annotated[str | None, typer.Option("--class", help="X-Agent-Class.")] = None,
    session_id: Annotated[str | None, typer.Option("--session", help="X-Session-ID.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of the request.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A request as JSON, or a list; - is stdin.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Rules to try, as JSON; nothing is changed.")
    ] = None,
) -> None:
    """Show which models would answer a request, and why; nothing is asked."""
    if file is not None and text is not None:
        raise refuse("say a text or --file, not both")
    told: Any = read_json(file) if file is not None else {}
    s = session(ctx)
    tried = {"policy": read_json(policy)} if policy is not None else {}
    if isinstance(told, list):
        told = [{**each, **tried} if isinstance(each, dict) else each for each in told]
        many = calls.routes(told)
        with s.client() as pool:
            document = pool.fetch(many)
        s.show(document, lambda: Group(*map(_route, many.parse(document))))
        return
    own = {"model": model, "agent_class": agent_class, "session_id": session_id}
    request = {**told, **tried, **{k: v for k, v in own.items() if v is not None}}
    request |= assignments(parameter or [])
    if text is not None:
        request["messages"] = [{"role": "user", "content": text}]
    call = calls.route(request)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: _route(call.parse(document)))


def _table(found: list[VirtualModel]) -> RenderableType:
    if not found:
        return "there are no virtual models; `poolctl alias set NAME MODEL` makes one"
    rows = [
        (
            v.name,
            v.kind,
            str(v.version),
            _targets(v),
            "a model is called so" if v.is_shadowed else "",
        )
        for v in found
    ]
    return render.table(("NAME", "KIND", "VERSION", "TARGETS", "NOTE"), rows)


def _targets(found: VirtualModel) -> str:
    return ", ".join(f"{t} (missing)" if t in found.missing else t for t in found.targets)


def _changed(change: VirtualModelChange) -> str:
    return "\n".join([change.message, *(f"warning: {w}" for w in change.warnings)])


def _joint(plan: Mapping[str, Any]) -> list[str]:
    """What a plan asks side by side, a line for each such step."""
    steps = plan.get("steps", [])
    names = ", ".join(str(s["model"]) for s in steps if "model" in s)
    within = [line for step in steps for line in _joint(step)]
    if plan.get("do") == "first of":
        return [f"side by side: {names}; the first that answers", *within]
    if plan.get("do") != "side by side" or not names:
        return within
    more = f"; may ask {', '.join(plan['may_ask'])}" if plan.get("may_ask") else ""
    how = "side by side" if len(steps) > 1 else "asked"
    return [f"{how}: {names}; then {plan.get('then', '')}{more}", *within]


def _route(found: Route) -> RenderableType:
    if found.error:
        return Text(f"{found.model}: {found.error.get('message', '')}")
    lines = [
        f"{found.model} → {found.selected_model}" + (f" ({found.state})" if found.state else "")
    ]
    lines += [f"  {reason}" for reason in found.reasons]
    lines += [f"  {line}" for line in _joint(found.plan)]
    if found.fallbacks:
        lines.append(f"  if it fails: {', '.join(found.fallbacks)}")
    if found.changes:
        lines.append(f"  changed: {', '.join(found.changes)}")
    lines += [f"  {_traced(each)}" for each in found.trace]
    if found.complexity:
        lines.append(f"  {found.complexity}, {found.task_type}, {found.confidence:.0%} sure")
    lines += [f"  next: {r.get('model')}, {r.get('chance', 0):.0%} sure" for r in found.runners_up]
    shown = list(found.excluded.items())[:SHOWN_EXCLUDED]
    lines += [f"  not {name}: {'; '.join(why)}" for name, why in shown]
    if len(found.excluded) > len(shown):
        lines.append(f"  nor {len(found.excluded) - len(shown)} more: --json tells why")
    return Text("\n".join(lines))


def _traced(each: Mapping[str, Any]) -> str:
    name = f"rule {each.get('rule')}"
    return f"{name}: yes" if each.get("matches") else f"{name}: no, {each.get('because', '')}"
