"""PURE. A request as those see it who decide which model answers it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from .classifiers import Finding, Question

Sticky: TypeAlias = Literal["conversation", "user", "key", "none"]


@dataclass(frozen=True)
class RouteRequest:
    """What a client says, and who it is as far as that is known.

    Attributes:
        name: the model, as the client has written it.
        path: the route, as ``/v1/chat/completions``.
        data: the body; of routes whose path names the model only what the path says.
        is_stream: it is answered bit by bit.
        session: of ``X-Session-ID``.
        key: a digest of the API key, never the key itself.
        caller_class: of ``X-Agent-Class``.
        members: of ``X-ModelPool-Members``, how much of several answers is to be told.
        draw: a random number, 0 ≤ draw < 1, for choices that nothing else decides.
        fields: the request's headers, names in small letters.
        findings: what models were asked about it beforehand, and have said.
    """

    name: str
    path: str = "/v1/chat/completions"
    data: Mapping[str, Any] = field(default_factory=dict)
    is_stream: bool = False
    session: str = ""
    key: str = ""
    caller_class: str = ""
    draw: float = 0.0
    fields: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    members: str = ""
    findings: Mapping[Question, Finding] = field(default_factory=dict, repr=False)

    @property
    def user(self) -> str:
        """Whom the client acts for, as it says."""
        told = self.data.get("user") or self.data.get("safety_identifier")
        metadata = self.data.get("metadata")
        if told is None and isinstance(metadata, Mapping):
            told = metadata.get("user_id")
        return told if isinstance(told, str) else ""

    @cached_property
    def conversation(self) -> str:
        """What all requests of one conversation have in common: its id where the client gives one,
        else how it began."""
        named = self.session or self.data.get("prompt_cache_key")
        if isinstance(named, str) and named:
            return named
        begin = self._begin()
        return hashlib.sha256(begin).hexdigest()[:32] if begin else ""

    def _begin(self) -> bytes:
        """Up to the first thing that a user said."""
        messages = self.data.get("messages", self.data.get("input"))
        if not isinstance(messages, list):
            return b""
        begin: list[Any] = [self.data.get("system"), self.data.get("instructions")]
        for message in messages:
            role = message.get("role") if isinstance(message, Mapping) else None
            content = message.get("content") if isinstance(message, Mapping) else message
            begin.append((role, content))
            if role == "user":
                break
        return json.dumps(begin, sort_keys=True).encode()

    def common(self, sticky: Sticky) -> str:
        """What requests have in common that are to stay together; empty where they do not say."""
        if sticky == "none":
            return ""
        common: str = getattr(self, sticky)
        return common


def key_digest(credentials: bytes) -> str:
    """How a key is told from others without being known."""
    return hashlib.sha256(b"modelpool key " + credentials).hexdigest()[:32] if credentials else ""
