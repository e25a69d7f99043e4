"""PURE: what a change of the catalog did, or why it did nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelpool_client.errors import Conflict

from .index import Clash
from .model import Model
from .parse_rules import Problem


@dataclass(frozen=True)
class ImportReport:
    """What an import did, as model ids."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def ids(models: Iterable[Model]) -> tuple[str, ...]:
    return tuple(m.model_id for m in models)


def conflict(clash: Clash) -> Conflict:
    """A name is taken by another model."""
    param = "model_id" if clash.name == clash.model.model_id else "aliases"
    return Conflict(f"{param}: {clash}", param=param, details={"model_id": clash.owner})


def exists(model: Model) -> Problem:
    """An import may not replace it."""
    text = f"there is a model {model.model_id!r} already, with other content; say replace"
    return Problem("models", text)
