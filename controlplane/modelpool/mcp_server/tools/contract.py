"""PURE. What a tool is: its words for those who choose among tools, its schemas, what it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from modelpool_client._async_transport import AsyncTransport
from modelpool_client.errors import InvalidRequest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

A = TypeVar("A", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

# Nothing is guessed and nothing dropped: a model that is told what was wrong asks again.
ARGUMENTS = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
LONGEST_NAME = 255  # bytes of a model's id, by its grammar


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a character (a lone surrogate)") from None
    return text


# Text that can be sent on: JSON may name what is no character.
Unicode = Annotated[str, AfterValidator(_unicode)]
ModelName = Annotated[
    Unicode,
    Field(min_length=1, max_length=LONGEST_NAME, description="Id or alias of a model of the pool"),
]


def as_json(result: BaseModel) -> str:
    """All of a result as text: what clients that read no structured content are given."""
    return result.model_dump_json()


@dataclass(frozen=True)
class Tool(Generic[A, R]):
    """One tool. Its arguments and its result are objects, described by pydantic models.

    Attributes:
        run: asks the pool; raises ``ModelPoolError``.
        text: what the result is in words.
        may_load: it loads the model of its argument ``model`` if need be: how far that is can be
            told meanwhile.
        is_read_only: it changes nothing.
        is_destructive: it ends something; always false where it is read-only.
        is_idempotent: asked a second time it does no more.
    """

    name: str
    title: str
    description: str
    arguments: type[A]
    result: type[R]
    run: Callable[[AsyncTransport, A], Awaitable[R]]
    text: Callable[[R], str] = as_json
    may_load: bool = False
    is_read_only: bool = False
    is_destructive: bool = False
    is_idempotent: bool = True

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of the arguments."""
        schema: dict[str, Any] = _without_titles(self.arguments.model_json_schema())
        return schema

    @property
    def output_schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of the result."""
        described = self.result.model_json_schema(mode="serialization")
        schema: dict[str, Any] = _without_titles(described)
        return schema

    def read(self, arguments: Mapping[str, Any] | None) -> A:
        """The arguments, checked.

        Raises:
            InvalidRequest: naming each that is wrong, and the first as ``param``.
        """
        try:
            return self.arguments.model_validate(dict(arguments or {}))
        except ValidationError as e:
            found = [(".".join(map(str, error["loc"])), _message(error)) for error in e.errors()]
            text = "; ".join(f"{where}: {what}" if where else what for where, what in found)
            known = ", ".join(self.arguments.model_fields) or "no arguments"
            raise InvalidRequest(
                f"{text}; {self.name} takes: {known}", param=found[0][0] or None
            ) from None


def _message(error: Mapping[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")  # of a validator of ours


def _without_titles(schema: Any) -> Any:
    """pydantic repeats every name as a title, which whoever reads tools as tokens pays for."""
    if isinstance(schema, list):
        return [_without_titles(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    # The properties' own names are no words of the schema.
    return {
        key: {name: _without_titles(inner) for name, inner in part.items()}
        if key in ("properties", "$defs")
        else _without_titles(part)
        for key, part in schema.items()
        if key != "title" or not isinstance(part, str)
    }
