"""The contract of an origin: what it has of a model, and where the bytes are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .reference import Reference

# Of a name on common file systems, less what is put around that of a file that is not whole yet.
MAX_NAME_BYTES = 255 - 20
MAX_PATH_BYTES = 2000


def path_problem(path: str) -> str:
    """Why a path that an origin announces is not used, for the end of a sentence; empty where it is
    fine: relative, below its folder on any system, nothing hidden. PURE."""
    if (
        not path.isprintable()
        or "\\" in path
        or len(path.encode(errors="replace")) > MAX_PATH_BYTES
    ):
        return "has characters that no path here may have, or too many"
    for part in path.split("/"):
        if part.startswith(".") or not part.strip(" .") or ":" in part:
            return "is hidden, or leaves its folder"
        if len(part.encode(errors="replace")) > MAX_NAME_BYTES:
            return f"has a name of more than {MAX_NAME_BYTES} bytes"
    return ""


@dataclass(frozen=True)
class RemoteFile:
    """One file as its origin announces it.

    Attributes:
        path: relative to the model's folder, with ``/``; never upwards.
        url: where its bytes are.
        size: bytes; None where nobody says before it is fetched.
        digest: ``sha256:…``, ``md5:…`` or ``git:…`` (the SHA-1 of a blob in git, over a header and
            the content), lower case; empty where there is none.
        etag: what the server marks this content with, for where there is no digest.
        modified: its ``Last-Modified``, for where there is neither.
        headers: of every request for it.
    """

    path: str
    url: str
    size: int | None = None
    digest: str = ""
    etag: str = ""
    modified: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def identity(self) -> str:
        """What tells this content from another under the same name; empty where nothing does."""
        return self.digest or self.etag or self.modified


@dataclass(frozen=True)
class Listing:
    """What an origin has under a reference.

    Attributes:
        revision: of all of it: a commit, the digest of a manifest, an ETag.
        files: all there are, for ``choice`` to choose from.
        is_chosen: the origin itself says which files make the model: all of them.
        options: load options that come with it, by our names.
        request: what it says of requests, see ``catalog.request_rules``.
        metadata: what else comes with it: templates, parameters, texts.
        notes: what is to be told of that.
        place: files that are on this machine already and are used where they lie.
    """

    revision: str
    files: Sequence[RemoteFile] = ()
    is_chosen: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    place: Path | None = None


@dataclass(frozen=True)
class OriginSettings:
    """What of the configuration concerns origins.

    Attributes:
        hub_url: of the hub or a mirror; None: HF_ENDPOINT, or the library's own.
        ollama_registry_url: of the registry of names without a host.
        private_addresses: hosts that clients name may have addresses of this machine and its
            networks; the two above may always.
    """

    hub_url: str | None = None
    ollama_registry_url: str = ""
    private_addresses: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


class Origin(Protocol):
    """One place that models come from. Used in a process of its own: it may block."""

    def __init__(self, settings: OriginSettings) -> None: ...

    def folder(self, reference: Reference) -> str:
        """Where below ``models_dir`` its files go. PURE."""
        ...

    def list(self, reference: Reference) -> Listing:
        """What there is, without fetching it.

        Raises:
            ModelPoolError: there is nothing, or it cannot be had; with what to do about it.
        """
        ...
