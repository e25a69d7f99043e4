"""What entries are held against, and how everything wrong with a request is said at once. PURE."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from modelpool_client.errors import InvalidModelId, InvalidRequest

from .model import Model


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a request: the parameter, and a whole sentence. ``code`` is
    empty where it is that of any bad request."""

    param: str
    message: str
    code: str = ""


@dataclass(frozen=True)
class ParseRules:
    """What an entry is held against.

    Attributes:
        base_dir: what a relative path in ``source``, or of a file in the options, is relative to;
            None refuses relative paths.
        known_engines: names that ``engine`` may have; None accepts any.
        ttl_range: least and most ``ttl_minutes``; 0, never, is always allowed.
        refused: what the engines said is wrong with entries of a registry file, by their place.
    """

    base_dir: Path | None = None
    known_engines: Collection[str] | None = None
    ttl_range: tuple[float, float] = (5.0, 60.0)
    refused: Mapping[int, Sequence[Problem]] = field(default_factory=dict)


DEFAULT_RULES = ParseRules()


@dataclass(frozen=True)
class EngineVerdict:
    """What a model's engine says of it before anything is loaded.

    Attributes:
        problems: what can never work.
        notes: what keeps it from loading now, or could not be found out; each a whole sentence.
        options: as the engine takes them.
        memory_bytes: what it expects to need, None where it is not known.
        was_asked: the engine; not where its environment is not there.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    options: Mapping[str, Any]
    memory_bytes: int | None = None
    was_asked: bool = True

    @property
    def tells_memory(self) -> bool:
        """Whether it would say the same of its memory again. What kept it from an answer may be
        mended: something is not installed, or it was not in time."""
        return self.memory_bytes is not None or (self.was_asked and not self.notes)


# A verdict for each model, in their order, given what the configuration says to engines.
EngineCheck: TypeAlias = Callable[[Sequence[Model], Mapping[str, Any]], Sequence[EngineVerdict]]


def refuse(problems: Sequence[Problem]) -> None:
    """Raise InvalidRequest for all problems at once, if there are any.

    ``param`` is the first one's; ``details["errors"]`` lists all as ``{"param", "message"}``.
    """
    if problems:
        first = problems[0].param
        cls = InvalidModelId if first in ("model_id", "id") else InvalidRequest
        text = "; ".join(p.message for p in problems)
        errors = [{"param": p.param, "message": p.message} for p in problems]
        code = problems[0].code or None
        raise cls(text, param=first, code=code, details={"errors": errors})
