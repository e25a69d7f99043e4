"""Chat and text completions of a ``TextModel``."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import ContextLengthExceeded, InvalidRequest
from modelpool_client.http1.exchange import Exchange
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.routes import CHAT_PATH, CHAT_TOKENS_PATH, TEXT_PATH

from .answers import Choice, ChoiceText, Count, Head, token_logprob, told_calls
from .cancel import Cancel
from .contract import AnyText, Constraint, TextRequest, Token
from .generators import Generator
from .grammar import Grammars
from .sequences import Sequence
from .surface import Work
from .text_request import (
    TextBody,
    chat_messages,
    check_tokens,
    prompts_of,
    read_text_body,
    seeded,
)
from .tool_calls import FORMATS, CallFinder

_ids = itertools.count(1)


@dataclass
class _Running:
    """A choice on its way."""

    index: int
    sequence: Sequence
    text: ChoiceText


class TextSurface:
    """Answers for one model. Its methods are called in the loop that serves."""

    work = "text"

    def __init__(self, name: str, model: AnyText, generator: Generator, work: Work) -> None:
        self._name = name
        self._model = model
        self._generator = self.meter = generator
        self._work = work
        self._end_tokens = frozenset(model.end_tokens)
        vocabulary = getattr(model, "vocabulary", None)
        self._grammars = Grammars(vocabulary) if vocabulary is not None else None
        size = len(vocabulary.tokens) if vocabulary is not None else None
        self._size: int | None = getattr(model, "vocabulary_size", size)
        self._tool_format = FORMATS.get(getattr(model, "tool_format", ""))
        self.routes = {
            CHAT_PATH: self.chat,
            TEXT_PATH: self.text,
            CHAT_TOKENS_PATH: self.count,
        }

    async def chat(self, exchange: Exchange, body: Mapping[str, Any]) -> None:
        """``/v1/chat/completions``"""
        asked = read_text_body(body, is_chat=True)
        prompt = await self._chat_prompt(body)
        tools = [tool["function"]["name"] for tool in _tools(body)]
        await self._answer(exchange, asked, [prompt], tools, is_chat=True)

    async def text(self, exchange: Exchange, body: Mapping[str, Any]) -> None:
        """``/v1/completions``"""
        asked = read_text_body(body, is_chat=False)
        given = prompts_of(body["prompt"])
        for prompt in given:
            if not isinstance(prompt, str):
                check_tokens(prompt, self._size, "prompt")
        prompts = [
            await self._work.prepare(self._model.encode, prompt)
            if isinstance(prompt, str)
            else prompt
            for prompt in given
        ]
        await self._answer(exchange, asked, prompts, (), is_chat=False)

    async def count(self, exchange: Exchange, body: Mapping[str, Any]) -> None:
        """``/v1/chat/completions/input_tokens``"""
        exchange.send_json(200, {"input_tokens": len(await self._chat_prompt(body))})

    async def _chat_prompt(self, body: Mapping[str, Any]) -> list[int]:
        messages = chat_messages(body["messages"])
        settings = body.get("chat_template_kwargs") or {}
        return await self._work.prepare(self._model.chat_prompt, messages, _tools(body), settings)

    async def _answer(
        self,
        exchange: Exchange,
        asked: TextBody,
        prompts: Several[list[int]],
        tools: Several[str],
        *,
        is_chat: bool,
    ) -> None:
        for prompt in prompts:
            self._check_length(prompt, "messages" if is_chat else "prompt")
        id_ = f"{os.getpid():x}-{next(_ids)}"
        kind = "chatcmpl" if is_chat else "cmpl"
        head = Head(f"{kind}-{id_}", int(time.time()), self._name, is_chat)
        count = Count(sum(map(len, prompts)))
        constraints = [await self._constraint(asked) for _ in range(len(prompts) * asked.n)]
        choices = [
            self._begin(asked, prompts[i // asked.n], i, f"{id_}-{i}", tools, constraint)
            for i, constraint in enumerate(constraints)
        ]
        try:
            for choice in choices:
                self._generator.start(choice.sequence, asked.priority)
            if asked.stream:
                await self._stream(exchange, asked, head, choices, count)
            else:
                parts = [self._collect(asked, head, choice, count) for choice in choices]
                exchange.send_json(200, head.whole(await _all(parts), count.usage()))
        finally:
            for choice in choices:
                choice.sequence.request.cancel.set()

    def _check_length(self, prompt: Several[int], param: str) -> None:
        limit = self._model.context_length
        if not prompt:
            raise InvalidRequest(f"{param} is empty", param=param, source="engine")
        if len(prompt) >= limit:
            text = f"the request has {len(prompt)} tokens, which exceeds the available context "
            text += f"size ({limit} tokens)"
            details = {"prompt_tokens": len(prompt), "context_length": limit}
            raise ContextLengthExceeded(text, param=param, source="engine", details=details)

    async def _constraint(self, asked: TextBody) -> Constraint | None:
        if asked.schema is None:
            return None
        if self._grammars is None:
            text = "response_format: this model cannot be held to a format"
            raise InvalidRequest(text, param="response_format", source="engine")
        return await self._work.prepare(self._grammars.of_schema, asked.schema)

    def _begin(
        self,
        asked: TextBody,
        prompt: list[int],
        index: int,
        id_: str,
        tools: Several[str],
        constraint: Constraint | None,
    ) -> _Running:
        room = self._model.context_length - len(prompt)
        request = TextRequest(
            prompt=prompt,
            max_tokens=min(asked.max_tokens or room, room),
            sampling=seeded(asked.sampling, index % asked.n),
            cancel=Cancel(),
            alternatives=asked.alternatives,
            constraint=constraint,
            id=id_,
        )
        finder = CallFinder(self._tool_format, tools) if tools and self._tool_format else None
        return _Running(index, Sequence(request, self._end_tokens), ChoiceText(asked.stops, finder))

    async def _stream(
        self,
        exchange: Exchange,
        asked: TextBody,
        head: Head,
        choices: Several[_Running],
        count: Count,
    ) -> None:
        parts = [self._send_choice(exchange, asked, head, choice, count) for choice in choices]
        await _all(parts)
        if asked.include_usage:
            exchange.write(head.usage(count.usage()))
        exchange.write(b"data: " + sse.DONE + b"\n\n")
        exchange.end()

    async def _send_choice(
        self, exchange: Exchange, asked: TextBody, head: Head, choice: _Running, count: Count
    ) -> None:
        index, has_begun = choice.index, False
        async for text, logprobs in self._parts(asked, choice):
            if not exchange.status:
                exchange.begin(200, list(sse.HEADERS))
            if not has_begun and head.is_chat:
                exchange.write(head.chunk(index, role="assistant", content=""))
            has_begun = True
            if text or logprobs:
                told = None if logprobs is None else {"content": logprobs}
                exchange.write(head.chunk(index, content=text, logprobs=told))
            await exchange.drain()
        if not exchange.status:
            exchange.begin(200, list(sse.HEADERS))
        if not has_begun and head.is_chat:  # an empty answer is one, too
            exchange.write(head.chunk(index, role="assistant", content=""))
        if choice.text.calls:
            exchange.write(head.chunk(index, tool_calls=self._calls(head, choice)))
        exchange.write(head.chunk(index, reason=self._reason(choice), stop=choice.text.stop))
        count.completion += choice.text.count

    async def _collect(self, asked: TextBody, head: Head, choice: _Running, count: Count) -> Choice:
        texts: list[str] = []
        logprobs: list[dict[str, Any]] | None = None if asked.alternatives is None else []
        async for text, more in self._parts(asked, choice):
            texts.append(text)
            if logprobs is not None:
                logprobs += more or ()
        count.completion += choice.text.count
        calls, reason = self._calls(head, choice), self._reason(choice)
        return Choice("".join(texts), calls, logprobs, reason, choice.text.stop)

    async def _parts(
        self, asked: TextBody, choice: _Running
    ) -> AsyncIterator[tuple[str, list[dict[str, Any]] | None]]:
        """Text and log probabilities as they come; the first for the first token at the latest."""
        text = choice.text
        async for tokens in choice.sequence.pieces():
            used = _until_stopped(text, tokens)
            told = "".join(part for _, part in used)
            wants = asked.alternatives is not None
            yield told, [token_logprob(token) for token, _ in used] if wants else None
            if text.is_stopped:
                choice.sequence.request.cancel.set()
                break
        if rest := text.end():
            yield rest, None

    def _calls(self, head: Head, choice: _Running) -> list[dict[str, Any]]:
        return told_calls(choice.text.calls, f"{head.id}_{choice.index}")

    def _reason(self, choice: _Running) -> str:
        return choice.text.finish_reason(is_length=choice.sequence.is_length)


def _until_stopped(text: ChoiceText, tokens: Several[Token]) -> list[tuple[Token, str]]:
    used = []
    for token in tokens:
        used.append((token, text.feed(token)))
        if text.is_stopped:
            break
    return used


def _tools(body: Mapping[str, Any]) -> Several[Mapping[str, Any]]:
    return () if body.get("tool_choice") == "none" else body.get("tools") or ()


async def _all(parts: Several[Any]) -> list[Any]:
    """The results of all, side by side; the first error ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except BaseExceptionGroup as e:
        raise e.exceptions[0] from None
    return [task.result() for task in tasks]
