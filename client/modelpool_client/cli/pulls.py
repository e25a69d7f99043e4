"""Commands on models that are fetched from elsewhere, and on the disk that they take."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from modelpool_client import _calls as calls
from modelpool_client._sync import PoolClient
from modelpool_client.cli import render
from modelpool_client.cli.chat import chat
from modelpool_client.cli.files import assignments
from modelpool_client.cli.jobs import begin, finish, follow
from modelpool_client.cli.models import Model
from modelpool_client.cli.session import AT_ONCE, PATIENT, Session, refuse, session
from modelpool_client.errors import ModelNotFound
from modelpool_client.reports import JobView

BYTES_PER_MB = 1_000_000
SOURCE_HELP = (
    "hf:owner/repo[:quantisation or file][@revision], ollama:name[:tag], ollama-server:name[:tag],"
    " https://…/file.gguf or a path; owner/repo is the hub's, a bare name Ollama's."
)
_SCHEME = re.compile(r"(?i)(hf|huggingface|ollama|ollama-server|https?):")
_HUB_HOSTS = ("hf.co/", "huggingface.co/")

Source = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    for command in (pull, run, rm, prune, outdated, disk):
        app.command()(command)


def pull(
    ctx: typer.Context,
    source: Source,
    name: Annotated[
        str | None, typer.Option("--id", help="Its id in the catalog; else made of the source.")
    ] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Another name; repeatable.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; repeatable.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A load option; repeatable.")
    ] = None,
    digest: Annotated[
        str | None, typer.Option(help="The sha256:… that the file must have.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for it.")] = False,
) -> None:
    """Fetch a model and register it. Interrupting this leaves the pull alone."""
    given: dict[str, Any] = {"model_id": name, "aliases": alias, "tags": tag, "digest": digest}
    given["options"] = assignments(option or [])
    data = {key: value for key, value in given.items() if value}
    begin(session(ctx), calls.pull(with_scheme(source), data), detach, pulled_text)


def run(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A model's id, or a source as of `poolctl pull`.")
    ],
    prompt: Annotated[str | None, typer.Argument(help="What to say; else a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="How the model should behave.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="0: always the same.")] = None,
) -> None:
    """Talk to a model; it is fetched if it is not there, and loaded if need be."""
    s = session(ctx)
    with s.client(PATIENT) as pool:
        model = _there(s, pool, name)
    chat(ctx, model, prompt, system, max_tokens, temperature)


def _there(s: Session, pool: PoolClient, name: str) -> str:
    """The id of the model of that name, which is in the catalog now."""
    try:
        pool.fetch(calls.model(name), AT_ONCE)
    except ModelNotFound:
        job = follow(s, pool, pool.pull(with_scheme(name)))
        if not job.has_succeeded:
            finish(s, job, pulled_text)
        return str(job.result.get("model_id", name))
    return name


def rm(
    ctx: typer.Context,
    model: Model,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a model out of the catalog, with the files that were pulled for it alone."""
    s = session(ctx)
    with s.client() as pool:
        view = pool.fetch(calls.model(model))
        if not yes:
            _confirm(s, f"remove {view['model_id']} and the files that were pulled for it?")
        document = pool.fetch(calls.delete(model, files=True))
    s.show(document, lambda: _removed_text(f"{model} is removed", document.get("removal", {})))


def prune(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove pulled files that no model uses, and downloads that nobody goes on with."""
    s = session(ctx)
    with s.client() as pool:
        if not dry_run and not yes:
            found = pool.fetch(calls.prune(dry_run=True))
            if found["files"]:
                _confirm(s, _removed_text("this would go", found) + "\nremove it?")
        document = pool.fetch(calls.prune(dry_run))
    said = "this would go" if dry_run else "removed"
    s.show(document, lambda: _removed_text(said, document))


def outdated(ctx: typer.Context) -> None:
    """Ask where models were pulled from whether they have other files now (1: some have)."""
    s = session(ctx)
    with s.client(PATIENT) as pool:
        job = follow(s, pool, pool.create_job("outdated"))
    finish(s, job, outdated_text)
    if any(pull.get("state") == "outdated" for pull in job.result.get("pulls", ())):
        raise typer.Exit(1)


def disk(ctx: typer.Context) -> None:
    """Show what the disk holds by model."""
    s = session(ctx)
    with s.client() as pool:
        document = pool.fetch(calls.disk())
    s.show(document, lambda: disk_view(document))


def with_scheme(name: str) -> str:
    """What a person means by a name: a path of this machine, a repository of the hub where it has
    two parts, else a name of Ollama's."""
    if _SCHEME.match(name):
        return name
    if name.startswith(("/", "./", "../", "~")):
        return os.path.abspath(os.path.expanduser(name))
    for host in _HUB_HOSTS:
        if name.startswith(host):
            return f"hf:{name.removeprefix(host)}"
    return f"{'hf' if name.count('/') == 1 else 'ollama'}:{name}"


def pulled_text(job: JobView) -> str:
    """What came of a pull, and why just that."""
    result = job.result
    reasons = "".join(f"\n  {reason}" for reason in result.get("reasons", ()))
    name = result.get("model_id")
    said = f"{name} is there: `poolctl run {name}`" if name else f"{job.subject} is there"
    return f"{said}{reasons}"


def outdated_text(job: JobView) -> Table | str:
    """One line for each pull."""
    pulls = job.result.get("pulls", ())
    if not pulls:
        return "nothing was pulled"
    rows = ((p["model_id"], p["state"], p["reference"], p["reason"]) for p in pulls)
    return render.table(("MODEL", "STATE", "SOURCE", "WHY"), rows)


def disk_view(document: dict[str, Any]) -> Group:
    """What is pulled, what is unfinished, and what room is left."""
    rows = [
        (", ".join(pull["models"]) or "(no model)", _mb(pull["bytes"]), pull["reference"])
        for pull in document["pulls"]
    ]
    rows += [
        ("(download)", _mb(file["bytes"]), file["reference"] or file["file"])
        for file in document["unfinished"]
    ]
    rows += [
        (model["model_id"], _mb(model["bytes"]), model["source"])
        for model in document["models"]
        if not model["is_pulled"]
    ]
    free, total = _mb(document["free_bytes"]), _mb(document["total_bytes"])
    pulled = _mb(document["pulled_bytes"])
    line = f"{pulled} pulled to {document['models_dir']}; {free} of {total} free"
    return Group(render.clean(line), render.table(("MODEL", "SIZE", "FROM"), rows))


def _removed_text(said: str, removal: dict[str, Any]) -> str:
    files, kept = removal.get("files", ()), removal.get("kept", ())
    lines = [f"{said}: {len(files)} files, {_mb(removal.get('freed_bytes', 0))}"]
    lines += [f"  {file}" for file in files]
    lines += [f"  kept, others use it: {file}" for file in kept]
    return "\n".join(lines)


def _confirm(s: Session, question: str) -> None:
    """Raises InvalidRequest where nobody can be asked."""
    if s.is_json or not s.console(stderr=True).is_terminal:
        raise refuse("nobody can be asked here: say --yes")
    if not typer.confirm(render.clean(question), err=True):
        raise typer.Exit(1)


def _mb(size: int | None) -> str:
    return "?" if size is None else f"{size / BYTES_PER_MB:,.1f} MB"
