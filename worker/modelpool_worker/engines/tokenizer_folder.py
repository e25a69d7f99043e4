"""The tokenizer of a model's folder as Hugging Face keeps it: ``tokenizer.json``, the chat template
and the names of its special tokens, by the libraries ``tokenizers`` and ``jinja2`` alone.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client.errors import InvalidRequest, LoadFailed

from modelpool_worker.hosting.contract import Vocabulary
from modelpool_worker.hosting.detokenize import Pieces
from modelpool_worker.hosting.tool_calls import FORMATS, format_of

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
_MAX_TEMPLATE_BYTES = 1 << 20
_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")
_SPACE = "\u2581"  # of SentencePiece
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class FolderTokenizer:
    """Texts and chats as tokens, and back.

    Attributes:
        chat_error: why chats are to be refused; None where there is a template that can be read.
        tool_format: a name of ``tool_calls.FORMATS``, or empty.
    """

    def __init__(self, folder: str, template: str | None = None) -> None:
        """Read it; ``template`` in place of the folder's own.

        Raises:
            LoadFailed: ``missing_dependency``, or ``bad_file``: it is missing or wrong.
        """
        try:
            import tokenizers
        except ImportError as e:
            text = f"the library tokenizers cannot be imported ({e})"
            raise LoadFailed(text, code="missing_dependency", source="engine") from e
        path = os.path.join(folder, TOKENIZER)
        self._special = set[int]()
        self._settings = read_json(os.path.join(folder, SETTINGS))
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(text)
            self._said: dict[str, Any] = json.loads(text)
        except OSError as e:
            raise bad_file(path, e.strerror or str(e)) from None
        except Exception as e:  # the library raises nothing narrower
            raise bad_file(path, f"is no tokenizer: {e}") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        added = self._said.get("added_tokens") or ()
        self._special = {t["id"] for t in added if t.get("special")}
        self._added = {t["id"]: t["content"].encode() for t in added}
        self._style = _style(self._said)
        self._bytes: dict[int, bytes] = {}
        template = template or _template(folder, self._settings)
        self.tool_format = format_of(template or "")
        self._template, self.chat_error = _compiled(template)
        form = FORMATS.get(self.tool_format)
        self._shown = {form.opens.encode(), form.closes.encode()} if form else set[bytes]()

    @property
    def size(self) -> int:
        """How many tokens it knows."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def longest(self) -> int | None:
        """Tokens of a text at most, where the folder says so."""
        told = self._settings.get("model_max_length")
        # Hugging Face writes 10^30 for those that are not limited.
        return int(told) if isinstance(told, int | float) and 0 < told < 1 << 31 else None

    def id_of(self, token: str) -> int | None:
        """Of a token by its text."""
        found = self._tokenizer.token_to_id(token)
        return None if found is None else int(found)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Of a text, with the tokens that the model wants around it unless it holds them."""
        return list(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def encode_pair(self, first: str, second: str) -> list[int]:
        """Of two texts that belong together."""
        return list(self._tokenizer.encode(first, second).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def chat_prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> list[int]:
        """See ``TextModel``.

        Raises:
            InvalidRequest: the template refuses it.
        """
        assert self._template is not None, "chats are refused"
        variables = {
            **_special_tokens(self._settings),
            "add_generation_prompt": True,
            **settings,
            "messages": messages,
            "tools": list(tools) or None,
        }
        try:
            text = self._template.render(**variables)
        except Exception as e:  # a template may raise anything
            what = f"the model's chat template refuses this: {e}"
            raise InvalidRequest(what[:1000], param="messages", source="engine") from None
        return self.encode(text, special=False)

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to a text as far as that can be said of one alone; nothing for special
        ones but those that open and close calls of tools."""
        found = self._bytes.get(token)
        if found is None:
            found = self._bytes[token] = self._bytes_of(token)
        return found

    def pieces(self) -> Pieces | TokenBytes:
        """Makes bytes of the tokens of one answer."""
        return TokenBytes(self) if self._style == "bytes" else Pieces(self.decode)

    def vocabulary(self, size: int, end: int) -> Vocabulary | None:
        """What grammars need of a model with so many logits; None where the bytes of its tokens are
        not known."""
        if not self._style:
            return None
        tokens = [self.token_bytes(i) for i in range(size)]
        return Vocabulary(tokens, {i for i, data in enumerate(tokens) if not data}, end)

    def _bytes_of(self, token: int) -> bytes:
        if token in self._added:
            data = self._added[token]
            return b"" if token in self._special and data not in self._shown else data
        text = self._tokenizer.id_to_token(token)
        if text is None:
            return b""
        if self._style == "bytes":
            return bytes(_BYTE_OF.get(c, 0x3F) for c in text)
        if self._style == "pieces":
            byte = _BYTE.fullmatch(text)
            plain: str = text.replace(_SPACE, " ")
            return bytes([int(byte[1], 16)]) if byte else plain.encode()
        return self.decode([token]).encode()


class TokenBytes:
    """As ``Pieces``, for tokens that are bytes and need no neighbours."""

    def __init__(self, tokenizer: FolderTokenizer) -> None:
        self._tokenizer = tokenizer

    def add(self, token: int) -> bytes:
        """What it adds."""
        return self._tokenizer.token_bytes(token)

    def end(self) -> bytes:
        """Nothing is ever held back."""
        return b""


def read_json(path: str) -> dict[str, Any]:
    """An object of a file; an empty one where there is no such file.

    Raises:
        LoadFailed: ``bad_file``: it cannot be read, or is none.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise bad_file(path, e.strerror or str(e)) from None
    except ValueError as e:
        raise bad_file(path, f"is no JSON: {e}") from None
    if not isinstance(found, dict):
        raise bad_file(path, "is no JSON object")
    return found


def bad_file(path: str, why: str) -> LoadFailed:
    """What is wrong with a file of a model."""
    return LoadFailed(f"{path}: {why}"[:2000], code="bad_file", param="source", source="engine")


def _style(said: Mapping[str, Any]) -> str:
    """How the text of a token tells its bytes: ``bytes``, a letter each; ``pieces`` as
    SentencePiece has them; empty for others."""
    steps = [said.get("decoder") or {}]
    steps += steps[0].get("decoders") or ()
    kinds = {step.get("type") for step in steps}
    if "ByteLevel" in kinds:
        return "bytes"
    replaced = {str(step.get("pattern")) for step in steps if step.get("type") == "Replace"}
    return "pieces" if "Metaspace" in kinds or any(_SPACE in p for p in replaced) else ""


def _byte_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: those that can be seen stand for themselves."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unseen = [byte for byte in range(256) if byte not in seen]
    return {chr(b): b for b in seen} | {chr(0x100 + i): b for i, b in enumerate(unseen)}


_BYTE_OF = _byte_letters()


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    found = {name: settings.get(name) for name in _SPECIAL_NAMES}
    texts = {k: v.get("content") if isinstance(v, dict) else v for k, v in found.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def template_in(folder: str) -> str:
    """The text of a folder's chat template; empty where it has none.

    Raises:
        LoadFailed: its files cannot be read.
    """
    return _template(folder, read_json(os.path.join(folder, SETTINGS))) or ""


def _template(folder: str, settings: Mapping[str, Any]) -> str | None:
    """The folder's own: the one of that file, else what the tokenizer's settings say."""
    path = os.path.join(folder, TEMPLATE)
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(_MAX_TEMPLATE_BYTES)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as e:
        raise bad_file(path, f"cannot be read: {e}") from None
    said = settings.get("chat_template")
    if isinstance(said, list):  # several by name
        said = {t.get("name"): t.get("template") for t in said if isinstance(t, dict)}.get(
            "default"
        )
    return said if isinstance(said, str) else None


def _compiled(text: str | None) -> tuple[Any, str | None]:
    """The template, or why there is none."""
    if text is None:
        return None, "the model's folder has no chat template"
    try:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as e:
        return None, f"chat templates need the library jinja2, which cannot be imported ({e})"
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    try:
        return environment.from_string(text), None
    except jinja2.TemplateError as e:
        return None, f"the chat template of the model's folder is wrong: {e}"


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    """Without the escapes that web pages need."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise ValueError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
