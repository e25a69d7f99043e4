"""Models behind any server that speaks OpenAI's API: OpenAI itself, or one of the many alike."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from modelpool_client.errors import InvalidRequest
from modelpool_client.http1.message import Headers
from modelpool_client.surfaces.parameters import ALL
from modelpool_client.surfaces.routes import (
    BASIC,
    CHAT_PATH,
    EMBEDDINGS_PATH,
    IMAGE_EDITS_PATH,
    IMAGES_PATH,
    RESPONSES_PATH,
    SPEECH_PATH,
    TEXT_PATH,
    TRANSCRIPTIONS_PATH,
    TRANSLATIONS_PATH,
)
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import EngineJob, RemoteEngine, Status
from modelpool_worker.link import RemoteLink, Reply
from modelpool_worker.remote.call_extras import EXTRA, CallExtras
from modelpool_worker.remote.errors import Provider
from modelpool_worker.remote.form_model import model_of, with_model
from modelpool_worker.remote.names import Names
from modelpool_worker.remote.options import (
    KEY_HEADER_OPTION,
    check_common,
    common,
    key_header_of,
)
from modelpool_worker.remote.server import Ask, server_of
from modelpool_worker.remote.streams import Decoder, Unchanged, Watched

log = logging.getLogger(__name__)

BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
# With what the last event of a stream says that it is complete.
FINALS: Mapping[str, Sequence[bytes]] = {
    CHAT_PATH: (b"[DONE]",),
    TEXT_PATH: (b"[DONE]",),
    RESPONSES_PATH: (b'"response.completed"', b'"response.incomplete"', b'"response.failed"'),
}
# Their answers may be anything: sounds, or a text as a form asked for.
NOT_JSON = frozenset({SPEECH_PATH, TRANSCRIPTIONS_PATH, TRANSLATIONS_PATH})
FORMS = frozenset({TRANSCRIPTIONS_PATH, TRANSLATIONS_PATH, IMAGE_EDITS_PATH})
# What a server names that does not know them.
_USAGE_WORDS = ("stream_options", "include_usage")
# OpenAI's models that reason take the newer word alone, many servers like OpenAI's the former, in
# which other APIs are put.
MOST_TOKENS, _FORMER_MOST_TOKENS = "max_completion_tokens", "max_tokens"
# What Google names that finds a call of a tool without one.
_SIGNATURE = "thought_signature"
_EXTRA = f'"{EXTRA}"'.encode()
# The pool's own words, which no server knows.
OURS = ("priority",)
SERVES = (
    *BASIC,
    EMBEDDINGS_PATH,
    SPEECH_PATH,
    TRANSCRIPTIONS_PATH,
    TRANSLATIONS_PATH,
    IMAGES_PATH,
    IMAGE_EDITS_PATH,
)

OPTIONS: Mapping[str, Schema] = {
    **common(BASE_URL, KEY_VARIABLE),
    "api_key_header": KEY_HEADER_OPTION,
    "native_responses": {
        "type": "boolean",
        "description": "/v1/responses goes to the server as it is, which keeps the answers; else"
        " it is translated here, and the pool keeps them",
        "default": False,
    },
    "stream_usage": {
        "type": "boolean",
        "description": "streams are asked for their tokens (stream_options.include_usage) until the"
        " server refuses that; without it they are estimated where it does not tell them anyway",
        "default": True,
    },
}


class OpenAI(RemoteEngine):
    """Any server that speaks OpenAI's API."""

    name = "openai"
    capabilities = (
        *("chat", "completion", "tools", "vision", "audio", "thinking", "streaming"),
        *("json_mode", "json_schema", "logprobs", "embeddings"),
        *("speech_to_text", "text_to_speech", "image_generation"),
    )
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Sequence[str]] = SERVES
    honours: ClassVar[Mapping[str, Collection[str]]] = {
        path: (ALL,) for path in SERVES if path != EMBEDDINGS_PATH
    }

    def check_each(self, options: Mapping[str, Any]) -> None:
        super().check_each(options)
        check_common(options)

    def connect(self, job: EngineJob) -> RemoteLink:
        return OpenAILink(job, os.environ)


class OpenAILink:
    """Requests go out with the key, and under the name that the model has there."""

    def __init__(self, job: EngineJob, environment: Mapping[str, str]) -> None:
        options = job.options
        self.names = Names.of(job.model_id, job.source, options)
        self._asks_usage = bool(options.get("stream_usage", True))
        self._told_most_tokens: set[tuple[str, str]] = set()
        self._signed: set[str] = set()
        self._extras = CallExtras()
        self._serves = (*SERVES, *([RESPONSES_PATH] if options.get("native_responses") else []))
        base_url = options.get("base_url", BASE_URL)
        shown = key_header_of(options)
        self.server = server_of(job, environment, base_url, (KEY_VARIABLE,), shown)

    async def open(self, status: Status) -> None:
        await self.server.open()
        status.ready(slots=0, serves=self._serves, stops_plain=True)

    async def probe(self) -> None:
        await self.server.probe()

    async def models(self) -> list[str]:
        """Names there of all models that it has."""
        return listed(self.server.provider, await self.server.get("/models"))

    async def request(
        self, method: str, target: bytes, headers: Headers, body: bytes = b""
    ) -> Reply:
        path = target.decode("ascii").partition("?")[0]
        if path in FORMS:
            kind = dict(headers).get(b"content-type", b"")
            model = self.names.there(model_of(kind, body))
            sent = with_model(kind, body, model)
            is_json = path not in NOT_JSON
            ask = Ask(path.removeprefix("/v1"), headers, sent, model, is_json=is_json)
            return await self.server.ask(ask)
        said = said_in(body)
        ask = self._asked(path, headers, said)
        while True:
            try:
                return await self.server.ask(ask)
            except InvalidRequest as refusal:
                # It was refused, so that nothing was begun and nobody pays twice.
                if not self._learns(refusal, path, ask.model, is_stream=ask.decoder is not None):
                    raise
                # Another request may have learned the same meanwhile.
                refused, ask = ask, self._asked(path, headers, said)
                if ask.body == refused.body:
                    raise

    def _learns(self, refusal: InvalidRequest, path: str, model: str, *, is_stream: bool) -> bool:
        """Whether a refusal says how requests would be taken, which holds from now on."""
        if is_stream and any(word in refusal.message for word in _USAGE_WORDS):
            if self._asks_usage:
                log.warning("%s; its streams are asked for no tokens any more", refusal.message)
            self._asks_usage = False
            return True
        if MOST_TOKENS in refusal.message:
            log.info("%s; %s is told %s", refusal.message, model, MOST_TOKENS)
            self._told_most_tokens.add((path, model))
            return True
        if _SIGNATURE in refusal.message:
            log.info("%s; calls of tools that %s did not make say so", refusal.message, model)
            self._signed.add(model)
            return True
        return False

    def _asked(self, path: str, headers: Headers, said: dict[str, Any]) -> Ask:
        model, is_stream = self.names.there(said.get("model")), said.get("stream") is True
        decoder = self._decoder(path) if is_stream else None
        asked = said
        if path in BASIC:
            asked = _with_usage(said, asks=self._asks_usage)
            if (path, model) in self._told_most_tokens:
                asked = _with_most_tokens(asked)
            if decoder is not None:
                decoder = self.server.counted(decoder, said)
        hear = None
        if path == CHAT_PATH:
            hear, signs = self._extras.hear, model in self._signed
            asked = {**asked, "messages": self._extras.completed(said.get("messages"), signs=signs)}
        is_json = path not in NOT_JSON
        own = path.removeprefix("/v1")
        return Ask(own, headers, told(asked, model), model, decoder, is_json=is_json, hear=hear)

    def _decoder(self, path: str) -> Decoder:
        if path == IMAGES_PATH:
            return Unchanged()
        provider, key, finals = self.server.provider, self.server.key.value, FINALS.get(path, ())
        hear = {_EXTRA: self._extras.hear} if path == CHAT_PATH else {}
        return Watched(provider, key, finals, hear)

    async def accepts(self) -> bool:
        return True

    def close(self) -> None:
        self.server.close()


def said_in(body: bytes) -> dict[str, Any]:
    """A request's body, which was checked before."""
    said = json.loads(body)
    if not isinstance(said, dict):
        raise InvalidRequest("the body must be a JSON object", param="body", source="worker")
    return said


def told(said: Mapping[str, Any], model: str) -> bytes:
    """The body for the server: under its own name for the model, without the pool's own words."""
    kept = {name: value for name, value in said.items() if name not in OURS}
    return json.dumps({**kept, "model": model}).encode()


def _with_usage(said: dict[str, Any], *, asks: bool) -> dict[str, Any]:
    """The same, with its tokens asked for where it is a stream, or not at all."""
    if not asks:
        return {name: value for name, value in said.items() if name != "stream_options"}
    if said.get("stream") is not True:
        return said
    return {**said, "stream_options": {**(said.get("stream_options") or {}), "include_usage": True}}


def _with_most_tokens(said: dict[str, Any]) -> dict[str, Any]:
    """The same in the newer word, where it says how many tokens there may be."""
    most = said.get(_FORMER_MOST_TOKENS)
    kept = {name: value for name, value in said.items() if name != _FORMER_MOST_TOKENS}
    return kept if most is None else {MOST_TOKENS: most, **kept}


def listed(provider: Provider, body: bytes) -> list[str]:
    """The names in a server's list of its models: OpenAI's ``data`` of objects with an ``id``.

    Raises:
        UpstreamFailed: it is none.
    """
    try:
        data = json.loads(body)
        found = data if isinstance(data, list) else data["data"]
        return [str(model["id"]).removeprefix("models/") for model in found]
    except (ValueError, KeyError, TypeError):
        raise provider.failed("sent no list of its models") from None
