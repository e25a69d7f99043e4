"""OpenAI's Responses API, told to an engine as chat completions. PURE but for the ids, which are
drawn at random."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from modelpool_client.errors import InvalidRequest, ModelPoolError
from modelpool_client.surfaces.counting import token_count
from modelpool_client.surfaces.responses import answers, request, tables
from modelpool_client.surfaces.responses.ids import Ids
from modelpool_client.surfaces.responses.items import full_items
from modelpool_client.surfaces.responses.kept import Kept, deleted, input_items, replayed
from modelpool_client.surfaces.responses.stream import PING, Events, ResponseStream
from modelpool_client.surfaces.responses.tables import BODIES, COUNT_PATH, RESPONSES_PATH, RULES
from modelpool_client.surfaces.routes import CHAT_PATH
from modelpool_client.surfaces.schema_checks import checks
from modelpool_client.surfaces.translation import Told, Translation

__all__ = [
    "BODIES",
    "COUNT_PATH",
    "RESPONSES_PATH",
    "RULES",
    "Kept",
    "ResponseTranslation",
    "count_request",
    "deleted",
    "input_items",
    "input_tokens",
    "replayed",
    "translate",
]

_STREAM_TYPE = b"text/event-stream; charset=utf-8"
_ID_BYTES = 24
_CHECKS = checks(BODIES)


def random_id() -> str:
    """What makes the ids of a response unlike those of all others, and not to be guessed."""
    return secrets.token_hex(_ID_BYTES)


def translate(
    path: str,
    data: dict[str, Any],
    earlier: Any,
    now: Callable[[], float],
    unique: Callable[[], str] = random_id,
) -> Translation:
    """Check a request to one of the paths of ``BODIES`` and translate it: to ``RESPONSES_PATH``
    a ``ResponseTranslation``.

    Args:
        earlier: the ``Kept`` of the response that ``previous_response_id`` names; None where
            there is no such name, or nothing is kept of it.
        now: unix seconds.
        unique: once for each response, fit for an id.

    Raises:
        InvalidRequest: with ``param``; its code is ``previous_response_not_found`` where nothing
            is kept of it.
    """
    if path == COUNT_PATH:
        prompt = count_request(data, earlier)
        ignored = (*tables.ignored(COUNT_PATH, data), *request.left_out(data))
        return token_count(prompt, ignored, input_tokens, _error_event)
    return ResponseTranslation(data, earlier, now, unique)


def count_request(data: dict[str, Any], earlier: Kept | None) -> dict[str, Any]:
    """The body of chat completions (messages, tools, what its template is told) whose prompt is to
    be counted, for an engine that can count without answering.

    Raises:
        InvalidRequest: with ``param``.
    """
    _CHECKS[COUNT_PATH](data)
    tables.ignored(COUNT_PATH, data)  # or refused
    context = _context(data, earlier)
    items = full_items(data.get("input") or [], context, Ids(""))
    return request.prompt_body(data, [*context, *items])


def input_tokens(tokens: int) -> dict[str, Any]:
    """The body that says how many tokens a prompt has."""
    return {"object": "response.input_tokens", "input_tokens": tokens}


class ResponseTranslation:
    """One request for a response. Beside ``Translation``:

    - ``store`` and ``response_id`` are known from the start;
    - ``kept`` may be called once the engine has said everything: after the last ``chunk`` and
      before ``end``, or after ``whole``;
    - ``not_stored`` may be called as long as the response is not sent: before ``end``, or after
      ``whole``, whose body it changes.

    So whoever stores it does that between them, and the client is told of what has come of it.
    """

    def __init__(
        self,
        data: dict[str, Any],
        earlier: Kept | None,
        now: Callable[[], float],
        unique: Callable[[], str],
    ) -> None:
        _CHECKS[RESPONSES_PATH](data)
        ignored = (*tables.ignored(RESPONSES_PATH, data), *request.left_out(data))
        request.check_together(data)
        ids = Ids(unique())
        self._context = _context(data, earlier)
        self._input = full_items(data.get("input") or [], self._context, ids)
        body = request.chat_body(data, [*self._context, *self._input])
        telemetry = {name: True for name in tables.TELEMETRY if data.get(name)}
        body |= telemetry
        self.told = Told(CHAT_PATH, body, bool(data.get("stream")), ignored)
        self._stream = ResponseStream(
            answers.begun(data, ids, now()),
            ids,
            request.custom_tools(data),
            now,
            shows_logprobs=request.shows_logprobs(data),
            shows_timings=bool(telemetry),
        )

    @property
    def response_id(self) -> str:
        """Under which it is kept."""
        return str(self._stream.response["id"])

    @property
    def store(self) -> bool:
        """The client wants it kept, and nobody has said that it could not be."""
        return bool(self._stream.response["store"])

    @property
    def stream_type(self) -> bytes:
        return _STREAM_TYPE

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        """What a stream of one chunk would end with."""
        choice: dict[str, Any] = (answer.get("choices") or ({},))[0]
        message = choice.get("message") or {}
        calls = message.get("tool_calls") or ()
        delta = {**message, "tool_calls": [{**c, "index": i} for i, c in enumerate(calls)]}
        self._stream.tell_nobody()
        self._stream.chunk({**answer, "choices": [{**choice, "delta": delta}]})
        self._stream.settle()
        return self._stream.response

    def begin(self) -> bytes:
        return self._stream.begin()

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        return self._stream.chunk(chunk)

    def text(self, text: str) -> bytes:
        """See ``TellsTexts``."""
        return self._stream.text(text)

    def kept(self) -> Kept:
        """What a later request goes on from, see there; no more chunks may come."""
        self._stream.settle()
        response = self._stream.response
        context = [*self._context, *self._input, *response["output"]]
        return {"response": response, "input": self._input, "context": context}

    def not_stored(self) -> None:
        """The response says that it is not kept, though it may have been wanted."""
        self._stream.response["store"] = False

    def end(self) -> bytes:
        return self._stream.end()

    def failed(self, error: ModelPoolError) -> bytes:
        return self._stream.failed(error)

    def ping(self) -> bytes:
        return PING


def _error_event(error: ModelPoolError) -> bytes:
    ours = error.body()["error"]
    return Events().tell("error", **{k: ours[k] for k in ("code", "message", "param")})


def _context(data: dict[str, Any], earlier: Kept | None) -> list[dict[str, Any]]:
    name = data.get("previous_response_id")
    if name is None:
        return []
    if earlier is None:
        raise InvalidRequest(
            f"previous response {name[:128]!r} is not kept here: store was false, or it was "
            "deleted, or had to make room for newer ones; send its items as input instead",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return earlier["context"]
