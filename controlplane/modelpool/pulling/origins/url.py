"""A file that any web server has."""

from __future__ import annotations

import re
from os.path import basename
from urllib.parse import quote, unquote, urljoin, urlsplit

from modelpool_client.errors import InvalidRequest

from modelpool.pulling.base import Listing, OriginSettings, RemoteFile, path_problem
from modelpool.pulling.http import Http, header_digest, whole_number
from modelpool.pulling.reference import Reference

MAX_PARTS = 1024
_PART = re.compile(r"(.*)-00001-of-(\d{5})\.gguf")


class Url:
    """See ``Origin``."""

    def __init__(self, settings: OriginSettings) -> None:
        self._http = Http(public_only=not settings.private_addresses)

    def folder(self, reference: Reference) -> str:
        host = urlsplit(reference.name).netloc.replace(":", "-")
        return f"{host}/{basename(unquote(urlsplit(reference.name).path)).removesuffix('.gguf')}"

    def list(self, reference: Reference) -> Listing:
        name = basename(unquote(urlsplit(reference.name).path))
        if problem := path_problem(name):
            raise InvalidRequest(f"{name[:200]!r} {problem}", param="source", code="bad_path")
        if reference.is_cut:
            text = f"{reference} had a query, which is not kept: name it once more, with that"
            raise InvalidRequest(text, param="source", code="no_query")
        files = [self._file(each, reference.url) for each in _parts(name)]
        revision = ",".join(file.identity for file in files)
        return Listing(revision, files)

    def _file(self, name: str, url: str) -> RemoteFile:
        url = urljoin(url, quote(name)) if basename(unquote(urlsplit(url).path)) != name else url
        head = self._http.head(url)
        headers = {} if head is None else head.headers
        length = whole_number(headers.get("content-length", ""))
        return RemoteFile(
            path=name,
            url=url,
            size=length or None,
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
