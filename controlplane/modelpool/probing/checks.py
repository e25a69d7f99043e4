"""For each capability the smallest request that shows it, and how its answer is judged. PURE.

An answer counts by its form, never by whether it is clever: a tool was called with arguments that
are JSON, an answer validates, a picture made the prompt longer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    CLASSIFY_PATH,
    EMBEDDINGS_PATH,
    IMAGES_PATH,
    RERANK_PATH,
    SPEECH_PATH,
    TEXT_PATH,
    TRANSCRIPTIONS_PATH,
)
from modelpool_client.wire import IGNORED_HEADER

from modelpool.catalog.probe_results import Outcome

from .samples import picture_url, silence, silence_text

JSON = "application/json"
FEW_TOKENS, SOME_TOKENS = 8, 128
SHOWN_CHARACTERS = 200
BOUNDARY = "a-probe-of-a-model"
TOOL = "get_weather"
# Who answers so does not say that it cannot: it is busy, gone, or was not asked as it should be.
SAYS_NOTHING = frozenset({401, 403, 408, 409, 413, 429, 500, 502, 503, 504})
# The probe is too long for the model.
TOO_LONG = "context_length_exceeded"


@dataclass(frozen=True)
class Request:
    """``path``, body and its type."""

    path: str
    body: bytes
    content_type: str = JSON


@dataclass(frozen=True)
class Answer:
    """To a request; names of ``headers`` in small letters."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """The body.

        Raises:
            Wrong: it is no JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise Wrong(f"the answer is no JSON: {_short(self.body)}") from None


@dataclass(frozen=True)
class Verdict:
    """What follows from an answer, and why."""

    outcome: Outcome
    reason: str


class Wrong(Exception):
    """An answer that is not what was asked for; the text says in what."""


class Open(Exception):
    """An answer from which nothing follows."""


@dataclass(frozen=True)
class Check:
    """How a capability is found out.

    Attributes:
        judge: says what was seen; raises Wrong or Open.
        parameter: of the request, that an engine must not pass over.
        plain: the same request without what matters. Its answer goes to ``judge``, too, and where
            it is answered, an error 500 of the other says that it cannot be done.
    """

    capability: str
    request: Request
    judge: Callable[[Answer, Answer | None], str]
    parameter: str = ""
    plain: Request | None = None


def verdict(check: Check, answer: Answer, plain: Answer | None = None) -> Verdict:
    """What an answer tells of the capability."""
    if answer.status >= 400:
        return _refused(answer, plain)
    if check.parameter and check.parameter in _ignored(answer):
        return Verdict("refused", f"the engine passes over {check.parameter}")
    try:
        return Verdict("works", check.judge(answer, plain))
    except Wrong as e:
        return Verdict("wrong", str(e))
    except Open as e:
        return Verdict("failed", str(e))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return Verdict("wrong", f"the answer has another form: {_short(answer.body)}")


def _refused(answer: Answer, plain: Answer | None) -> Verdict:
    text, code = _error(answer)
    reason = f"{answer.status}: {text}"
    is_able_otherwise = plain is not None and plain.status < 400
    says_nothing = answer.status in SAYS_NOTHING and not (
        answer.status == 500 and is_able_otherwise
    )
    return Verdict("failed" if says_nothing or code == TOO_LONG else "refused", reason)


def _error(answer: Answer) -> tuple[str, str]:
    """Its message and code."""
    try:
        error = json.loads(answer.body)["error"]
        return str(error["message"])[:SHOWN_CHARACTERS], str(error.get("code"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return _short(answer.body), ""


def _ignored(answer: Answer) -> list[str]:
    named = answer.headers.get(IGNORED_HEADER.lower(), "")
    return [name.strip() for name in named.split(",")]


def _short(body: bytes) -> str:
    return body.decode(errors="replace")[:SHOWN_CHARACTERS]


# -- requests --------------------------------------------------------------------------------------


def _post(path: str, **body: Any) -> Request:
    return Request(path, json.dumps(body).encode())


def _chat(content: Any, **more: Any) -> Request:
    messages = [{"role": "user", "content": content}]
    return _post(CHAT_PATH, messages=messages, temperature=0, **{"max_tokens": FEW_TOKENS, **more})


def _whole(content: str, **more: Any) -> Request:
    """A chat whose answer must come to its end: without thinking, where that can be had."""
    kwargs = {"enable_thinking": False}
    return _chat(content, max_tokens=SOME_TOKENS, chat_template_kwargs=kwargs, **more)


def named(request: Request, model_id: str) -> Request:
    """The same of one of several models that a worker serves."""
    if request.content_type == JSON:
        body = json.dumps({**json.loads(request.body), "model": model_id}).encode()
    else:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model_id}\r\n'
        body = head.encode() + request.body
    return replace(request, body=body)


def _form(path: str, name: str, kind: str, data: bytes) -> Request:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    body = head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Request(path, body, f"multipart/form-data; boundary={BOUNDARY}")


_SCHEMA = {
    "type": "object",
    "properties": {"fits": {"type": "boolean"}, "count": {"type": "integer"}},
    "required": ["fits", "count"],
    "additionalProperties": False,
}
_WEATHER = {
    "type": "function",
    "function": {
        "name": TOOL,
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
_FORCED = {"type": "function", "function": {"name": TOOL}}
_AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": _SCHEMA}}
_WHAT = {"type": "text", "text": "What is this?"}
_PICTURE = {"type": "image_url", "image_url": {"url": picture_url()}}
_SOUND = {"type": "input_audio", "input_audio": {"data": silence_text(), "format": "wav"}}


# -- judges ----------------------------------------------------------------------------------------


def _message(answer: Answer) -> dict[str, Any]:
    return dict(answer.json()["choices"][0]["message"])


def _content(answer: Answer) -> str:
    """What was written; Open where it was cut off before it could be whole."""
    _check_end(answer)
    return str(_message(answer)["content"] or "")


def _check_end(answer: Answer) -> None:
    if answer.json()["choices"][0].get("finish_reason") == "length":
        raise Open(f"the answer was not at its end after {SOME_TOKENS} tokens")


def _talks(answer: Answer, plain: Answer | None) -> str:
    message = _message(answer)
    if not (message.get("content") or message.get("reasoning_content")):
        raise Wrong("the answer is empty")
    return "it answered"


def _goes_on(answer: Answer, plain: Answer | None) -> str:
    if not isinstance(answer.json()["choices"][0]["text"], str):
        raise Wrong("the answer has no text")
    return "it went on with a text"


def _fills(answer: Answer, plain: Answer | None) -> str:
    _goes_on(answer, plain)
    return "it filled a gap"


def _streams(answer: Answer, plain: Answer | None) -> str:
    events = [line[6:] for line in answer.body.splitlines() if line.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        raise Wrong(f"it is no stream of events with an end: {_short(answer.body)}")
    chunks = [json.loads(event) for event in events[:-1]]
    if not all(chunk["object"] == "chat.completion.chunk" for chunk in chunks):
        raise Wrong("its events are no chunks of a chat")
    return f"it came in {len(chunks)} chunks"


def _calls(answer: Answer, plain: Answer | None) -> str:
    calls = _message(answer).get("tool_calls") or []
    if not calls:
        _check_end(answer)
        raise Wrong("it was told to call a tool, and called none")
    function = calls[0]["function"]
    if function["name"] != TOOL:
        raise Wrong(f"it called a tool that was not offered: {str(function['name'])[:80]!r}")
    said = function["arguments"]
    try:
        arguments = json.loads(said)
    except ValueError:
        text = f"the arguments of its call are no JSON after {SOME_TOKENS} tokens: {said[:80]}"
        raise Wrong(text) from None
    if not isinstance(arguments.get("city"), str):
        raise Wrong(f"the arguments of its call do not validate: {said[:80]}")
    return f"it called {TOOL} with {said[:80]}"


def _is_json(answer: Answer, plain: Answer | None) -> str:
    text = _content(answer)
    try:
        found = json.loads(text)
    except ValueError:
        raise Wrong(f"the answer is no JSON: {text[:80]!r}") from None
    if not isinstance(found, dict):
        raise Wrong(f"the answer is no object: {text[:80]!r}")
    return "the answer is a JSON object"


def _validates(answer: Answer, plain: Answer | None) -> str:
    _is_json(answer, plain)
    found = json.loads(_content(answer))
    is_valid = (
        found.keys() == {"fits", "count"}
        and isinstance(found["fits"], bool)
        and isinstance(found["count"], int)
        and not isinstance(found["count"], bool)
    )
    if not is_valid:
        raise Wrong(f"the answer does not validate: {_content(answer)[:80]!r}")
    return "the answer validates"


def _weighs(answer: Answer, plain: Answer | None) -> str:
    content = (answer.json()["choices"][0].get("logprobs") or {}).get("content")
    if not content:
        raise Wrong("the answer has no logprobs")
    if not all(token["logprob"] <= 0 for token in content):
        raise Wrong("there are logarithms of probabilities above 1")
    return f"it told them of {len(content)} tokens"


def _thinks(answer: Answer, plain: Answer | None) -> str:
    if not _message(answer).get("reasoning_content"):
        raise Open("it did not think before it answered this; it may elsewhere")
    return "it thought before it answered"


def _takes_in(answer: Answer, plain: Answer | None) -> str:
    """Whatever it makes of it, it must have read more than the text beside it."""
    if plain is None or plain.status >= 400:
        raise Open("it did not answer without it, either")
    more, less = (a.json()["usage"]["prompt_tokens"] for a in (answer, plain))
    if more <= less:
        raise Wrong(f"it was passed over: the prompt has {more} tokens with it and {less} without")
    return f"it was read: {more - less} tokens"


def _embeds(answer: Answer, plain: Answer | None) -> str:
    one, two = (entry["embedding"] for entry in answer.json()["data"])
    if not one or len(one) != len(two) or not all(map(math.isfinite, (*one, *two))):
        raise Wrong("the vectors are empty, unequally long or no numbers")
    if one == two:
        raise Wrong("the vectors of two unlike texts are the same")
    return f"vectors of {len(one)} numbers"


def _ranks(answer: Answer, plain: Answer | None) -> str:
    found = {r["index"]: r["relevance_score"] for r in answer.json()["results"]}
    if found.keys() != {0, 1} or not all(map(math.isfinite, found.values())):
        raise Wrong("not every document has a score")
    return "every document has a score"


def _sorts(answer: Answer, plain: Answer | None) -> str:
    if not answer.json()["data"][0]["probs"]:
        raise Wrong("there are no classes")
    return "it told the classes"


def _transcribes(answer: Answer, plain: Answer | None) -> str:
    if not isinstance(answer.json()["text"], str):
        raise Wrong("the answer has no text")
    return "it wrote down half a second of silence"


def _speaks(answer: Answer, plain: Answer | None) -> str:
    kind = answer.headers.get("content-type", "")
    if not answer.body or not kind.startswith(("audio/", "application/octet-stream")):
        raise Wrong(f"the answer is no sound but {kind or 'nothing'}")
    return f"{len(answer.body):,} bytes of {kind}"


def _draws(answer: Answer, plain: Answer | None) -> str:
    first = answer.json()["data"][0]
    if not (first.get("b64_json") or first.get("url")):
        raise Wrong("the answer has no picture")
    return "it drew a picture"


# In the order in which they are asked: what costs least comes first.
CHECKS: tuple[Check, ...] = (
    Check("chat", _chat("Say hello."), _talks),
    Check("completion", _post(TEXT_PATH, prompt="Once upon", max_tokens=FEW_TOKENS), _goes_on),
    Check("streaming", _chat("Say hello.", stream=True), _streams, "stream"),
    Check("logprobs", _chat("Say hello.", logprobs=True), _weighs, "logprobs"),
    Check("embeddings", _post(EMBEDDINGS_PATH, input=["a red fox", "42"]), _embeds),
    Check(
        "rerank",
        _post(RERANK_PATH, query="What is red?", documents=["A fox is red.", "Two and two."]),
        _ranks,
    ),
    Check("classification", _post(CLASSIFY_PATH, input="A fox is red."), _sorts),
    Check(
        "infill",
        _post(TEXT_PATH, prompt="def add(a, b):\n", suffix="\n", max_tokens=FEW_TOKENS),
        _fills,
        "suffix",
    ),
    Check("vision", _chat([_WHAT, _PICTURE]), _takes_in, plain=_chat([_WHAT])),
    Check("audio", _chat([_WHAT, _SOUND]), _takes_in, plain=_chat([_WHAT])),
    Check(
        "tools",
        _whole("What is the weather in Oslo?", tools=[_WEATHER], tool_choice=_FORCED),
        _calls,
        "tools",
    ),
    Check(
        "json_mode",
        _whole("Answer with JSON: your name.", response_format={"type": "json_object"}),
        _is_json,
        "response_format",
    ),
    Check(
        "json_schema",
        _whole("Do five fit?", response_format=_AS_SCHEMA),
        _validates,
        "response_format",
    ),
    Check("thinking", _chat("What is 17 times 23?", max_tokens=SOME_TOKENS), _thinks),
    Check(
        "speech_to_text",
        _form(TRANSCRIPTIONS_PATH, "silence.wav", "audio/wav", silence()),
        _transcribes,
    ),
    Check("text_to_speech", _post(SPEECH_PATH, input="Hello.", voice="alloy"), _speaks),
    Check("image_generation", _post(IMAGES_PATH, prompt="a red fox", n=1), _draws),
)
# Moderation, the classes of pictures and tensors can be asked of nobody without knowing more.
PROBED = tuple(check.capability for check in CHECKS)
