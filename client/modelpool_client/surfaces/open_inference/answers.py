"""PURE. What engines answer, told as tensors, or as the texts of Triton's generate extension."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from modelpool_client.errors import EngineFailed, ModelPoolError
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.embeddings import shortened
from modelpool_client.surfaces.open_inference.tables import EMBEDDING, FINISH_REASON, TEXT_OUTPUT
from modelpool_client.surfaces.text_events import TextEvents
from modelpool_client.surfaces.translation import Told

_STREAM_TYPE = b"text/event-stream; charset=utf-8"

Json: TypeAlias = dict[str, Any]
# Of an engine's answer its outputs by name: shape and elements.
Read: TypeAlias = Callable[[Mapping[str, Any]], dict[str, tuple[list[int], list[Any]]]]

_DATATYPES = {t.name: t.datatype for t in (TEXT_OUTPUT, FINISH_REASON, EMBEDDING)}


def error_body(error: ModelPoolError) -> Json:
    """The body of every error; code and source are in its headers."""
    return {"error": error.message}


@dataclass(frozen=True)
class Head:
    """How an answer begins: the model as its client calls it, its version, the request's id."""

    model: str
    version: str
    request_id: str | None = None

    def body(self) -> Json:
        """Without an id where the request had none."""
        named = {} if self.request_id is None else {"id": self.request_id}
        return {**named, "model_name": self.model, "model_version": self.version}


class Inference:
    """The translation of an infer request, which is never a stream; see ``Translation``.

    Its whole answer is for ``codec.encode``, which knows what goes raw.
    """

    stream_type = _STREAM_TYPE

    def __init__(self, told: Told, head: Head, outputs: Mapping[str, bool], read: Read) -> None:
        """``outputs``: the names that the client wants, in this order, and whether they go raw."""
        self.told = told
        self._head = head
        self._outputs = outputs
        self._read = read

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer as ``codec.encode`` takes it.

        Raises:
            EngineFailed: the engine's is none.
        """
        found = self._read(answer)
        outputs = [self._output(name, *found[name]) for name in self._outputs]
        return {**self._head.body(), "outputs": outputs}

    def begin(self) -> bytes:
        return b""

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        return b""

    def end(self) -> bytes:
        return b""

    def failed(self, error: ModelPoolError) -> bytes:
        return sse.event(error_body(error))

    def ping(self) -> bytes:
        return b""

    def _output(self, name: str, shape: list[int], data: list[Any]) -> Json:
        body: Json = {"name": name, "datatype": _DATATYPES[name], "shape": shape, "data": data}
        return {**body, "parameters": {"binary_data": True}} if self._outputs[name] else body


class Generation:
    """The translation of a request to generate; see ``Translation``."""

    stream_type = _STREAM_TYPE

    def __init__(
        self, told: Told, head: Head, prefix: str, *, in_pieces: bool, wants_reason: bool
    ) -> None:
        """
        Args:
            prefix: goes before the text of the answer.
            in_pieces: of a stream: as they come, or all in one event at its end.
        """
        self.told = told
        self._head = head
        self._prefix = prefix
        self._in_pieces = in_pieces
        self._wants_reason = wants_reason
        self._kept: list[str] = []
        self._finish: str | None = None
        self._texts: TextEvents | None = None

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The body of an answer that is not streamed.

        Raises:
            EngineFailed: the engine's is none.
        """
        (choice,) = _choices(answer, 1)
        return self._told(self._prefix + _text(choice), choice.get("finish_reason"))

    def begin(self) -> bytes:
        return b""

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        """An event, unless there is no text in it."""
        choices = chunk.get("choices") or []
        if not choices:
            return b""
        text, reason = _text(choices[0]), choices[0].get("finish_reason")
        self._finish = reason or self._finish
        if not self._in_pieces:
            self._kept.append(text)
            return b""
        is_told = text or (reason and self._wants_reason)
        return sse.event(self._told(text, reason)) if is_told else b""

    def text(self, text: str) -> bytes:
        """See ``TellsTexts``."""
        if not self._in_pieces:
            self._kept.append(text)
            return b""
        if self._texts is None:
            self._texts = TextEvents(sse.event(self._told("", None)).decode())
        return self._texts.of(text).encode() if text else b""

    def end(self) -> bytes:
        if self._in_pieces:
            return b""
        return sse.event(self._told(self._prefix + "".join(self._kept), self._finish))

    def failed(self, error: ModelPoolError) -> bytes:
        return sse.event(error_body(error))

    def ping(self) -> bytes:
        return b": waiting\n\n"

    def _told(self, text: str, reason: str | None) -> Json:
        body = {**self._head.body(), TEXT_OUTPUT.name: text}
        is_told = reason and self._wants_reason
        return {**body, FINISH_REASON.name: reason} if is_told else body


def text_outputs(prefixes: Sequence[str]) -> Read:
    """How to read completions of as many texts as there are ``prefixes``, which go before them."""

    def read(answer: Mapping[str, Any]) -> dict[str, tuple[list[int], list[Any]]]:
        choices = _choices(answer, len(prefixes))
        texts = [prefix + _text(c) for prefix, c in zip(prefixes, choices, strict=True)]
        reasons = [str(c.get("finish_reason") or "stop") for c in choices]
        shape = [len(prefixes)]
        return {TEXT_OUTPUT.name: (shape, texts), FINISH_REASON.name: (shape, reasons)}

    return read


def embedding_outputs(count: int, dimensions: int | None) -> Read:
    """How to read the embeddings of so many texts; of each the first ``dimensions`` numbers, scaled
    to length 1, or all of them as they are."""

    def read(answer: Mapping[str, Any]) -> dict[str, tuple[list[int], list[Any]]]:
        found = sorted(answer.get("data") or [], key=lambda item: item.get("index", 0))
        vectors = [item["embedding"] for item in found]
        if dimensions is not None:
            vectors = [shortened(vector, dimensions) for vector in vectors]
        lengths = {len(vector) for vector in vectors}
        if len(vectors) != count or len(lengths) != 1:
            text = f"the engine gave {len(vectors)} embeddings of lengths {sorted(lengths)}"
            raise EngineFailed(f"{text} for {count} texts", source="engine")
        numbers = [x for vector in vectors for x in vector]
        return {EMBEDDING.name: ([count, lengths.pop()], numbers)}

    return read


def _choices(answer: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    choices = sorted(answer.get("choices") or [], key=lambda choice: choice.get("index", 0))
    if len(choices) != count:
        text = f"the engine's answer has {len(choices)} choices for {count} texts"
        raise EngineFailed(text, source="engine")
    return choices


def _text(choice: Mapping[str, Any]) -> str:
    return choice.get("text") or ""
