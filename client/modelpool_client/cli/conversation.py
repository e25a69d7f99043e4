"""A conversation with a model: what was said, what is set, what its commands do. No I/O but the
files that it is told to read or write.
"""

from __future__ import annotations

import base64
import json
import mimetypes
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelpool_client.cli.session import refuse

COMMANDS: Mapping[str, str] = {
    "/help": "what can be done here",
    "/model NAME": "go on with another model",
    "/system [TEXT]": "how the model should behave; nothing without a text",
    "/set [KEY=VALUE]": "a parameter, as temperature=0.2 (- unsets it); alone: which are set",
    "/image FILE": "a picture that goes with what is said next",
    "/file FILE": "a text file that goes with what is said next",
    "/retry": "have the last answer written anew",
    "/clear": "begin anew, with the same model and parameters",
    "/save [NAME]": "keep the conversation",
    "/load [NAME]": "go on with one that was kept; without a name with the last",
    "/exit": "end; so does Ctrl-D",
}
QUOTES = '"""'
LAST = "last"
MOST_BYTES = 20 * 1024 * 1024
# Of a request, what is no parameter of it here.
_OURS = {
    "model": "/model NAME goes on with another",
    "messages": "they are what was said; /clear begins anew",
    "stream": "answers come piece by piece",
    "told": "it is no parameter",
}
_BETWEEN = re.compile(r"\s*=\s*|\s+")  # a key and its value
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where conversations are kept: in XDG's folder for state."""
    base = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "modelpool" / "chats"


@dataclass
class Conversation:
    """Its messages in the words of OpenAI's API; ``attached`` are parts of the next one."""

    model: str
    system: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    attached: list[dict[str, Any]] = field(default_factory=list)

    def say(self, text: str) -> None:
        """The next message, with what is attached."""
        content: Any = text
        if self.attached:
            content, self.attached = [*self.attached, {"type": "text", "text": text}], []
        self.messages.append({"role": "user", "content": content})

    def answered(self, text: str) -> None:
        """What the model said."""
        self.messages.append({"role": "assistant", "content": text})

    def unanswered(self) -> None:
        """Forget the last message: it had no answer."""
        if self.messages and self.messages[-1]["role"] == "user":
            self.messages.pop()

    def retry(self) -> None:
        """Forget the last answer.

        Raises:
            InvalidRequest: there is none.
        """
        if not self.messages or self.messages[-1]["role"] != "assistant":
            raise refuse("there is no answer yet that could be written anew")
        self.messages.pop()

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The messages that the model gets."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self.messages]

    def set(self, said: str) -> str:
        """Set a parameter, or say which are set; a text for people.

        Raises:
            InvalidRequest: a key without a value.
        """
        if not said:
            return ", ".join(f"{k} {json.dumps(v)}" for k, v in self.params.items()) or "nothing"
        key, value = [*_BETWEEN.split(said.strip(), 1), ""][:2]
        if not key or not value:
            raise refuse(f"/set {said} sets nothing: say /set KEY=VALUE; - as a value unsets it")
        if key in _OURS:
            raise refuse(f"{key} is not set so: {_OURS[key]}")
        if value == "-":
            self.params.pop(key, None)
            return f"{key} is the model's own again"
        self.params[key] = _json_or_text(value)
        return f"{key} is {json.dumps(self.params[key])}"

    def attach_image(self, path: Path) -> None:
        """A picture goes with the next message.

        Raises:
            InvalidRequest: it cannot be read, is too large, or is no picture by its name.
        """
        kind = mimetypes.guess_type(path.name)[0] or ""
        if not kind.startswith("image/"):
            raise refuse(f"{path} is no picture by its name (png, jpeg, webp, gif)")
        data = base64.b64encode(_read(path)).decode()
        url = {"url": f"data:{kind};base64,{data}"}
        self.attached.append({"type": "image_url", "image_url": url})

    def attach_file(self, path: Path) -> None:
        """A text file goes with the next message.

        Raises:
            InvalidRequest: it cannot be read, is too large, or holds no UTF-8 text.
        """
        try:
            text = _read(path).decode()
        except UnicodeDecodeError:
            raise refuse(f"{path} holds no UTF-8 text; for a picture: /image") from None
        self.attached.append({"type": "text", "text": f"{path.name}:\n```\n{text}\n```"})

    def save(self, name: str = LAST, folder: Path | None = None) -> Path:
        """Keep it, for nobody else to read; where.

        Raises:
            InvalidRequest: it cannot be called so, or not be written.
        """
        path = _path(name, folder)
        kept = {"model": self.model, "system": self.system, "params": self.params}
        text = json.dumps({**kept, "messages": self.messages}, ensure_ascii=False, indent=1)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.chmod(0o600)
            part.replace(path)
        except OSError as e:
            raise refuse(f"{path} cannot be written: {e.strerror}") from None
        return path

    def load(self, name: str = LAST, folder: Path | None = None) -> None:
        """Become one that was kept.

        Raises:
            InvalidRequest: there is none, or it is none; nothing has changed.
        """
        path = _path(name, folder)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            model, system = str(kept["model"]), str(kept["system"])
            params, messages = dict(kept["params"]), [dict(m) for m in kept["messages"]]
        except FileNotFoundError:
            there = ", ".join(saved_names(folder)) or "none"
            raise refuse(f"no conversation {name!r} was kept; there is {there}") from None
        except OSError as e:
            raise refuse(f"{path} cannot be read: {e.strerror}") from None
        except (ValueError, TypeError, KeyError):
            raise refuse(f"{path} holds no conversation") from None
        self.model, self.system, self.params, self.messages = model, system, params, messages
        self.attached = []


def saved_names(folder: Path | None = None) -> list[str]:
    """Of the conversations that were kept."""
    return sorted(path.stem for path in (folder or state_folder()).glob("*.json"))


def command_of(line: str) -> tuple[str, str] | None:
    """PURE. A command and what is said with it; None where it is something to say to the model.

    Raises:
        InvalidRequest: there is no such command.
    """
    if not line.startswith("/") or line.startswith("//"):
        return None
    name, _, rest = line.partition(" ")
    known = {text.split()[0] for text in COMMANDS}
    if name in ("/quit", "/bye"):
        name = "/exit"
    if name not in known:
        raise refuse(f"there is no command {name}; /help says which there are, // says a slash")
    return name, rest.strip()


def help_text() -> str:
    """PURE. All commands."""
    width = max(map(len, COMMANDS))
    lines = [f"{name:{width}}  {about}" for name, about in COMMANDS.items()]
    lines.append(
        f"A message of several lines begins and ends with {QUOTES}, or has \\ at line ends."
    )
    return "\n".join(lines)


def figures_text(
    figures: Mapping[str, Any], first: float | None, total: float, prices: Mapping[str, Any]
) -> str:
    """PURE. What an answer took: tokens, time of each phase, cost. ``first`` and ``total`` are
    seconds until the first piece and until the end, as they were seen here."""
    usage, timings = figures.get("usage") or {}, figures.get("timings") or {}
    prompt, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    first = total if first is None else first
    read = min(first, (timings.get("prompt_ms") or 0) / 1000)
    parts = [f"{prompt:,} read" + (f" ({cached:,} cached)" if cached else "")] if prompt else []
    if written:
        rate = f", {written / (total - first):.1f}/s" if total > first else ""
        parts.append(f"{written:,} written{rate}")
    parts.append(f"waited {first - read:.2f} s")
    parts += [f"reading {read:.2f} s"] if read else []
    parts.append(f"writing {total - first:.2f} s")
    if cost := cost_of(prices, prompt or 0, cached, written or 0):
        parts.append(f"{cost:.6f} {prices.get('currency', 'USD')}")
    return " · ".join(parts)


def cost_of(prices: Mapping[str, Any], prompt: int, cached: int, written: int) -> float:
    """PURE. By prices of a million tokens, and of a request."""
    read = prices.get("input", 0)
    tokens = (prompt - cached) * read + cached * prices.get("cached_input", read)
    tokens += written * prices.get("output", 0)
    return float(tokens / 1e6 + prices.get("request", 0))


def _path(name: str, folder: Path | None) -> Path:
    if not _NAME.fullmatch(name):
        raise refuse(f"{name!r} is no name for a conversation: letters, digits, . _ -")
    return (folder or state_folder()) / f"{name}.json"


def _read(path: Path) -> bytes:
    path = path.expanduser()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise refuse(f"{path} is larger than {MOST_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as e:
        raise refuse(f"{path} cannot be read: {e.strerror}") from None


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
