"""Talking to a model from the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from modelpool_client import _calls as calls
from modelpool_client._sync import PoolClient
from modelpool_client.cli.models import Model
from modelpool_client.cli.render import clean
from modelpool_client.cli.session import refuse, session


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.command()(chat)


def chat(
    ctx: typer.Context,
    model: Model,
    prompt: Annotated[
        str | None, typer.Argument(help="What to say; without it, a conversation, or stdin.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="How the model should behave.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="0: always the same.")] = None,
) -> None:
    """Talk to a model; it is loaded if need be. Ctrl-D or /exit ends a conversation."""
    s = session(ctx)
    given = {"max_tokens": max_tokens, "temperature": temperature}
    params = {k: v for k, v in given.items() if v is not None}
    messages = [{"role": "system", "content": system}] if system else []
    with s.client() as pool:
        if prompt is None and has_person() and not s.is_json:
            _converse(pool, model, messages, params)
            return
        messages.append(_said(_typed(lambda: sys.stdin.read() if prompt is None else prompt)))
        if s.is_json:
            s.show(pool.fetch(calls.chat(model, messages, False, params)), str)
        else:
            _answer(pool, model, messages, params)


def has_person() -> bool:
    """Whether somebody can type: standard input is a terminal."""
    return sys.stdin.isatty()


def _converse(
    pool: PoolClient, model: str, messages: list[dict[str, str]], params: dict[str, Any]
) -> None:
    while True:
        try:
            text = _typed(lambda: input("> ")).strip()
        except EOFError:
            print()
            return
        if text == "/exit":
            return
        if text:
            messages.append(_said(text))
            reply = _answer(pool, model, messages, params)
            messages.append({"role": "assistant", "content": reply})


def _answer(
    pool: PoolClient, model: str, messages: list[dict[str, str]], params: dict[str, Any]
) -> str:
    """Print the model's answer as it comes, and return it."""
    pieces = []
    for piece in pool.chat_stream(model, messages, **params):
        pieces.append(piece)
        print(clean(piece), end="", flush=True)
    print()
    return "".join(pieces)


def _typed(read: Callable[[], str]) -> str:
    """What somebody says to the model.

    Raises:
        InvalidRequest: it is not text, or in another encoding.
    """
    try:
        text = read()
        text.encode()  # in some locales Python lets through what it cannot read
    except (UnicodeDecodeError, UnicodeEncodeError) as e:
        raise refuse(f"what you say is no UTF-8 text: {e.reason}") from None
    return text


def _said(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
