"""PURE. A request in another API's words, told to an engine in OpenAI's, and its answer told back.

A surface that an engine does not speak itself is translated once for all engines: a ``Translation``
is made from the request, then told what the engine says, and does no input or output of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from modelpool_client.errors import ModelPoolError

# Under which engines say which stop text ended a choice, of which OpenAI's API knows nothing: vLLM,
# SGLang.
MATCHED_STOP = ("stop_reason", "matched_stop")


@dataclass(frozen=True)
class Told:
    """What the engine is asked.

    Attributes:
        path: one of OpenAI's, such as ``/v1/chat/completions``.
        body: as OpenAI's clients would say it, without ``model``, ``stream`` and
            ``stream_options``.
        stream: the client wants its answer bit by bit.
        ignored: parameters of the request that have no meaning here; the answer names them.
        is_count: only the tokens of the prompt are wanted: of an engine that counts without
            answering, or else by an answer of one token.
        hints: parameters of engines that the answer is better for; one that an engine does not
            honour is left out.
    """

    path: str
    body: dict[str, Any]
    stream: bool
    ignored: tuple[str, ...] = ()
    is_count: bool = False
    hints: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """What is known beside a request.

    Attributes:
        earlier: what was kept of the answer that it goes on from; None: nothing was.
        serves: the paths that the engine answers.
        capabilities: of the model; none: not known.
    """

    earlier: Any = None
    serves: Collection[str] = ()
    capabilities: Sequence[str] = ()


class Translation(Protocol):
    """One request. A stream is told by ``begin``, ``chunk`` for each of the engine's, and ``end``
    or ``failed``; whatever they give goes to the client, in that order."""

    told: Told

    @property
    def stream_type(self) -> bytes:
        """The Content-Type of a stream."""
        ...

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The body for a client that wants no stream, of the engine's whole answer."""
        ...

    def begin(self) -> bytes:
        """What comes before the engine's first chunk."""
        ...

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        """What one chunk of the engine's stream, the last one with its usage included, tells."""
        ...

    def end(self) -> bytes:
        """What comes after the last."""
        ...

    def failed(self, error: ModelPoolError) -> bytes:
        """The error for a client whose stream has begun."""
        ...

    def ping(self) -> bytes:
        """What keeps a silent stream alive and means nothing, at any place between two events, the
        one before ``begin`` included."""
        ...


class TellsTexts(Protocol):
    """What a translation is, too, that tells texts in a shorter way."""

    def text(self, text: str) -> bytes:
        """What ``chunk`` tells of a chunk that says nothing but that text, for the same choice as
        the chunk before it."""
        ...


@runtime_checkable
class KeptAnswer(Protocol):
    """What a translation is, too, whose answer may be asked for later, or gone on from."""

    @property
    def response_id(self) -> str:
        """Under which it is kept."""
        ...

    @property
    def store(self) -> bool:
        """It is to be kept."""
        ...

    def kept(self) -> Mapping[str, object]:
        """What is to be kept, once the engine has said everything: before ``end``, or after
        ``whole``."""
        ...

    def not_stored(self) -> None:
        """It could not be, which the answer then says: before ``end``, or before the answer that
        ``whole`` gave is sent."""
        ...
