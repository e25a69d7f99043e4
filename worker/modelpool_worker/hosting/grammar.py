"""JSON schemas as constraints on tokens, by ``llguidance`` (extra ``grammar``)."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from modelpool_client.errors import EngineFailed, InvalidRequest, NotSupported

from .contract import Vocabulary

INSTALL_HINT = "pip install 'modelpool[grammar]'"


class Grammars:
    """Makes constraints for the vocabulary of one model. Slow the first time; in a thread."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            import llguidance
        except ImportError:
            text = f"response_format needs a library that is not installed: {INSTALL_HINT}"
            raise NotSupported(text, param="response_format", source="engine") from None
        wrapped = llguidance.TokenizerWrapper(_Tokens(self._vocabulary))
        return llguidance.LLTokenizer(wrapped, n_vocab=len(self._vocabulary.tokens))

    def of_schema(self, schema: Any) -> Following:
        """For one answer, which follows a JSON schema, written without blanks.

        Raises:
            InvalidRequest: there can be no such grammar.
            NotSupported: the library is not installed.
        """
        import llguidance

        tokenizer = self._tokenizer
        # Blanks anywhere: a model that rambles would never come to an end.
        try:
            text = llguidance.LLMatcher.grammar_from_json_schema(
                json.dumps(schema), defaults={"whitespace_flexible": False}
            )
            matcher = llguidance.LLMatcher(tokenizer, text)
        except ValueError as e:
            raise _refused(str(e)) from None
        if matcher.is_error():
            raise _refused(matcher.get_error())
        return Following(matcher)


def _refused(why: str) -> InvalidRequest:
    text = f"response_format: the schema cannot be followed: {why}"
    return InvalidRequest(text[:1000], param="response_format", source="engine")


class Following:
    """A ``Constraint``."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def mask(self) -> bytes:
        """See there."""
        mask: bytes = self._matcher.compute_bitmask()
        self._check()
        return mask

    def accept(self, token: int) -> None:
        """See there."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            why = self._matcher.get_error()
            raise EngineFailed(f"the answer left its grammar: {why}"[:1000], source="engine")


class _Tokens:
    """What the library wants of a tokenizer."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = vocabulary.end
        self.tokens = list(vocabulary.tokens)
        self.special_token_ids = sorted(vocabulary.special)
        self._ids = {data: i for i, data in enumerate(self.tokens) if data}
        self._longest = max(map(len, self._ids), default=1)

    def __call__(self, text: bytes) -> list[int]:
        """Tokens of a text, the longest first: it serves to look ahead only."""
        ids, at = [], 0
        while at < len(text):
            for size in range(min(self._longest, len(text) - at), 0, -1):
                if (found := self._ids.get(text[at : at + size])) is not None:
                    ids.append(found)
                    at += size
                    break
            else:
                at += 1
        return ids
