"""Ollama's registry: manifests and blobs, as in the distribution protocol of OCI.

``GET /v2/<name>/manifests/<tag>`` lists layers by media type and digest, ``GET
/v2/<name>/blobs/<digest>`` has the bytes of one; see
https://github.com/opencontainers/distribution-spec.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from modelpool_client.errors import BadGateway, NotSupported

from modelpool.pulling.base import Listing, OriginSettings, RemoteFile
from modelpool.pulling.http import Http
from modelpool.pulling.ollama_options import is_applied, options_of, request_of
from modelpool.pulling.reference import Reference

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LAYER = "application/vnd.ollama.image."
MAX_LAYERS = 64
# Layers that are read at once, and how large they may be: a template, a licence.
TEXTS = ("template", "params", "system", "license", "messages")
MAX_TEXT_BYTES = 1 << 20
# Layers that are files, with what they are called here.
FILES: Mapping[str, str] = {
    "model": "model{}.gguf",
    "projector": "mmproj{}.gguf",
    "adapter": "adapter{}.gguf",
}


class Ollama:
    """See ``Origin``."""

    def __init__(self, settings: OriginSettings) -> None:
        self._registry = settings.ollama_registry_url.rstrip("/")
        self._private_addresses = settings.private_addresses

    def folder(self, reference: Reference) -> str:
        host = reference.host.replace(":", "-") or "ollama"
        return f"{host}/{reference.name}/{reference.variant}"

    def list(self, reference: Reference) -> Listing:
        base = f"{self._base(reference.host)}/v2/{reference.name}"
        http = Http(public_only=bool(reference.host) and not self._private_addresses)
        body = http.get(
            f"{base}/manifests/{quote(reference.variant)}", MAX_TEXT_BYTES, {"accept": MANIFEST}
        )
        return listing_of(
            body, reference, base, lambda d: http.get(f"{base}/blobs/{d}", MAX_TEXT_BYTES)
        )

    def _base(self, host: str) -> str:
        """Registries of this machine speak plain HTTP, as they do for Docker."""
        if not host:
            return self._registry
        name = host.partition(":")[0]
        try:
            is_local = name == "localhost" or ipaddress.ip_address(name).is_loopback
        except ValueError:
            is_local = False
        return f"{'http' if is_local else 'https'}://{host}"


def listing_of(
    body: bytes, reference: Reference, base: str, read: Callable[[str], bytes]
) -> Listing:
    """What a manifest says; ``read`` gives a small layer by its digest.

    Raises:
        ModelPoolError: it is none, or has nothing to run.
    """
    layers = _layers(body, reference)
    texts: dict[str, list[str]] = {}
    for kind, digest, size in layers:
        if kind in TEXTS and size <= MAX_TEXT_BYTES:
            data = read(digest)
            _check(data, digest)
            texts.setdefault(kind, []).append(data.decode(errors="replace"))
    said, metadata, notes = _kept(texts)
    files = list(_files(base, layers))
    if not any(f.path.startswith("model") for f in files):
        raise NotSupported(f"{reference} holds no model file", param="source", code="no_model")
    revision = f"sha256:{hashlib.sha256(body).hexdigest()}"
    return Listing(revision, files, True, metadata=metadata, notes=notes, **said)


def _layers(body: bytes, reference: Reference) -> list[tuple[str, str, int]]:
    """Kind, digest and size of each layer that is Ollama's."""
    try:
        manifest = json.loads(body)
        layers = [
            (str(layer["mediaType"]), str(layer["digest"]), int(layer["size"]))
            for layer in manifest["layers"][:MAX_LAYERS]
        ]
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as e:
        text = f"the manifest of {reference} cannot be read: {type(e).__name__} {e}"
        raise BadGateway(text, source="upstream", code="bad_manifest") from None
    for _, digest, size in layers:
        if not _is_digest(digest) or size < 0:
            text = f"the manifest of {reference} has a layer without a digest: {digest[:80]!r}"
            raise BadGateway(text, source="upstream", code="bad_manifest")
    return [(t.removeprefix(LAYER), d, s) for t, d, s in layers if t.startswith(LAYER)]


def _is_digest(text: str) -> bool:
    kind, _, value = text.partition(":")
    return kind == "sha256" and len(value) == 64 and not value.strip("0123456789abcdef")


def _check(data: bytes, digest: str) -> None:
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != digest:
        text = f"a layer should have the digest {digest} and has {found}"
        raise BadGateway(text, source="upstream", code="digest_mismatch")


def _files(base: str, layers: list[tuple[str, str, int]]) -> Iterator[RemoteFile]:
    counts: dict[str, int] = {}
    for kind, digest, size in layers:
        if kind in FILES:
            count = counts[kind] = counts.get(kind, 0) + 1
            name = FILES[kind].format(f"-{count}" if count > 1 else "")
            yield RemoteFile(name, f"{base}/blobs/{digest}", size, digest)


def _kept(
    texts: Mapping[str, list[str]],
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """What follows for the entry, metadata, and what is to be told of them."""
    params: dict[str, Any] = {}
    for text in texts.get("params", ()):
        try:
            found = json.loads(text)
        except (RecursionError, ValueError):
            continue
        params |= found if isinstance(found, dict) else {}
    others = sorted(k for k, v in params.items() if not is_applied(k, v))
    notes = [f"kept and not applied: its parameters {', '.join(others)}"] if others else []
    kept: dict[str, Any] = {k: "\n".join(v) for k, v in texts.items() if k != "params"}
    if params:
        kept["params"] = params
    said = {"options": options_of(params), "request": request_of(kept)}
    return said, {"ollama": kept} if kept else {}, notes
