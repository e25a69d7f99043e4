"""PURE. What a kind of virtual model is: one function, *request and what is known → plan*.

A kind is an object, made once. It reads what the model's entry says when that is written, and
decides about each request without clock, I/O and state of its own; whatever it has to know is in
the request, the entry, and ``Known``. How plans are carried out is none of its business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from modelpool.catalog.model import Model
from modelpool.routing.plan import Plan
from modelpool.routing.request import RouteRequest


class Known(Protocol):
    """What there is to know at the moment; looking is cheap, and nothing seen is a promise."""

    @property
    def now(self) -> datetime:
        """With its time zone, the local one."""
        ...

    def model(self, name: str) -> Model | None:
        """The model with that id or alias."""
        ...

    def models(self) -> Iterator[Model]:
        """Every model of the catalog."""
        ...

    def is_serving(self, model_id: str) -> bool:
        """It is HOT or COOLING: asked now, it need not be loaded."""
        ...

    def in_flight(self, model_id: str) -> int:
        """Requests that its workers have, or that wait for them."""
        ...

    def fact(self, name: str) -> Any:
        """What else somebody has made known under that name, as measured profiles; None where
        nobody has."""
        ...


@dataclass(frozen=True)
class Spec:
    """What an entry says, read by its kind.

    Attributes:
        data: the keys of the kind, put in order, plain JSON: what is stored and shown.
        read: what the kind makes of them; nobody else looks at it.
        targets: every name that its plans may ask. Empty where that depends on the catalog.
    """

    data: Mapping[str, Any]
    read: Any
    targets: tuple[str, ...] = ()


class Kind(Protocol):
    """One kind of virtual model.

    Attributes:
        name: as entries say it, ``weighted``.
        summary: one line for people.
        keys: of an entry, each with its piece of JSON schema.
        required: those of them that must be there.
    """

    name: str
    summary: str
    keys: Mapping[str, Mapping[str, Any]]
    required: Sequence[str]

    def read(self, data: Mapping[str, Any]) -> Spec:
        """What an entry's keys say. Of unknown and missing ones it need not think.

        Raises:
            ValueError: with a whole sentence that begins with the key that is wrong.
        """
        ...

    def plan(self, spec: Spec, request: RouteRequest, known: Known) -> Plan:
        """Which models to ask for this request, and why: pure, and equal for equal inputs.

        Raises:
            ModelPoolError: for the client: no model could do it.
        """
        ...
