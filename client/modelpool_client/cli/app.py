"""The command ``poolctl``: its global options, its groups, and its one way out for errors."""

from __future__ import annotations

import gc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from modelpool_client._connection import URL_VARIABLE
from modelpool_client.cli import (
    alerts,
    breakers,
    capabilities,
    chat,
    discovery,
    doctor,
    engines,
    importing,
    jobs,
    measuring,
    models,
    operations,
    outcomes,
    pulls,
    routing,
    service,
    settings,
    top,
    usage,
    watch,
)
from modelpool_client.cli.session import EXIT_CODES, Session
from modelpool_client.errors import ModelPoolError

_FLAGS = ("--json", "--no-color")


class PoolGroup(TyperGroup):
    """Takes the global options anywhere on the line, and turns errors into exit codes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, globals_first(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ModelPoolError as e:
            (ctx.find_object(Session) or Session()).fail(e)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def globals_first(args: list[str]) -> list[str]:
    """The arguments with the global options moved to the front; ``--`` ends them. PURE."""
    found: list[str] = []
    others: list[str] = []
    end = args.index("--") if "--" in args else len(args)
    rest = iter(args[:end])
    for arg in rest:
        if arg in _FLAGS or arg.startswith("--url="):
            found.append(arg)
        elif arg == "--url":
            found += [arg, *([value] if (value := next(rest, None)) is not None else [])]
        else:
            others.append(arg)
    return found + others + args[end:]


app = typer.Typer(
    name="poolctl",
    cls=PoolGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"\b\n{EXIT_CODES}",
)


@app.callback()
def options(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option(envvar=URL_VARIABLE, help="The pool's address.", metavar="URL")
    ] = None,
    is_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, for programs; errors too, on stderr.")
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours; also NO_COLOR in the environment.")
    ] = False,
) -> None:
    """Drive a pool of AI models. The options here may stand anywhere on the line."""
    ctx.obj = Session(url, is_json, no_color)


for module in (
    models,
    discovery,
    pulls,
    jobs,
    capabilities,
    operations,
    usage,
    measuring,
    top,
    watch,
    chat,
    settings,
    importing,
    service,
    doctor,
    engines,
    routing,
    outcomes,
    breakers,
    alerts,
):
    module.add_to(app)


def main() -> None:
    """The entry point."""
    gc.freeze()  # nor is it looked for at the end
    app(prog_name="poolctl")
