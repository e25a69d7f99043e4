"""Models behind any HTTP API, described by a template: where to, what, where the answer is."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from modelpool_client.errors import LoadFailed
from modelpool_client.http1.message import Headers
from modelpool_client.http1.upstream_connection import UpstreamError
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.routes import BASIC, CHAT_PATH, TEXT_PATH
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import EngineJob, RemoteEngine, Status
from modelpool_worker.link import RemoteLink, Reply
from modelpool_worker.remote.errors import Provider
from modelpool_worker.remote.names import Names
from modelpool_worker.remote.options import (
    KEY_HEADER_OPTION,
    ONLY,
    check_common,
    common,
    key_header_of,
)
from modelpool_worker.remote.server import Ask, server_of
from modelpool_worker.remote.streams import Translated

from . import http_template
from .openai import said_in

HONOURS = (
    *("max_tokens", "temperature", "top_p", "top_k", "stop", "seed"),
    *("presence_penalty", "frequency_penalty"),
)
_CHAT_HONOURS = (*HONOURS, "max_completion_tokens", "tools", "response_format")
_PATH = r"^[^.\s]+(\.[^.\s]+)*$"


def _path(what: str) -> Schema:
    return {"type": "string", "pattern": _PATH, "description": f"{what}, like data.0.text"}


_COMMON = common("", "")
OPTIONS: Mapping[str, Schema] = {
    **{name: _COMMON[name] for name in ("api_key_variable", "api_key_file", "models")},
    **{name: _COMMON[name] for name in ("request_timeout_seconds", "ca_file", "headers")},
    "url": {
        **ONLY,
        "type": "string",
        "pattern": r"^https?://[^\s/@]+/\S*$",
        "description": "where requests go to; {model} in it is the model's name there",
    },
    "stream_url": {
        **ONLY,
        "type": "string",
        "pattern": r"^https?://[^\s/@]+/\S*$",
        "description": "where streams are asked of the same server; else url",
    },
    "api_key_header": KEY_HEADER_OPTION,
    "body": {
        "type": "string",
        "description": "JSON with placeholders: "
        + ", ".join(f"{{{name}}}" for name in sorted(http_template.KNOWN)),
    },
    "answer": _path("where the text is in an answer"),
    "stream_format": {
        "type": "string",
        "enum": ["none", "sse", "ndjson"],
        "description": "how it streams; none: it does not, and streams are told in one piece",
        "default": "none",
    },
    "stream_answer": _path("where the text is in an event of a stream; else as answer"),
    "stream_done": _path(
        "what is true in the last event of a stream; without it a stream may end anywhere"
    ),
    "error": _path("what is there in an answer that is an error"),
    "prompt_tokens": _path("where the tokens of the prompt are"),
    "completion_tokens": _path("where the tokens of the answer are"),
    "probe_path": {
        **ONLY,
        "type": "string",
        "pattern": "^/",
        "description": "what is asked with GET to find out whether it lives; else it need only"
        " accept connections",
    },
}


class Http(RemoteEngine):
    """Any HTTP API, as a template describes it."""

    name = "http"
    capabilities = ("chat", "completion", "tools", "json_mode", "json_schema", "streaming")
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Sequence[str]] = BASIC
    honours: ClassVar[Mapping[str, Collection[str]]] = {
        CHAT_PATH: _CHAT_HONOURS,
        TEXT_PATH: HONOURS,
    }

    def check_each(self, options: Mapping[str, Any]) -> None:
        super().check_each(options)
        check_common(options)
        if "body" in options:
            http_template.parse(options["body"])

    def check(self, options: Mapping[str, Any]) -> None:
        self.check_each(options)
        for name in ("url", "body", "answer"):
            if name not in options:
                text = f"{self.name}: options.{name} is required"
                raise LoadFailed(text, code="bad_config", param=f"options.{name}", source="engine")
        other = options.get("stream_url", options["url"])
        if urlsplit(other)[:2] != urlsplit(options["url"])[:2]:
            text = "options.stream_url must be of the same server as options.url"
            raise LoadFailed(text, code="bad_config", param="options.stream_url", source="engine")

    def connect(self, job: EngineJob) -> RemoteLink:
        self.check(job.options)
        return HttpLink(job, os.environ)


class HttpLink:
    """Requests go out as the template says."""

    def __init__(self, job: EngineJob, environment: Mapping[str, str]) -> None:
        options = job.options
        self._options = options
        self._template = http_template.parse(options["body"])
        self.names = Names.of(job.model_id, job.source, options)
        url = urlsplit(options["url"])
        self._target = _target(options["url"])
        self._stream_target = _target(options.get("stream_url", options["url"]))
        where = f"{url.scheme}://{url.netloc}"
        self.server = server_of(job, environment, where, (), key_header_of(options), prefix="")

    async def open(self, status: Status) -> None:
        try:
            await self.probe()
        except UpstreamError as e:
            raise self.server.not_reached(e) from e
        there = http_template.names_in(self._template)
        missing = [name for name in _CHAT_HONOURS if _placeholder(name) not in there]
        unable = {name: f"the body has no place for {{{_placeholder(name)}}}" for name in missing}
        status.ready(slots=0, serves=BASIC, stops_plain=True, unable=unable)

    async def probe(self) -> None:
        if path := self._options.get("probe_path"):
            await self.server.get(path)
        else:
            await self.server.reach()

    async def request(
        self, method: str, target: bytes, headers: Headers, body: bytes = b""
    ) -> Reply:
        said, is_chat = said_in(body), target.decode("ascii").startswith(CHAT_PATH)
        model = self.names.there(said.get("model"))
        wants_stream = said.get("stream") is True
        is_stream = wants_stream and self._options.get("stream_format", "none") != "none"
        values = {**http_template.values_of(said, model), "stream": is_stream}
        sent = json.dumps(http_template.fill(self._template, values)).encode()
        where = self._stream_target if is_stream else self._target
        path = where.replace("{model}", quote(model, safe=""))
        answers = Answers(self.server.provider, self._options, model, is_chat=is_chat)
        decoder = None
        if is_stream:
            is_ndjson = self._options["stream_format"] == "ndjson"
            stream = Translated(self.server.provider, answers.events(), is_ndjson=is_ndjson)
            decoder = self.server.counted(stream, said)
        read = answers.streamed if wants_stream else answers.whole
        return await self.server.ask(Ask(path, headers, sent, model, decoder, read))

    async def accepts(self) -> bool:
        return True

    def close(self) -> None:
        self.server.close()


def _target(url: str) -> str:
    at = urlsplit(url)
    return at.path + (f"?{at.query}" if at.query else "")


def _placeholder(name: str) -> str:
    return "max_tokens" if name == "max_completion_tokens" else name


class Answers:
    """What it answers, in OpenAI's words."""

    def __init__(
        self, provider: Provider, options: Mapping[str, Any], model: str, *, is_chat: bool
    ) -> None:
        self._provider = provider
        self.options = options
        self.is_chat = is_chat
        self._head = {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def text(self, answer: Mapping[str, Any]) -> str:
        """Of a whole answer.

        Raises:
            UpstreamFailed: there is none, or an error in its place.
        """
        self.check(answer)
        text = http_template.at(answer, self.options["answer"])
        if not isinstance(text, str):
            where = self.options["answer"]
            raise self._provider.failed(f"sent an answer without a text at {where}")
        return text

    def check(self, answer: Mapping[str, Any]) -> None:
        """Raise UpstreamFailed where it is an error."""
        where = self.options.get("error")
        if where and (error := http_template.at(answer, where)):
            said = error if isinstance(error, str) else json.dumps(error)
            raise self._provider.failed(f"says: {said[:500]}")

    def usage(self, answer: Mapping[str, Any]) -> dict[str, int] | None:
        """None where the answer does not tell."""
        names = ("prompt_tokens", "completion_tokens")
        paths = [self.options.get(name) for name in names]
        told = [http_template.at(answer, path) if path else None for path in paths]
        if all(count is None for count in told):
            return None
        prompt, output = (count if isinstance(count, int) else 0 for count in told)
        return {**dict(zip(names, (prompt, output), strict=True)), "total_tokens": prompt + output}

    def whole(self, answer: dict[str, Any]) -> bytes:
        """The body of a completion."""
        text = self.text(answer)
        message = {"role": "assistant", "content": text}
        shown: dict[str, Any] = {"message": message} if self.is_chat else {"text": text}
        choice = {"index": 0, **shown, "logprobs": None}
        kind = "chat.completion" if self.is_chat else "text_completion"
        told = {
            **self._head,
            "object": kind,
            "choices": [choice | {"finish_reason": "stop"}],
            "usage": self.usage(answer)
            or {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        }
        return json.dumps(told).encode()

    def streamed(self, answer: dict[str, Any]) -> bytes:
        """A whole answer as a stream."""
        chunks = [self.chunk(self.text(answer)), self.chunk("", "stop")]
        if usage := self.usage(answer):
            chunks.append({**self.chunk(""), "choices": [], "usage": usage})
        return b"".join(map(sse.event, chunks)) + b"data: " + sse.DONE + b"\n\n"

    def chunk(self, text: str, reason: str | None = None) -> dict[str, Any]:
        """One piece of a stream."""
        kind = "chat.completion.chunk" if self.is_chat else "text_completion"
        shown: dict[str, Any] = {"delta": {"content": text}} if self.is_chat else {"text": text}
        choice = {"index": 0, **shown, "logprobs": None, "finish_reason": reason}
        return {**self._head, "object": kind, "choices": [choice]}

    def events(self) -> AnswerEvents:
        """For a stream of its own."""
        return AnswerEvents(self)


class AnswerEvents:
    """The events of a stream, told as chunks. A ``Translator``."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._path = answers.options.get("stream_answer") or answers.options["answer"]
        self._done: str | None = answers.options.get("stream_done")
        # Without a sign of its end, it ends where the server does.
        self.is_complete = self._done is None

    def last(self) -> Iterator[dict[str, Any]]:
        """See ``Translator``."""
        if self._done is None:
            yield self._answers.chunk("", "stop")

    def chunks(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """See ``Translator``."""
        self._answers.check(event)
        text = http_template.at(event, self._path)
        if isinstance(text, str) and text:
            yield self._answers.chunk(text)
        is_last = self._done is not None and bool(http_template.at(event, self._done))
        if is_last and not self.is_complete:
            self.is_complete = True
            yield self._answers.chunk("", "stop")
        if (usage := self._answers.usage(event)) is not None:
            yield {**self._answers.chunk(""), "choices": [], "usage": usage}
