"""PURE. What each model of several has contributed to an answer, told with that answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from modelpool_client.errors import BadGateway, InvalidRequest
from modelpool_client.wire import CHANGED_HEADER, MEMBERS_HEADER, MODEL_HEADER

from .answers import Tokens, tokens_of
from .failover import moves_on
from .plan import CANCELLED, Outcome, Reply
from .request import RouteRequest

Detail: TypeAlias = Literal["none", "summary", "full"]
DETAILS: tuple[Detail, ...] = ("none", "summary", "full")
# In the body of an answer that was made of several.
EXTENSION = "modelpool"


@dataclass(frozen=True)
class Member:
    """One that was asked, and what came of it.

    Attributes:
        name: as the entry names it.
        role: what it was asked for, where that is not the answer: ``judge``, ``speech``.
        vote: what its answer was counted as; None where it did not vote.
        more: what else is to be told, plain JSON.
    """

    name: str
    outcome: Outcome
    vote: str | None = None
    role: str = ""
    is_chosen: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self, detail: Detail) -> dict[str, Any]:
        """For the answer's extension."""
        outcome = self.outcome
        told: dict[str, Any] = {"model": self.name}
        by = outcome.headers.get(MODEL_HEADER, "")
        told |= {"answered_by": by} if by and by != self.name else {}
        told |= {"role": self.role} if self.role else {}
        told["status"] = "answered" if outcome.is_answer else "failed"
        if outcome.error == CANCELLED:
            told["status"] = "cancelled"
        if not outcome.is_answer:
            told["error"] = {"code": outcome.error, "message": outcome.message}
        told |= {"vote": self.vote} if self.vote is not None else {}
        told |= {"is_chosen": True} if self.is_chosen else {}
        told |= self.more
        changed = outcome.headers.get(CHANGED_HEADER)
        told |= {"changed": changed} if changed else {}
        if outcome.is_answer:
            told["usage"] = tokens_of(outcome.said()).as_json()
        told["seconds"] = round(outcome.seconds, 3)
        if detail == "full" and outcome.is_answer:
            told["answer"] = outcome.said() or {"bytes": len(outcome.body)}
        return told


def detail_of(request: RouteRequest) -> Detail:
    """How much of the members a request wants to be told.

    Raises:
        InvalidRequest: its header says something else.
    """
    said = request.members.strip().casefold() or "summary"
    for detail in DETAILS:
        if said == detail:
            return detail
    raise InvalidRequest(
        f"{MEMBERS_HEADER} must be one of {', '.join(DETAILS)}, not {said[:80]!r}",
        param=MEMBERS_HEADER,
    )


def with_members(
    body: Mapping[str, Any],
    how: str,
    members: Sequence[Member],
    detail: Detail,
    notes: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> Reply:
    """An answer that tells who has contributed what. Its own ``usage`` stays the one of the answer
    that was taken; that of all together is in the extension."""
    told = dict(body)
    if detail != "none":
        cost = sum((tokens_of(m.outcome.said()) for m in members if m.outcome.body), Tokens())
        told[EXTENSION] = {
            "method": how,
            "notes": list(notes),
            "members": [member.as_json(detail) for member in members],
            "usage": cost.as_json(),
            **(more or {}),
        }
    return Reply(told, notes=tuple(notes))


def failure(how: str, names: Sequence[str], outcomes: Sequence[Outcome], code: str) -> Outcome:
    """What the client is told where too few have answered: its own mistake if it is one, else all
    that went wrong."""
    failed = [(n, o) for n, o in zip(names, outcomes, strict=True) if not o.is_answer]
    for _, each in failed:
        if len(failed) == len(outcomes) and not moves_on(each.status, each.error):
            return each
    told = "; ".join(f"{name}: {each.message or each.error}" for name, each in failed)
    told = told or "all have answered"
    return refused(outcomes[0], f"{how}: {len(failed)} of {len(outcomes)} failed: {told}", code)


def refused(of: Outcome, message: str, code: str) -> Outcome:
    """No answer, though there may be answers; who comes next in a list is asked then."""
    return Outcome(of.ask, BadGateway.status, error=code, message=message)


def shortly(value: Any, most: int = 80) -> str:
    """For a note."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= most else text[: most - 1] + "…"
