"""Talking to a model from the terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from modelpool_client import _calls as calls
from modelpool_client._sync import PoolClient
from modelpool_client.cli.conversation import (
    LAST,
    QUOTES,
    Conversation,
    command_of,
    figures_text,
    help_text,
    state_folder,
)
from modelpool_client.cli.models import Model, show_load
from modelpool_client.cli.render import clean
from modelpool_client.cli.session import Session, refuse, session
from modelpool_client.errors import ModelPoolError

WITH_USAGE = {"stream_options": {"include_usage": True}}
LINES_KEPT = 1000


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
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture that goes with it; repeatable.")
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option(help="A text file that goes with it; repeatable.")
    ] = None,
) -> None:
    """Talk to a model; it is loaded if need be. In a conversation /help says what can be done;
    Ctrl-C stops an answer, Ctrl-D or /exit ends it."""
    s = session(ctx)
    given = {"max_tokens": max_tokens, "temperature": temperature}
    params: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    talk = Conversation(model, system or "", params)
    for path in image or ():
        talk.attach_image(path)
    for path in file or ():
        talk.attach_file(path)
    with s.client() as pool:
        if prompt is None and has_person() and not s.is_json:
            Talk(s, pool, talk).run()
            return
        talk.say(_typed(lambda: sys.stdin.read() if prompt is None else prompt))
        show_load(s, pool, model)
        if s.is_json:
            s.show(pool.fetch(calls.chat(model, talk.asked, False, params)), str)
        else:
            for piece in pool.chat_stream(model, talk.asked, **params):
                print(clean(piece), end="", flush=True)
            print()


def has_person() -> bool:
    """Whether somebody can type: standard input is a terminal."""
    return sys.stdin.isatty()


class Talk:
    """A person talks to a model. What goes wrong with one message is said, and the conversation
    goes on."""

    def __init__(self, session: Session, pool: PoolClient, conversation: Conversation) -> None:
        self._session = session
        self._pool = pool
        self._conversation = conversation
        self._prices: dict[str, Mapping[str, Any]] = {}

    def run(self) -> None:
        """Until its end; the model is there when it begins."""
        show_load(self._session, self._pool, self._conversation.model)
        with _line_editing():
            while (text := _message()) is not None:
                try:
                    if not self._heard(text):
                        return
                except ModelPoolError as e:
                    print(clean(f"error: {e.message}"), file=sys.stderr)
                except KeyboardInterrupt:
                    print("(stopped)", file=sys.stderr)
        print()

    def _heard(self, text: str) -> bool:
        """Whether the conversation goes on."""
        talk, command = self._conversation, command_of(text)
        if command is None:
            if text:
                talk.say(text.removeprefix("/") if text.startswith("//") else text)
                self._answer()
            return True
        name, said = command
        if name == "/exit":
            return False
        if name == "/retry":
            talk.retry()
            self._answer()
        else:
            self._tell(_done(talk, name, said))
        return True

    def _answer(self) -> None:
        """Print the model's answer as it comes, then what it took. One that is stopped, or breaks
        off, stays as far as it came; a question without any answer is forgotten."""
        talk, pieces = self._conversation, list[str]()
        figures: dict[str, Any] = {}
        began, first = time.monotonic(), None
        try:
            show_load(self._session, self._pool, talk.model)
            params = {**WITH_USAGE, **talk.params}
            for piece in self._pool.chat_stream(talk.model, talk.asked, figures.update, **params):
                first = time.monotonic() - began if first is None else first
                pieces.append(piece)
                print(clean(piece), end="", flush=True)
        finally:
            if pieces:
                print()
                talk.answered("".join(pieces))
                talk.save(LAST)
            else:
                talk.unanswered()
        total = time.monotonic() - began
        self._tell(figures_text(figures, first, total, self._prices_of(talk.model)))

    def _prices_of(self, model: str) -> Mapping[str, Any]:
        if model not in self._prices:
            self._prices[model] = {}
            with contextlib.suppress(ModelPoolError):  # a virtual model has none
                document = self._pool.fetch(calls.model(model))
                self._prices[model] = document.get("prices") or {}
        return self._prices[model]

    def _tell(self, text: str) -> None:
        """What is no answer of the model's goes elsewhere, and is faint."""
        self._session.console(stderr=True).print(clean(text), style="dim", markup=False)


def _done(talk: Conversation, name: str, said: str) -> str:
    """Do what a command says; what to say of it."""
    if name in ("/model", "/image", "/file") and not said:
        raise refuse(f"{name} needs a name: {name} NAME")
    if name == "/help":
        return help_text()
    if name == "/set":
        return talk.set(said)
    if name == "/save":
        return f"kept in {talk.save(said or LAST)}"
    if name == "/load":
        talk.load(said or LAST)
        return f"{len(talk.messages)} messages with {talk.model}"
    if name == "/model":
        talk.model = said
        return f"{said} answers from now on"
    if name == "/system":
        talk.system = said
        return "that is how it should behave" if said else "it behaves as it does by itself"
    if name == "/image":
        talk.attach_image(Path(said))
        return f"{said} goes with what you say next"
    if name == "/file":
        talk.attach_file(Path(said))
        return f"{said} goes with what you say next"
    talk.messages.clear()
    talk.attached.clear()
    return "nothing was said yet"


def _message() -> str | None:
    """What somebody says next, of several lines perhaps; None: nothing any more.

    Ctrl-C at the prompt throws away what was typed.
    """
    while True:
        try:
            return _lines(_typed(lambda: input("> ")))
        except EOFError:
            return None
        except KeyboardInterrupt:
            print()
        except ModelPoolError as e:
            print(clean(f"error: {e.message}"), file=sys.stderr)


def _lines(line: str) -> str:
    """With what follows it: up to the closing quotes, or while lines end with a backslash."""
    if line.lstrip().startswith(QUOTES):
        text = line.lstrip().removeprefix(QUOTES)
        while not text.rstrip().endswith(QUOTES):
            text += "\n" + _typed(lambda: input("… "))
        return text.rstrip().removesuffix(QUOTES).strip("\n")
    while line.endswith("\\"):
        line = line.removesuffix("\\") + "\n" + _typed(lambda: input("… "))
    return line.strip()


@contextlib.contextmanager
def _line_editing() -> Iterator[None]:
    """Lines can be edited and found again, also those of earlier conversations, where the system
    can do that."""
    try:
        import readline
    except ImportError:
        yield
        return
    path = state_folder() / "lines"
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(LINES_KEPT)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            readline.write_history_file(path)


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
