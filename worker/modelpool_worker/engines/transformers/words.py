"""Tokens and texts of a model: what each token adds, what grammars need, how chats are written."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelpool_client.errors import InvalidRequest

from modelpool_worker.hosting.contract import Vocabulary
from modelpool_worker.hosting.detokenize import Pieces
from modelpool_worker.hosting.tool_calls import FORMATS, format_of

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_TRIAL = ({"role": "user", "content": "Hello"},)


class TextWords:
    """A tokenizer as the kit and the choosers want it.

    Attributes:
        end_tokens: that end an answer.
        vocabulary: None for tokenizers whose tokens are no bytes.
        tool_format: see ``tool_calls``.
        chat_error: why there can be no chats.
    """

    def __init__(self, tokenizer: Any, end_tokens: Sequence[int], size: int) -> None:
        self.end_tokens = tuple(end_tokens)
        self.vocabulary_size = size
        self._tokenizer = tokenizer
        template = tokenizer.chat_template
        template = template if isinstance(template, str) else "\n".join((template or {}).values())
        self.tool_format = format_of(template)
        self.chat_error = self._chat_error()
        self._special = set(tokenizer.all_special_ids) | {
            i for i, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        self._shown = self._tokens_of_calls()
        self._bytes = token_bytes(tokenizer, size)
        self._strips = self._bytes is not None and _strips_first_blank(tokenizer)
        self.vocabulary = self._vocabulary()

    def encode(self, text: str) -> list[int]:
        """See ``contract.TextModel``."""
        return list(self._tokenizer(text)["input_ids"])

    def chat_prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> list[int]:
        """See ``contract.TextModel``."""
        if any(not isinstance(message.get("content"), str) for message in messages):
            text = "messages: this engine reads text only"
            raise InvalidRequest(text, param="messages", source="engine")
        try:
            return self._rendered(messages, tools, settings)
        except Exception as e:  # of Jinja, or whatever a template does
            text = f"the model's chat template refuses the messages: {e}"
            raise InvalidRequest(text[:1000], param="messages", source="engine") from None

    def _rendered(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> list[int]:
        own = ("tokenize", "return_dict", "return_tensors", "chat_template", "tokenizer_kwargs")
        told = {k: v for k, v in settings.items() if k not in own}
        text = self._tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tools=[dict(tool) for tool in tools] or None,
            tokenize=False,
            **{"add_generation_prompt": True, **told},
        )
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _chat_error(self) -> str | None:
        if not self._tokenizer.chat_template:
            return "the model has no chat template; give one by the option chat_template"
        try:
            self._rendered(_TRIAL, (), {})
        except Exception as e:
            return f"{type(e).__name__}: {e}"[:500]
        return None

    def _tokens_of_calls(self) -> set[int]:
        """Special tokens that mark calls of tools, which whoever looks for those has to see."""
        form = FORMATS.get(self.tool_format)
        marks = {form.opens, form.closes} if form is not None else set()
        ids = {mark: self._tokenizer.convert_tokens_to_ids(mark) for mark in marks if mark}
        return {i for mark, i in ids.items() if i in self._special and isinstance(i, int)}

    # -- what tokens add ---------------------------------------------------------------------------

    def piece(self, token: int) -> bytes:
        """What a token adds that stands alone; special ones are told as they are written."""
        if self._bytes is not None and token < len(self._bytes) and token not in self._special:
            return self._bytes[token]
        return str(self._tokenizer.decode([token])).encode()

    def pieces(self) -> Callable[[int], bytes]:
        """What each token of one answer adds, asked in their order."""
        if self._bytes is None:
            return self._decoded_pieces()
        if not self._strips:
            return self._plain_piece
        is_first = True

        def stripped(token: int) -> bytes:
            nonlocal is_first
            data = self._plain_piece(token)
            if is_first and data:
                is_first = False
                return data.removeprefix(b" ")
            return data

        return stripped

    def _plain_piece(self, token: int) -> bytes:
        assert self._bytes is not None
        if token in self._shown:
            return self.piece(token)
        is_text = token not in self._special and token < len(self._bytes)
        return self._bytes[token] if is_text else b""

    def _decoded_pieces(self) -> Callable[[int], bytes]:
        decode = functools.partial(self._tokenizer.decode, skip_special_tokens=True)
        inner = Pieces(decode)

        def piece(token: int) -> bytes:
            if token in self._shown:
                return self.piece(token)
            return inner.add(token)

        return piece

    def _vocabulary(self) -> Vocabulary | None:
        if self._bytes is None or not self.end_tokens:
            return None
        return Vocabulary(self._bytes, self._special, self.end_tokens[0])


def token_bytes(tokenizer: Any, size: int) -> list[bytes] | None:
    """What each of ``size`` ids stands for, empty for special ones and those that there are not;
    None where tokens are no bytes."""
    decoder = _decoders(tokenizer)
    read: Callable[[str], bytes]
    if "ByteLevel" in decoder:
        read = functools.partial(_of_letters, _letters())
    elif {"ByteFallback", "Metaspace", "Replace"} & decoder:
        read = _of_pieces
    else:
        return None
    added = dict(tokenizer.added_tokens_decoder)
    names = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
    found = []
    for i, name in enumerate(names):
        if i in added:
            found.append(b"" if added[i].special else added[i].content.encode())
        else:
            found.append(read(name) if isinstance(name, str) else b"")
    return [*found, *[b""] * (size - len(found))]


def _decoders(tokenizer: Any) -> set[str]:
    """The kinds of decoders that its fast tokenizer puts texts together with."""
    return {str(item.get("type")) for item in _decoder_items(tokenizer)}


def _strips_first_blank(tokenizer: Any) -> bool:
    items = _decoder_items(tokenizer)
    return any(i.get("type") == "Strip" and i.get("start") for i in items) or any(
        i.get("type") == "Metaspace" and i.get("prepend_scheme") != "never" for i in items
    )


def _decoder_items(tokenizer: Any) -> list[dict[str, Any]]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return []
    decoder = json.loads(backend.to_str()).get("decoder") or {}
    return list(decoder.get("decoders") or [decoder])


def _letters() -> dict[str, int]:
    """The letters that byte-level tokenizers write bytes with: printable ones are themselves, the
    others follow at 256."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    shifted = {chr(256 + i): byte for i, byte in enumerate(others)}
    return {chr(byte): byte for byte in plain} | shifted


def _of_letters(letters: Mapping[str, int], name: str) -> bytes:
    if all(letter in letters for letter in name):
        return bytes(letters[letter] for letter in name)
    return name.encode()


def _of_pieces(name: str) -> bytes:
    byte = _BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace("▁", " ").encode()
