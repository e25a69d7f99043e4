"""The keys of one entry of ``registrars``. Secrets lie in files of their own: whatever can be
written here is shown by ``GET /config``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictStr,
    field_serializer,
    model_validator,
)

from modelpool.homes import expanded
from modelpool.registrars.kinds import is_known, kinds

# Where each listens on a machine of one's own; 6121 is that of the PAS registry.
USUAL_URLS = {
    "http": "http://127.0.0.1:6121",
    "etcd": "http://127.0.0.1:2379",
    "consul": "http://127.0.0.1:8500",
}
USUAL_PREFIXES = {"etcd": "/modelpool", "consul": "modelpool"}
# Three managers in a row may be restarted before an entry of a living worker expires.
DEFAULT_TTL_SECONDS = 15


# Kind, address and names: where entries lie.
Place: TypeAlias = tuple[str, str, str]


def _known(kind: str) -> str:
    if not is_known(kind):
        raise ValueError(f"is no kind of registrar; there are {', '.join(kinds())}")
    return kind


def _plain_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("should hold no user or password; they belong into token_file")
    is_address = parts.scheme in ("http", "https") and parts.hostname and _has_sound_port(parts)
    if not is_address or parts.query or parts.fragment:
        raise ValueError("should be an address as http://host:port, without '?' and '#'")
    return url.rstrip("/")


def _has_sound_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _absolute(path: Path) -> Path:
    full = Path(expanded(str(path)))
    if not full.is_absolute():
        raise ValueError("should be a path that begins with / or ~")
    return full


class RegistrarSettings(BaseModel):
    """One registry to tell about HOT workers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    kind: Annotated[StrictStr, AfterValidator(_known)] = Field(
        description="http (the PAS registry, port 6121), etcd, consul, or a plug-in's"
    )
    url: Annotated[StrictStr, AfterValidator(_plain_url)] | None = Field(
        None, description="Address; null is the usual port of its kind on this machine"
    )
    ttl_seconds: Annotated[int, Field(ge=2, le=86_400)] = Field(
        DEFAULT_TTL_SECONDS,
        description="An entry that nobody renews expires after it; renewed three times as often",
    )
    prefix: Annotated[StrictStr, Field(min_length=1, max_length=100)] | None = Field(
        None, description="etcd: what keys begin with (/modelpool); consul: service (modelpool)"
    )
    token_file: Annotated[Path, Field(strict=False), AfterValidator(_absolute)] | None = Field(
        None,
        description="File with the secret: bearer token (http), USER:PASSWORD (etcd), ACL token"
        " (consul)",
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> RegistrarSettings:
        if self.kind == "http" and self.prefix is not None:
            raise ValueError("prefix means nothing to a registrar of kind http")
        if self.url is None and self.kind not in USUAL_URLS:
            raise ValueError(f"url is needed for a registrar of kind {self.kind}")
        return self

    @field_serializer("token_file")
    def _as_text(self, path: Path | None) -> str | None:
        return None if path is None else str(path)

    @property
    def address(self) -> str:
        """``url``, or the usual one of the kind."""
        return self.url or USUAL_URLS[self.kind]

    @property
    def names(self) -> str:
        """``prefix``, or the usual one of the kind; empty where there is none."""
        return self.prefix or USUAL_PREFIXES.get(self.kind, "")

    @property
    def place(self) -> Place:
        """What no two of them share."""
        return (self.kind, self.address, self.names)

    def secret(self) -> str | None:
        """What the token file holds, without white space around it.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not text.
        """
        return None if self.token_file is None else self.token_file.read_text("utf-8").strip()


def each_once(entries: tuple[RegistrarSettings, ...]) -> tuple[RegistrarSettings, ...]:
    """The entries, if no two are about the same registry: they would take turns in undoing each
    other's entries."""
    places = Counter(e.place for e in entries)
    for (kind, address, _), count in places.items():
        if count > 1:
            raise ValueError(f"{kind} {address} stands there twice")
    return entries
