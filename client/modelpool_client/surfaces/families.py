"""The APIs that clients speak: how each tells errors, and how its requests are translated."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from modelpool_client.errors import ContextLengthExceeded, InvalidRequest, ModelPoolError
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.content import named_refusal
from modelpool_client.surfaces.contract import Description
from modelpool_client.surfaces.dialect import OPENAI, Dialect
from modelpool_client.surfaces.openai import Completion
from modelpool_client.surfaces.parameter_rules import BASE
from modelpool_client.surfaces.parameters import ANY, Support, client_names
from modelpool_client.surfaces.requests import checked
from modelpool_client.surfaces.routes import (
    CHAT_TOKENS_PATH,
    OLLAMA_MANAGEMENT,
    STREAMED,
    SURFACES,
    Surface,
    route_of,
)
from modelpool_client.surfaces.translation import Known, Told, Translation

Translate: TypeAlias = Callable[[str, dict[str, Any], Known], Translation]
ErrorBody: TypeAlias = Callable[[ModelPoolError], Any]
Names: TypeAlias = Callable[[str], Sequence[str]]


class Translated:
    """The dialect of one request that is translated, which is done only when it is needed: who
    passes bytes on needs it for the pings of a silent stream, if at all."""

    def __init__(self, before: Dialect, part_end: bytes, make: Callable[[], Translation]) -> None:
        self.error = before.error
        self._before = before
        self._part_end = part_end
        self._make = make

    @property
    def stream_headers(self) -> Sequence[tuple[bytes, bytes]]:
        """See ``Dialect``."""
        translation = self._translation()
        if translation is None:
            return self._before.stream_headers
        return (
            (b"content-type", translation.stream_type),
            *((name.encode(), value.encode()) for name, value in sse.AS_IT_COMES.items()),
        )

    @property
    def part_end(self) -> bytes:
        """See ``Dialect``."""
        return self._part_end

    def broken(self, error: ModelPoolError) -> bytes:
        """See ``Dialect``."""
        translation = self._translation()
        return self._before.broken(error) if translation is None else translation.failed(error)

    def comment(self, text: str) -> bytes:
        """See ``Dialect``; translations have no place for a text."""
        translation = self._translation()
        return self._before.comment(text) if translation is None else translation.ping()

    def _translation(self) -> Translation | None:
        try:
            return self._make()
        except InvalidRequest:  # whoever it is relayed to says so
            return None


class _ErrorsOf:
    """The dialect of a request that is not known well enough to be translated: nothing streams."""

    stream_headers = sse.HEADERS
    part_end = b"\n\n"

    def __init__(self, error_body: ErrorBody, event: bytes = b"") -> None:
        """``event`` is the line that names an error in a stream, where readers need one."""
        self.error = error_body
        self._event = event

    def broken(self, error: ModelPoolError) -> bytes:
        """See ``Dialect``."""
        return self._event + sse.event(self.error(error))

    def comment(self, text: str) -> bytes:
        """See ``Dialect``: what its pings look like a translation says."""
        return b""


def _says_stream(path: str, data: dict[str, Any]) -> bool:
    return data.get("stream") is True and path in STREAMED


@dataclass(frozen=True)
class Family:
    """One API.

    Attributes:
        dialect: of a request before it was read.
        describe: gives what its routes look like, those of all its surfaces.
        is_stream: a request, by its path and body, is answered bit by bit, whatever its engine.
        sampling: what a request says of how its answer is drawn, in OpenAI's words: ``seed`` and
            ``temperature``, where this API has them.
        is_kept: what it answers may be asked for later, see ``response_store``.
        earlier_id: of the kept answer that a request goes on from.
        translate: makes of a checked request what engines that speak OpenAI's API are told;
            None where all engines speak it.
        part_end: see ``Dialect``.
        load_answer: the body for a request that only wants its model loaded, or with a
            ``keep_alive`` of 0 unloaded; None for any other. None where there are no such requests.
        keep_alive: seconds that a request wants its model kept; see ``gateway.keep_alive``.
    """

    dialect: Dialect
    describe: Callable[[], Description]
    translate: Translate | None = None
    part_end: bytes = b"\n\n"
    load_answer: Callable[[str, dict[str, Any]], dict[str, Any] | None] | None = None
    keep_alive: Callable[[Mapping[str, Any]], float | None] = lambda data: None
    is_stream: Callable[[str, dict[str, Any]], bool] = _says_stream
    sampling: Callable[[dict[str, Any]], Mapping[str, Any]] = lambda data: data
    is_kept: bool = False
    earlier_id: Callable[[dict[str, Any]], str | None] = lambda data: None

    def of(self, make: Callable[[], Translation]) -> Dialect:
        """The dialect of one request, whose translation ``make`` gives, the same each time."""
        return Translated(self.dialect, self.part_end, make)


# Imported when they are first spoken: a front should start soon.


def _openai_description() -> Description:
    from modelpool_client.surfaces import openai_contracts

    return openai_contracts.DESCRIPTION


def _anthropic_description() -> Description:
    from modelpool_client.surfaces.anthropic import contracts

    return contracts.DESCRIPTION


def _ollama_description() -> Description:
    from modelpool_client.surfaces.ollama import contracts

    return contracts.DESCRIPTION


def _responses_description() -> Description:
    from modelpool_client.surfaces.responses import contracts

    return contracts.DESCRIPTION


def _open_inference_description() -> Description:
    from modelpool_client.surfaces.open_inference import contracts

    return contracts.DESCRIPTION


def _anthropic(path: str, data: dict[str, Any], known: Known) -> Translation:
    from modelpool_client.surfaces import anthropic

    return anthropic.translate(path, data)


def _anthropic_error(error: ModelPoolError) -> Any:
    from modelpool_client.surfaces import anthropic

    return anthropic.error_body(error)


def _ollama(path: str, data: dict[str, Any], known: Known) -> Translation:
    from modelpool_client.surfaces import ollama

    return ollama.translate(path, data, time.time_ns, known.capabilities)


def _ollama_error(error: ModelPoolError) -> Any:
    from modelpool_client.surfaces import ollama

    return ollama.error_body(error)


def _ollama_load(path: str, data: dict[str, Any]) -> dict[str, Any] | None:
    from modelpool_client.surfaces import ollama

    if not ollama.is_load_only(path, data):
        return None
    model, now = str(data.get("model")), time.time_ns()
    if ollama.keep_alive_seconds(data.get("keep_alive")) == 0:
        return ollama.load_answer(path, model, "unload", now)
    return ollama.load_answer(path, model, "load", now)


def _ollama_keep_alive(data: Mapping[str, Any]) -> float | None:
    from modelpool_client.surfaces import ollama

    return ollama.keep_alive_seconds(data.get("keep_alive"))


def _ollama_stream(path: str, data: dict[str, Any]) -> bool:
    from modelpool_client.surfaces import ollama

    return path in (ollama.CHAT, ollama.GENERATE) and data.get("stream") is not False


def _responses(path: str, data: dict[str, Any], known: Known) -> Translation:
    from modelpool_client.surfaces import responses

    return responses.translate(path, data, known.earlier, time.time)


def _previous(data: dict[str, Any]) -> str | None:
    name = data.get("previous_response_id")
    return name if isinstance(name, str) else None


def _open_inference(path: str, data: dict[str, Any], known: Known) -> Translation:
    from modelpool_client.surfaces import open_inference as oip

    kind = oip.kind_of_model(known.capabilities) if known.capabilities else None
    kind = kind or oip.kind_of_engine(known.serves) or oip.Kind.TEXT
    return oip.translate(path, data, kind)


def _open_inference_stream(path: str, data: dict[str, Any]) -> bool:
    return path.endswith("/generate_stream")


def _open_inference_error(error: ModelPoolError) -> Any:
    from modelpool_client.surfaces import open_inference

    return open_inference.error_body(error)


def _tei_description() -> Description:
    from modelpool_client.surfaces.peers import tei

    return tei.DESCRIPTION


def _tei(path: str, data: dict[str, Any], known: Known) -> Translation:
    from modelpool_client.surfaces.peers import tei

    return tei.translate(data)


def _tei_error(error: ModelPoolError) -> Any:
    from modelpool_client.surfaces.peers import tei

    return tei.error_body(error)


def _cohere_description() -> Description:
    from modelpool_client.surfaces.peers import cohere

    return cohere.DESCRIPTION


def _cohere(path: str, data: dict[str, Any], known: Known) -> Translation:
    from modelpool_client.surfaces.peers import cohere

    return cohere.translate(data)


def _cohere_error(error: ModelPoolError) -> Any:
    from modelpool_client.surfaces.peers import cohere

    return cohere.error_body(error)


def _mistral_description() -> Description:
    from modelpool_client.surfaces.peers import mistral

    return mistral.DESCRIPTION


def _mistral(path: str, data: dict[str, Any], known: Known) -> Translation:
    from modelpool_client.surfaces.peers import mistral

    return mistral.translate(data, time.time)


def _mistral_sampling(data: dict[str, Any]) -> Mapping[str, Any]:
    return {"seed": data.get("random_seed"), "temperature": data.get("temperature")}


def _vllm_description() -> Description:
    from modelpool_client.surfaces.peers import vllm

    return vllm.DESCRIPTION


def _vllm(path: str, data: dict[str, Any], known: Known) -> Translation:
    from modelpool_client.surfaces.peers import vllm

    return vllm.translate(data, known.serves, time.time)


def _ollama_sampling(data: dict[str, Any]) -> Mapping[str, Any]:
    options = data.get("options")
    return options if isinstance(options, dict) else {}


def _temperature_only(data: dict[str, Any]) -> Mapping[str, Any]:
    return {"temperature": data.get("temperature")}


FAMILIES: Mapping[str, Family] = {
    "openai": Family(OPENAI, _openai_description),
    "responses": Family(
        OPENAI, _responses_description, _responses, is_kept=True, earlier_id=_previous
    ),
    "anthropic": Family(
        _ErrorsOf(_anthropic_error, b"event: error\n"),
        _anthropic_description,
        _anthropic,
        sampling=_temperature_only,
    ),
    "ollama": Family(
        _ErrorsOf(_ollama_error),
        _ollama_description,
        _ollama,
        b"\n",
        _ollama_load,
        _ollama_keep_alive,
        _ollama_stream,
        _ollama_sampling,
    ),
    "open_inference": Family(
        _ErrorsOf(_open_inference_error),
        _open_inference_description,
        _open_inference,
        is_stream=_open_inference_stream,
    ),
    "tei": Family(_ErrorsOf(_tei_error), _tei_description, _tei),
    "cohere": Family(_ErrorsOf(_cohere_error), _cohere_description, _cohere),
    "mistral": Family(OPENAI, _mistral_description, _mistral, sampling=_mistral_sampling),
    "vllm": Family(OPENAI, _vllm_description, _vllm),
}


def dialect_of(path: str) -> Dialect:
    """In which whoever asks there is told of errors, whatever is wrong with the request."""
    if surface := SURFACES.get(route_of(path)):
        return FAMILIES[surface.family].dialect
    if path in OLLAMA_MANAGEMENT:
        return FAMILIES["ollama"].dialect
    if path == "/v2" or path.startswith("/v2/"):
        return FAMILIES["open_inference"].dialect
    return OPENAI


NOTHING_KNOWN = Known()


@dataclass(frozen=True)
class Asked:
    """What a client asks, ready for an engine.

    Attributes:
        surface: the client asks for.
        data: what it says there.
        path: the engine is asked at: the surface's, or one of OpenAI's where it is translated.
        completion: what it is told.
        translation: makes its answer the client's; None where it is that already.
        answer: of a model that is loaded, where no engine need be asked.
    """

    surface: Surface
    data: Mapping[str, Any]
    path: str
    completion: Completion
    translation: Translation | None = None
    answer: Mapping[str, Any] | None = None

    def ignoring(self, name: str) -> Asked:
        """The same, where a parameter of the client's changes nothing."""
        ignored = tuple(sorted({*self.completion.ignored, name}))
        return replace(self, completion=replace(self.completion, ignored=ignored))


def load_only(surface: Surface, data: dict[str, Any]) -> Asked | None:
    """A request that wants no more than that a model is loaded, at the worker of one that is; None
    for any other.

    Raises:
        InvalidRequest: it is none, or wants it unloaded.
    """
    family = FAMILIES[surface.family]
    answer = family.load_answer(surface.path, data) if family.load_answer is not None else None
    if answer is None:
        return None
    if family.keep_alive(data) == 0:
        text = "a worker does not unload its model: ask the pool's own port"
        raise InvalidRequest(text, param="keep_alive")
    return Asked(surface, data, surface.path, Completion({}, False, ()), answer=answer)


def read(
    surface: Surface,
    data: dict[str, Any],
    raw: bytes | None = None,
    support: Support = ANY,
    known: Known = NOTHING_KNOWN,
    path: str | None = None,
) -> Asked:
    """Check the body of a request, which is ``raw`` as it came, and translate it where need be.
    ``path`` is the request's own, where it names something.

    Raises:
        InvalidRequest: with ``param``.
    """
    translate = FAMILIES[surface.family].translate
    if translate is None or surface.path in known.serves:
        return Asked(surface, data, surface.path, checked(surface.path, data, raw, support))
    rules = FAMILIES[surface.family].describe().routes[surface.path].rules or {}
    names = partial(client_names, rules, data)
    translation = translate(path or surface.path, data, known)
    told = translation.told
    completion = _completion(told, support, names)
    counts = told.is_count and CHAT_TOKENS_PATH in known.serves
    asked_at = CHAT_TOKENS_PATH if counts else told.path
    return Asked(surface, data, asked_at, completion, translation)


def _completion(told: Told, support: Support, names: Names) -> Completion:
    """What the engine is told of a translated request; ``names`` gives what the client calls one of
    OpenAI's parameters.

    Raises:
        InvalidRequest: what it says cannot be done.
    """
    as_stream = {"stream": True, "stream_options": {"include_usage": True}} if told.stream else {}
    hints = {k: v for k, v in told.hints.items() if support.engine_names(told.path, k)}
    # Whoever takes whatever clients say is told no words but OpenAI's by us.
    is_strict = support.takes_all(told.path)
    foreign = {k for k in told.body if is_strict and k not in BASE[told.path]}
    body = {k: v for k, v in told.body.items() if k not in foreign}
    try:
        completion = checked(told.path, {**body, **as_stream, **hints}, support=support)
    except InvalidRequest as error:
        raise _in_words_of_client(error, names) from None
    named = {name for each in (*completion.ignored, *foreign) for name in names(each)}
    ignored = tuple(sorted({*told.ignored, *named}))
    return completion if ignored == completion.ignored else replace(completion, ignored=ignored)


def in_client_words(asked: Asked, error: ModelPoolError) -> ModelPoolError:
    """What an engine says of a request, about a parameter that its client calls otherwise."""
    said_in, told_in = asked.surface.source, SURFACES[asked.path].source
    if isinstance(error, ContextLengthExceeded):
        return error.about(said_in) if said_in not in ("", error.param) else error
    if not isinstance(error, InvalidRequest):
        return error
    if (named := named_refusal(asked.surface.path, asked.data, error)) is not None:
        return named
    if asked.translation is None:
        return error
    rules = FAMILIES[asked.surface.family].describe().routes[asked.surface.path].rules or {}

    def names(param: str) -> tuple[str, ...]:
        # Which part of it is another one of what the client has sent.
        is_content = re.split(r"[.\[]", param)[0] == told_in
        return (said_in,) if is_content else client_names(rules, asked.data, param)

    return _in_words_of_client(error, names)


def _in_words_of_client(error: InvalidRequest, names: Names) -> InvalidRequest:
    if error.param is None or (param := names(error.param)[0]) == error.param:
        return error
    text = error.message
    if text.startswith((f"{error.param} ", f"{error.param}:")):
        text = param + text.removeprefix(error.param)
    return InvalidRequest(text, param=param, code=error.code, source=error.source)
