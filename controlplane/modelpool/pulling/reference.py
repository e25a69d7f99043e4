"""What somebody wants to have, read from the text that names it. PURE.

hf:owner/repo[:QUANTISATION or FILE][@REVISION]
ollama-server:NAME[:TAG]
ollama:NAME[:TAG]    ollama:NAMESPACE/NAME[:TAG]    ollama:HOST/NAMESPACE/NAME[:TAG]
https://host/path/file.gguf
/path/of/a/file    ~/path    ./path
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from os.path import basename
from typing import Literal
from urllib.parse import unquote, urlsplit

from modelpool_client.errors import InvalidRequest

Scheme = Literal["hf", "ollama", "ollama-server", "url", "path"]

# A model that a running server of Ollama pulls, and keeps.
SERVER: Scheme = "ollama-server"

MAX_REFERENCE = 2000
DEFAULT_TAG = "latest"
OLLAMA_LIBRARY = "library"
# Hosts that people write in front of a repository, as Ollama's users do.
HUB_HOSTS = ("hf.co", "huggingface.co")
# What stands for the query of a URL where it is told.
CUT, CUT_DIGITS = "~", 8
_CUT = re.compile(rf"{CUT}[0-9a-f]{{{CUT_DIGITS}}}")
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REPO = re.compile(rf"{_WORD}/{_WORD}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_VARIANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/ -]*")
_SERVER_NAME = re.compile(rf"(?:{_WORD}(?::\d+)?/)?(?:{_WORD}/)?{_WORD}")
_NAME = re.compile(rf"(?:(?P<host>{_WORD}(?::\d+)?)/)?(?:(?P<space>{_WORD})/)?(?P<name>{_WORD})")


@dataclass(frozen=True)
class Reference:
    """What is wanted, in parts.

    Attributes:
        scheme: the name of its origin.
        name: ``owner/repo``, ``namespace/name``, a URL without its query, or a path.
        variant: of a repository, a quantisation or a file; of Ollama's, the tag; of a URL, its
            query, which may be a key: it is told by a digest only.
        revision: a branch, tag or commit of a repository; empty: its default.
        host: of a registry that is not the configured one, with its port.
    """

    scheme: Scheme
    name: str
    variant: str = ""
    revision: str = ""
    host: str = ""

    def __str__(self) -> str:
        """The text that names it, always the same one; not what may be a key."""
        if self.scheme == "hf":
            variant = f":{self.variant}" if self.variant else ""
            return f"hf:{self.name}{variant}" + (f"@{self.revision}" if self.revision else "")
        if self.scheme == "ollama":
            name = self.name.removeprefix(f"{OLLAMA_LIBRARY}/") if not self.host else self.name
            return f"ollama:{self.host}{'/' if self.host else ''}{name}:{self.variant}"
        if self.scheme == "url" and self.variant:
            digest = hashlib.sha256(self.variant.encode()).hexdigest()[:CUT_DIGITS]
            return f"{self.name}?{self.variant if self.is_cut else CUT + digest}"
        if self.scheme == SERVER:
            return f"{SERVER}:{self.name}:{self.variant}"
        return self.name

    @property
    def url(self) -> str:
        """Of a URL all of it."""
        return f"{self.name}?{self.variant}" if self.variant else self.name

    @property
    def is_cut(self) -> bool:
        """Whether it was read from what a URL with a query is told as: that is not known then."""
        return self.scheme == "url" and _CUT.fullmatch(self.variant) is not None

    @property
    def model_id(self) -> str:
        """The id that people expect; of a repository, a quantisation is still to be added where
        none was named."""
        if self.scheme == "hf":
            is_file = self.variant.endswith(".gguf")
            variant = basename(self.variant).removesuffix(".gguf") if is_file else self.variant
            return f"{self.name}:{variant}" if variant else self.name
        if self.scheme == "ollama":
            tag = "" if self.variant == DEFAULT_TAG else f":{self.variant}"
            return self.name.removeprefix(f"{OLLAMA_LIBRARY}/") + tag
        if self.scheme == SERVER:
            return self.name + ("" if self.variant == DEFAULT_TAG else f":{self.variant}")
        path = unquote(urlsplit(self.name).path) if self.scheme == "url" else self.name
        return basename(path.rstrip("/")).removesuffix(".gguf")


def parse_reference(text: object) -> Reference:
    """Which model a text names.

    Raises:
        InvalidRequest: none, and what would be right.
    """
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_REFERENCE:
        raise _wrong(f"must be a text of at most {MAX_REFERENCE} characters")
    if not text.isprintable():
        raise _wrong("must not hold control characters")
    scheme, colon, rest = text.strip().partition(":")
    if colon and scheme.casefold() in ("hf", "huggingface"):
        return _hub(rest)
    if colon and scheme.casefold() == "ollama":
        return _ollama(rest)
    if colon and scheme.casefold() == SERVER:
        return _at_server(rest)
    if colon and scheme.casefold() in ("http", "https") and rest.startswith("//"):
        return _url(text.strip())
    if text.startswith(("/", "./", "../", "~")):
        return Reference("path", text)
    raise _wrong(
        f"{text[:200]!r} names no origin: hf:owner/repo[:quantisation], ollama:name[:tag],"
        " ollama-server:name[:tag],"
        " https://…/file.gguf, or a path that begins with /, ./ or ~"
    )


def ollama_name(name: str) -> str:
    """What Ollama's clients mean by a name: its registry, or the hub where they say so."""
    host, slash, rest = name.partition("/")
    is_hub = bool(slash) and host.casefold() in HUB_HOSTS
    return f"hf:{rest}" if is_hub else f"ollama:{name}"


def _wrong(problem: str) -> InvalidRequest:
    return InvalidRequest(f"source {problem}", param="source")


def _hub(text: str) -> Reference:
    rest, _, revision = text.partition("@")
    name, _, variant = rest.partition(":")
    if not _REPO.fullmatch(name):
        raise _wrong(f"{text[:200]!r} is no repository; it is hf:owner/repo[:quantisation]")
    if variant and not (_VARIANT.fullmatch(variant) and ".." not in variant):
        raise _wrong(f"{variant[:200]!r} is neither a quantisation nor a file of a repository")
    if revision and not (_REVISION.fullmatch(revision) and ".." not in revision):
        raise _wrong(f"{revision[:200]!r} is no branch, tag or commit")
    return Reference("hf", name, variant, revision)


def _ollama(text: str) -> Reference:
    path, slash, last = text.rpartition("/")
    last, _, tag = last.partition(":")
    found = _NAME.fullmatch(f"{path}{slash}{last}")
    if found is None or (tag and not re.fullmatch(_WORD, tag)):
        raise _wrong(f"{text[:200]!r} is no name of Ollama's; it is ollama:name[:tag]")
    host, space = found["host"] or "", found["space"] or ""
    if host and not space:  # two parts are a namespace and a name
        host, space = "", host
    if ":" in space:
        raise _wrong(f"{text[:200]!r} names a host without a namespace: ollama:host/library/name")
    name = f"{space or OLLAMA_LIBRARY}/{found['name']}"
    return Reference("ollama", name, tag or DEFAULT_TAG, "", host)


def _at_server(text: str) -> Reference:
    path, slash, last = text.rpartition("/")
    last, _, tag = last.partition(":")
    name = f"{path}{slash}{last}"
    if _SERVER_NAME.fullmatch(name) is None or (tag and not re.fullmatch(_WORD, tag)):
        raise _wrong(f"{text[:200]!r} is no name of Ollama's; it is {SERVER}:name[:tag]")
    return Reference(SERVER, name, tag or DEFAULT_TAG)


def _url(text: str) -> Reference:
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname and parts.hostname.strip(".")) and parts.port != 0
        has_host = has_host and not set(parts.netloc) & set(" \\%")
    except ValueError:
        has_host = False
    if not has_host:
        raise _wrong(f"{text[:200]!r} is no URL")
    if parts.username or parts.password:
        raise _wrong("must not hold a password: it would be kept and shown")
    if not basename(unquote(parts.path)):
        raise _wrong(f"{text[:200]!r} names no file")
    name, _, query = text.partition("#")[0].partition("?")
    return Reference("url", name, query)
