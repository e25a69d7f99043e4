"""Which engines are usable here, and what they say of models: asked of a worker process, for the
manager imports none."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client.capabilities import word_of

from modelpool.catalog.capability_book import EngineFacts
from modelpool.catalog.model import Model
from modelpool.catalog.parse_rules import EngineVerdict, Problem, refuse
from modelpool.catalog.variables import FilledText, hidden, plain

log = logging.getLogger(__name__)

DESCRIBE_SECONDS = 20.0
COMMAND = (sys.executable, "-m", "modelpool_worker")
NOT_CHECKED = "its engine and options were not checked: the worker program said nothing of them"


def check_models(
    models: Sequence[Model], *, inspect: bool = False, command: Sequence[str] = COMMAND
) -> list[EngineVerdict]:
    """What the engines say of the models, all asked of one process. Takes about 0.1 s.

    Args:
        inspect: look at the sources, too, and ask how much memory they need.
    """
    asked = json.dumps({"models": [_question(model, inspect) for model in models]})
    found = _describe(command, "--check", data=asked)
    answers = (found or {}).get("models", [None] * len(models))
    return [_verdict(m, a) for m, a in zip(models, answers, strict=True)]


def _question(model: Model, inspect: bool) -> dict[str, Any]:
    return {
        "engine": model.engine,
        "source": model.source,
        "options": plain(model.options),
        "texts": [name for name, v in model.options.items() if isinstance(v, FilledText)],
        "inspect": inspect,
    }


def _verdict(model: Model, answer: Mapping[str, Any] | None) -> EngineVerdict:
    if answer is None:
        return EngineVerdict((), (NOT_CHECKED,), plain(model.options))
    secret = (model.engine, model.options)
    problems = (
        Problem(p["param"], hidden(p["message"], secret), p["code"]) for p in answer["problems"]
    )
    notes = tuple(hidden(note, secret) for note in answer["notes"])
    return EngineVerdict(tuple(problems), notes, answer["options"], answer["memory_bytes"])


class Engines:
    """Asks once, in the background, and remembers."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = tuple(command)
        self._asking: asyncio.Task[list[dict[str, Any]]] | None = None

    async def all(self) -> list[dict[str, Any]]:
        """``name, usable, reason, install_hint, version, formats, capabilities, surfaces, options``
        of each; empty if it cannot be known."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asking)

    async def names(self) -> frozenset[str] | None:
        """Names that a model's engine may have; None, any, if it cannot be known."""
        found = frozenset(str(engine["name"]) for engine in await self.all())
        return found or None

    async def about(self, name: str) -> dict[str, Any]:
        """What ``all`` says of one; empty if it says nothing."""
        return next((engine for engine in await self.all() if engine["name"] == name), {})

    async def surfaces(self, name: str) -> Sequence[str] | None:
        """Paths that an engine answers for any model; None if it cannot be known."""
        return (await self.about(name)).get("surfaces")

    async def facts(self, name: str) -> EngineFacts | None:
        """What an engine's models can do at most, and its version; None if it cannot be known."""
        found = next((e for e in await self.all() if e["name"] == name), None)
        if found is None:
            return None
        words = frozenset(word_of(text) for text in found["capabilities"])
        return EngineFacts(words, found.get("version", ""))

    async def verdicts(
        self, models: Sequence[Model], *, inspect: bool = False
    ) -> list[EngineVerdict]:
        """See ``check_models``; of none nobody is asked."""
        if not models:
            return []
        return await asyncio.to_thread(check_models, models, inspect=inspect, command=self._command)

    async def check(self, model: Model) -> int | None:
        """Would the model's engine take its options and its file? Bytes that it expects to need,
        where it can tell.

        Raises:
            InvalidRequest: no, with every reason; an engine that is merely not installed is none.
        """
        (verdict,) = await self.verdicts([model], inspect=True)
        refuse(verdict.problems)
        return verdict.memory_bytes

    async def _ask(self) -> list[dict[str, Any]]:
        found = await asyncio.to_thread(_describe, self._command)
        return list((found or {}).get("engines", []))


def _describe(command: Sequence[str], *arguments: str, data: str = "") -> dict[str, Any] | None:
    """What a worker process says of its engines; None when it says nothing sensible."""
    try:
        done = subprocess.run(
            [*command, "describe", *arguments],
            input=data,
            capture_output=True,
            text=True,
            timeout=DESCRIBE_SECONDS,
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as e:
        log.error("the worker could not describe its engines: %s", e)
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2]
        log.error("the worker could not describe its engines: %s", last or "no JSON")
    else:
        return found
    return None
