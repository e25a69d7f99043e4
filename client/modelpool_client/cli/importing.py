"""``poolctl import``: registry files, and the settings of other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from modelpool_client import _calls as calls
from modelpool_client._sync import PoolClient
from modelpool_client.cli.files import read_json
from modelpool_client.cli.server_program import ask_server
from modelpool_client.cli.session import Session, refuse, session
from modelpool_client.errors import ModelPoolError

REGISTRY = "registry"


class ImportGroup(TyperGroup):
    """``import FILE`` is ``import registry FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_file = bool(args) and args[0] not in self.commands and args[0] not in ("--help", "-h")
        return super().parse_args(ctx, [REGISTRY, *args] if is_file else args)


import_app = typer.Typer(
    cls=ImportGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Take over a registry file, or the settings of another program.",
)

Write = Annotated[
    Path | None, typer.Option("--write", metavar="FILE", help="Make a config file of them.")
]
Apply = Annotated[
    bool, typer.Option("--apply", help="Tell the running pool what may be told at run time.")
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.add_typer(import_app, name="import")
    import_app.command(REGISTRY)(import_registry)
    import_app.command("ollama")(ollama)
    import_app.command("llama-swap")(llama_swap)
    import_app.command("lmstudio")(lm_studio)


def import_registry(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A registry file; - is stdin.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Also over models that differ.")
    ] = False,
) -> None:
    """Take over a registry file into the catalog; the word registry may be left out."""
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


def ollama(
    ctx: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PATH]",
            help="A systemd unit, env file or launchd plist; else its service and environment.",
        ),
    ] = None,
    write: Write = None,
    apply: Apply = False,
) -> None:
    """Show what Ollama's variables and its store are here; write a config file, or apply them."""
    _convert(session(ctx), "ollama", path, write, apply)


def llama_swap(
    ctx: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PATH]",
            help="Its config file, or the folder of its -config-dir; else config.yaml here.",
        ),
    ] = None,
    write: Write = None,
    apply: Apply = False,
) -> None:
    """Show what llama-swap's config file is here; write a config file, or apply it."""
    _convert(session(ctx), "llama-swap", path, write, apply)


def lm_studio(
    ctx: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(metavar="[PATH]", help="Its folder; else ~/.lmstudio.")
    ] = None,
    write: Write = None,
    apply: Apply = False,
) -> None:
    """Show what LM Studio's settings are here; write a config file, or apply them."""
    _convert(session(ctx), "lmstudio", path, write, apply)


def _convert(s: Session, program: str, path: Path | None, write: Path | None, apply: bool) -> None:
    if write is not None and apply:
        raise refuse("say --write FILE or --apply, not both")
    if write is not None and write.exists():
        raise refuse(f"{write} is there already: name another file")
    document = ask_server("convert", program, *([str(path.absolute())] if path else []))
    if write is not None:
        _write(write, document["yaml"])
        document["file"] = str(write)
    elif apply:
        with s.client() as pool:
            document["applied"] = _apply(pool, document["by_api"])
    s.show(document, lambda: "\n".join(_told(document)))
    if s.is_json or write is not None or apply:
        return
    print("\nNothing was done: --write FILE makes a config file, --apply tells the pool")


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except OSError as e:
        raise refuse(f"cannot write {file}: {e.strerror}") from e


def _apply(pool: PoolClient, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Each part as a whole; what a later one refuses takes the first back."""
    before = pool.config()
    wanted = with_own(before, parts["config"])
    changed = {k: before.get(k) for k, v in wanted.items() if before.get(k) != v}
    applied: dict[str, Any] = {"config": sorted(changed), "models": {}, "virtual_models": []}
    if changed:
        pool.fetch(calls.configure({k: wanted[k] for k in changed}))
    try:
        if parts["models"]:
            call = calls.import_registry(parts["models"], True)
            applied["models"] = pool.fetch(call)
    except ModelPoolError:
        if changed:
            pool.fetch(calls.configure(changed))
        raise
    for name, entry in parts["virtual_models"].items():
        pool.fetch(calls.set_virtual_model(name, entry))
        applied["virtual_models"].append(name)
    return applied


def with_own(before: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """PURE. What is to be said to a pool: lists are added to what it has, such as folders."""
    wanted = {}
    for key, value in found.items():
        own = before.get(key)
        if isinstance(value, list) and isinstance(own, list):
            said = [_said(each) for each in own]
            wanted[key] = [*own, *(each for each in value if _said(each) not in said)]
        else:
            wanted[key] = value
    return wanted


def _said(value: Any) -> Any:
    """Without what is null: a pool tells all keys."""
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def _told(document: Mapping[str, Any]) -> Iterator[str]:
    """What a person reads: the file where nothing was done with it, else what was."""
    if "file" in document:
        count = len(document["config"].get("models", ()))
        yield f"{document['file']} is written, with {count} models; start a pool with it:"
        yield f"  modelpool up --config {document['file']}"
    elif "applied" in document:
        yield from _applied(document["applied"], document["by_api"]["left"])
    else:
        yield document["yaml"].rstrip()
        yield from (f"warning: {text}" for text in document["warnings"])
        return
    yield from (f"- {r['setting']}: {r['text']}" for r in document["remarks"])
    yield from (f"warning: {text}" for text in document["warnings"])


def _applied(done: Mapping[str, Any], left: Mapping[str, str]) -> Iterator[str]:
    change = done["models"]
    counts = {key: len(change.get(key, ())) for key in ("added", "updated")}
    yield f"{counts['added']} models added, {counts['updated']} updated"
    if done["config"]:
        yield f"changed until the next start: {', '.join(done['config'])}"
    if done["virtual_models"]:
        yield f"virtual models: {', '.join(done['virtual_models'])}"
    for what, why in left.items():
        yield f"not told: {what}: {why}"
