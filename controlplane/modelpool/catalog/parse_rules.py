"""What entries are held against, and how everything wrong with a request is said at once. PURE."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelpool_client.errors import InvalidModelId, InvalidRequest

# Engines that registry files of other pools name and this version lacks: such a model may be
# imported, so that nothing of the file is lost; loading it fails.
LATER_ENGINES = frozenset(
    {"anthropic", "coreml", "google", "mlx", "ollama", "onnx", "openai", "transformers", "vllm"}
)


@dataclass(frozen=True)
class ParseRules:
    """What an entry is held against.

    Attributes:
        base_dir: what a relative path in ``source`` is relative to; None refuses relative paths.
        known_engines: names that ``engine`` may have; None accepts any.
        ttl_range: least and most ``ttl_minutes``; 0, never, is always allowed.
    """

    base_dir: Path | None = None
    known_engines: Collection[str] | None = None
    ttl_range: tuple[float, float] = (5.0, 60.0)


DEFAULT_RULES = ParseRules()


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a request: the parameter, and a whole sentence."""

    param: str
    message: str


def refuse(problems: Sequence[Problem]) -> None:
    """Raise InvalidRequest for all problems at once, if there are any.

    ``param`` is the first one's; ``details["errors"]`` lists all as ``{"param", "message"}``.
    """
    if problems:
        first = problems[0].param
        cls = InvalidModelId if first in ("model_id", "id") else InvalidRequest
        text = "; ".join(p.message for p in problems)
        errors = [{"param": p.param, "message": p.message} for p in problems]
        raise cls(text, param=first, details={"errors": errors})
