"""Anthropic's models: chats are said to its Messages API, which is also passed on as it is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from modelpool_client.http1.message import Headers
from modelpool_client.surfaces.anthropic.tables import COUNT_PATH, MESSAGES_PATH
from modelpool_client.surfaces.routes import CHAT_PATH
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import EngineJob, RemoteEngine, Status
from modelpool_worker.link import RemoteLink, Reply
from modelpool_worker.remote.names import Names
from modelpool_worker.remote.options import check_common, common
from modelpool_worker.remote.server import Ask, bearer, server_of
from modelpool_worker.remote.streams import Translated, Watched

from .anthropic_answer import ChatStream, completion
from .anthropic_request import messages_body
from .openai import listed, said_in, told

BASE_URL = "https://api.anthropic.com/v1"
KEY_VARIABLE = "ANTHROPIC_API_KEY"
# Other programs have it under this name.
KEY_VARIABLES = (KEY_VARIABLE, "CLAUDE_API_KEY")
# The API's versions (docs of 2026-11): the newer one has no sampling parameters, and shows keys as
# others do.
CURRENT_VERSION, FORMER_VERSION = "2026-10-21", "2023-06-01"
MAX_TOKENS = 8192
SAMPLING = ("temperature", "top_p", "top_k")
_NONE = f"version {CURRENT_VERSION} of Anthropic's API has no sampling parameters; api_version"
NO_SAMPLING = f"{_NONE} {FORMER_VERSION} has them, for models before 4.7"
FINAL = (b'"message_stop"',)
HONOURS = (
    *("max_tokens", "max_completion_tokens", "stop", *SAMPLING, "tools", "tool_choice"),
    *("parallel_tool_calls", "response_format", "reasoning_effort", "thinking"),
)

OPTIONS: Mapping[str, Schema] = {
    **common(BASE_URL, KEY_VARIABLE),
    "api_version": {
        "type": "string",
        "enum": [CURRENT_VERSION, FORMER_VERSION],
        "description": "of the Messages API, for chats and for clients that name none",
        "default": CURRENT_VERSION,
    },
    "max_tokens": {
        "type": "integer",
        "minimum": 1,
        "description": "for chats that do not say how many, which Anthropic needs to be told",
        "default": MAX_TOKENS,
    },
}


class Anthropic(RemoteEngine):
    """The Messages API."""

    name = "anthropic"
    capabilities = ("chat", "tools", "vision", "thinking", "streaming", "json_schema")
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Sequence[str]] = (CHAT_PATH, MESSAGES_PATH, COUNT_PATH)
    honours: ClassVar[Mapping[str, Collection[str]]] = {CHAT_PATH: HONOURS}

    def check_each(self, options: Mapping[str, Any]) -> None:
        super().check_each(options)
        check_common(options)

    def connect(self, job: EngineJob) -> RemoteLink:
        return AnthropicLink(job, os.environ)


class AnthropicLink:
    """Requests go out with the key, and under the name that the model has there."""

    def __init__(self, job: EngineJob, environment: Mapping[str, str]) -> None:
        options = job.options
        self.names = Names.of(job.model_id, job.source, options)
        self._version = options.get("api_version", CURRENT_VERSION)
        self._max_tokens = options.get("max_tokens", MAX_TOKENS)
        base_url = options.get("base_url", BASE_URL)
        self.server = server_of(job, environment, base_url, KEY_VARIABLES, self._key_header)

    def _key_header(self, key: str) -> Headers:
        """What both versions and those who imitate either understand."""
        return [(b"x-api-key", key.encode())] if self._version == FORMER_VERSION else bearer(key)

    async def open(self, status: Status) -> None:
        await self.server.open(self._own_version)
        unable = dict.fromkeys(SAMPLING, NO_SAMPLING) if self._is_current else {}
        status.ready(slots=0, serves=Anthropic.surfaces, stops_plain=True, unable=unable)

    @property
    def _is_current(self) -> bool:
        return bool(self._version == CURRENT_VERSION)

    @property
    def _own_version(self) -> Headers:
        return [(b"anthropic-version", str(self._version).encode())]

    async def probe(self) -> None:
        await self.server.probe(self._own_version)

    async def models(self) -> list[str]:
        """Names there of all models that it has."""
        body = await self.server.get("/models?limit=1000", self._own_version)
        return listed(self.server.provider, body)

    async def request(
        self, method: str, target: bytes, headers: Headers, body: bytes = b""
    ) -> Reply:
        path, said = target.decode("ascii").partition("?")[0], said_in(body)
        model = self.names.there(said.get("model"))
        is_stream = said.get("stream") is True
        provider = self.server.provider
        if path != CHAT_PATH:
            names = [name for name, _ in headers]
            versioned = headers if b"anthropic-version" in names else headers + self._own_version
            decoder = Watched(provider, self.server.key.value, FINAL) if is_stream else None
            own = path.removeprefix("/v1")
            return await self.server.ask(Ask(own, versioned, told(said, model), model, decoder))
        asked = {"model": model, **messages_body(said, self._max_tokens)}
        now = time.time()
        stream = None
        if is_stream:
            stream = self.server.counted(Translated(provider, ChatStream(now)), said)
        sent, own_headers = json.dumps(asked).encode(), [*headers, *self._own_version]
        read = partial(completion, now=now)
        return await self.server.ask(Ask("/messages", own_headers, sent, model, stream, read))

    async def accepts(self) -> bool:
        return True

    def close(self) -> None:
        self.server.close()
