"""What the global options say, for every command: which pool, and how to print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import typer
from rich.console import Console, RenderableType

from modelpool_client import errors
from modelpool_client._connection import RetryPolicy
from modelpool_client._sync import PoolClient
from modelpool_client.cli.render import clean

# A person wants to hear at once that the pool is down; who follows events wants to outlive its
# restart.
AT_ONCE = RetryPolicy(down_seconds=0.5)
PATIENT = RetryPolicy(attempts=40, down_seconds=60.0)

EXIT_CODES = """\
Exit codes: 0 done; 1 the pool said no; 2 wrong usage; 3 no pool answers;
4 no such model; 5 the load failed, timed out or found no room; 130 interrupted.
"""

_LOAD_ERRORS = (
    errors.LoadFailed,
    errors.LoadCancelled,
    errors.LoadTimeout,
    errors.CannotFit,
    errors.NoPortFree,
    errors.NoMemoryFree,
    errors.PoolBusy,
)

# Characters of a line in a file.
FILE_WIDTH = 250
_NEXT_STEPS: tuple[tuple[type[errors.ModelPoolError], str], ...] = (
    (errors.ModelNotFound, "see `poolctl list` for the models there are"),
    (errors.ModelExists, "delete it first: `poolctl delete MODEL`"),
    (errors.UnloadProtected, "say it again with --force"),
    (errors.LoadFailed, "see `poolctl logs MODEL`; `poolctl load MODEL` tries again"),
    (errors.LoadTimeout, "it may still be loading: `poolctl status MODEL`"),
    (errors.CannotFit, "see `poolctl list` for who holds the memory"),
    (errors.PoolBusy, "try again later, or unload a model"),
    (errors.NoPortFree, "unload a model: `poolctl unload MODEL`"),
    (errors.NoMemoryFree, "see `poolctl plan load MODEL` for what the host has available"),
)


@dataclass(frozen=True)
class Session:
    """The pool to talk to, and the form of the answers."""

    url: str | None = None
    is_json: bool = False
    no_color: bool = False

    def client(self, retry: RetryPolicy = AT_ONCE) -> PoolClient:
        """A client of the pool; close it."""
        return PoolClient(self.url, retry=retry)

    def console(self, stderr: bool = False) -> Console:
        """Where people read: plain unless it is a terminal and colours are wanted. What goes into a
        pipe or a file is not broken into lines of a terminal's width."""
        plain = self.no_color or bool(os.environ.get("NO_COLOR"))
        colors: Literal["auto"] | None = None if plain else "auto"
        is_seen = (sys.stderr if stderr else sys.stdout).isatty() or "COLUMNS" in os.environ
        width = None if is_seen else FILE_WIDTH
        return Console(stderr=stderr, color_system=colors, highlight=False, width=width)

    def show(self, document: Any, human: Callable[[], RenderableType]) -> None:
        """Print one answer: the document for programs, what ``human`` makes of it for people."""
        if self.is_json:
            print(json.dumps(document, indent=2, ensure_ascii=False))
        elif isinstance(text := human(), str):
            print(clean(text))
        else:
            self.console().print(text)

    def line(self, document: Mapping[str, Any], human: str) -> None:
        """Print one line of many, at once."""
        text = json.dumps(document, ensure_ascii=False) if self.is_json else clean(human)
        print(text, flush=True)

    def fail(self, error: errors.ModelPoolError) -> NoReturn:
        """Say on standard error what went wrong and what to do next, and exit."""
        if self.is_json:
            print(json.dumps(error.body(), ensure_ascii=False), file=sys.stderr)
        else:
            print("\n".join(map(clean, _explained(error))), file=sys.stderr)
        raise typer.Exit(exit_code(error))


def session(ctx: typer.Context) -> Session:
    """The session that the global options of this command line made."""
    found = ctx.find_object(Session)
    return found or Session()


def exit_code(error: errors.ModelPoolError) -> int:
    """The exit code that stands for an error; see ``EXIT_CODES``."""
    if isinstance(error, errors.PoolUnreachable):
        return 3
    if isinstance(error, errors.ModelNotFound):
        return 4
    return 5 if isinstance(error, _LOAD_ERRORS) else 1


def refuse(message: str, param: str | None = None) -> errors.InvalidRequest:
    """An error of ours about what the user gave us."""
    return errors.InvalidRequest(message, param=param, source="client")


def _explained(error: errors.ModelPoolError) -> list[str]:
    lines = [f"error: {error.message}"]
    last_words = error.details.get("lines")
    if isinstance(last_words, list):
        lines += [f"  | {line}" for line in last_words[-10:]]
    lines += [step for cls, step in _NEXT_STEPS if isinstance(error, cls)]
    return lines
