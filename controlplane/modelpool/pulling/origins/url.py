"""A file that any web server has."""

from __future__ import annotations

import re
from os.path import basename
from urllib.parse import quote, unquote, urljoin, urlsplit

from modelpool_client.errors import InvalidRequest

from modelpool.pulling.base import Listing, OriginSettings, RemoteFile
from modelpool.pulling.http import Http, header_digest
from modelpool.pulling.reference import Reference

MAX_PARTS = 1024
_PART = re.compile(r"(.*)-00001-of-(\d{5})\.gguf")


class Url:
    """See ``Origin``."""

    def __init__(self, settings: OriginSettings) -> None:
        self._http = Http()

    def folder(self, reference: Reference) -> str:
        host = urlsplit(reference.name).netloc.replace(":", "-")
        return f"{host}/{basename(unquote(urlsplit(reference.name).path)).removesuffix('.gguf')}"

    def list(self, reference: Reference) -> Listing:
        name = basename(unquote(urlsplit(reference.name).path))
        if name.startswith(".") or not name.isprintable():
            raise InvalidRequest(f"{name!r} is no name for a file", param="source")
        files = [self._file(each, reference.name) for each in _parts(name)]
        revision = ",".join(file.identity for file in files)
        return Listing(revision, files)

    def _file(self, name: str, url: str) -> RemoteFile:
        url = urljoin(url, quote(name)) if basename(unquote(urlsplit(url).path)) != name else url
        head = self._http.head(url)
        length = head.headers.get("content-length", "") if head is not None else ""
        headers = {} if head is None else head.headers
        return RemoteFile(
            path=name,
            url=url,
            size=int(length) if length.isdecimal() and int(length) else None,
            digest=header_digest(head) if head is not None else "",
            etag=headers.get("etag", ""),
            modified=headers.get("last-modified", ""),
        )


def _parts(name: str) -> list[str]:
    """All parts of a model of several files whose first is named."""
    found = _PART.fullmatch(name)
    if found is None or int(found[2]) > MAX_PARTS:
        return [name]
    return [f"{found[1]}-{i:05}-of-{found[2]}.gguf" for i in range(1, int(found[2]) + 1)]
