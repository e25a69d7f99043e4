"""A hub and a registry for tests, on loopback, that follow the public protocols: Hugging Face's
(``/api/models``, its tree, ``resolve`` with a redirect to a content network) and Ollama's (``/v2``
with manifests and blobs). What goes wrong is told to ``faults``, one for each request of bytes.

It is strict: a route that the real ones do not have is 404, and every request is kept in ``seen``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

PIECE = 16 * 1024


@dataclass
class Fault:
    """What happens to one request of bytes.

    Attributes:
        status: answered in place of the bytes, with ``headers``.
        cut_after: so many bytes are sent, then the connection breaks.
        ignores_range: the whole file is sent, whatever was asked for.
        length: is announced in place of the true one.
        content: is sent in place of the true one, from its begin.
        gate: is awaited when ``cut_after`` bytes are sent, instead of a break.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    ignores_range: bool = False
    length: int | None = None
    content: bytes | None = None
    gate: threading.Event | None = None


@dataclass
class Seen:
    """A request as it came."""

    method: str
    host: str
    path: str
    headers: dict[str, str]


class Hub:
    """``repos``: files by name; ``tokens``: who may have gated ones; ``registry``: Ollama's blobs.

    ``files`` are those of a plain web server, below ``/files/``.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.tokens: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.file_headers: dict[str, dict[str, str]] = {}
        self.has_head = True
        self.faults: list[Fault] = []
        self.listing_faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.sent = 0
        self.slow: Callable[[], object] = lambda: None
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler(r)) for r in range(2)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def network(self) -> str:
        """Where bytes are: another host, as far as HTTP is concerned."""
        return f"http://127.0.0.1:{self._servers[1].server_port}"

    def commit(self, repo: str) -> str:
        digests = sorted(name + sha256(data) for name, data in self.repos[repo].items())
        return hashlib.sha1("".join(digests).encode()).hexdigest()

    def publish(self, name: str, tag: str, layers: list[tuple[str, bytes]]) -> None:
        """Put a model into Ollama's registry; layers by the end of their media types."""
        described = []
        for kind, data in layers:
            digest = f"sha256:{sha256(data)}"
            self.blobs[digest] = data
            media = f"application/vnd.ollama.image.{kind}"
            described.append({"mediaType": media, "digest": digest, "size": len(data)})
        manifest = {"schemaVersion": 2, "layers": described}
        self.manifests[f"{name}:{tag}"] = json.dumps(manifest).encode()

    def asked(self, part: str) -> list[Seen]:
        """The requests whose paths hold that."""
        return [seen for seen in self.seen if part in seen.path]

    def start(self) -> None:
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _handler(self, role: int) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(_Handler):
            def answer(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.seen.append(Seen(self.command, str(role), path, _headers(self)))
                _answer(hub, self, path) if role == 0 else _network(hub, self, path)

        return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def log_message(self, *_: Any) -> None:
        pass

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: object, status: int = 200, **headers: str) -> None:
        self.say(status, json.dumps(value).encode(), Content_Type="application/json", **headers)


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    hub.start()
    try:
        yield hub
    finally:
        hub.close()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _headers(handler: BaseHTTPRequestHandler) -> dict[str, str]:
    return {name.lower(): value for name, value in handler.headers.items()}


def _answer(hub: Hub, handler: _Handler, path: str) -> None:
    if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
        _info(hub, handler, match[1], match[2])
    elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/?", path):
        _tree(hub, handler, match[1])
    elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
        _resolve(hub, handler, match[1], match[3])
    elif match := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path):
        _manifest(hub, handler, f"{match[1]}:{match[2]}")
    elif match := re.fullmatch(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", path):
        data = hub.blobs.get(match[2])
        if data is None:
            handler.json({"errors": [{"code": "BLOB_UNKNOWN"}]}, 404)
        elif len(data) > PIECE:  # large ones lie elsewhere
            handler.say(307, Location=f"{hub.network}/blob/{match[2]}?key=s3cret")
        else:
            handler.say(200, data)
    elif path.startswith("/files/"):
        _file(hub, handler, path.removeprefix("/files/"))
    else:
        handler.say(404)


def _network(hub: Hub, handler: _Handler, path: str) -> None:
    kind, _, rest = path.lstrip("/").partition("/")
    if kind == "blob" and rest in hub.blobs:
        _bytes(hub, handler, hub.blobs[rest], {"ETag": f'"{rest[-32:]}"'})
        return
    for files in hub.repos.values():
        for data in files.values():
            if kind == "lfs" and sha256(data) == rest:
                _bytes(hub, handler, data, {"ETag": f'"{rest[:32]}"'})
                return
    handler.say(404)


def _is_refused(hub: Hub, handler: _Handler, repo: str) -> bool:
    if repo not in hub.repos:
        handler.json(
            {"error": "Repository not found"}, 401, X_Error_Code="RepoNotFound"
        )  # as the hub says to those without a token
        return True
    token = handler.headers.get("authorization", "").removeprefix("Bearer ")
    if repo in hub.gated and token not in hub.tokens:
        text = f"Access to model {repo} is restricted."
        status = 403 if token else 401
        handler.json({"error": text}, status, X_Error_Code="GatedRepo", X_Error_Message=text)
        return True
    if hub.listing_faults:
        fault = hub.listing_faults.pop(0)
        handler.say(fault.status, **fault.headers)
        return True
    return False


def _info(hub: Hub, handler: _Handler, repo: str, revision: str | None) -> None:
    if _is_refused(hub, handler, repo):
        return
    if revision not in (None, "main", hub.commit(repo)):
        handler.json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
        return
    siblings = [{"rfilename": name} for name in hub.repos[repo]]
    found = {"_id": "1", "id": repo, "modelId": repo, "sha": hub.commit(repo)}
    found |= {"private": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings}
    handler.json(found)


def _tree(hub: Hub, handler: _Handler, repo: str) -> None:
    if _is_refused(hub, handler, repo):
        return
    entries = []
    for name, data in sorted(hub.repos[repo].items()):
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data)}
        entry["oid"] = git_blob(data)
        if _is_large(name):
            entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
        entries.append(entry)
    handler.json(entries)


def _is_large(name: str) -> bool:
    return name.endswith((".gguf", ".safetensors"))


def _resolve(hub: Hub, handler: _Handler, repo: str, name: str) -> None:
    if _is_refused(hub, handler, repo):
        return
    data = hub.repos[repo].get(name)
    if data is None:
        handler.say(404, X_Error_Code="EntryNotFound")
        return
    headers = {"X-Repo-Commit": hub.commit(repo)}
    if not _is_large(name):
        _bytes(hub, handler, data, {**headers, "ETag": f'"{git_blob(data)}"'})
        return
    handler.say(
        302,
        Location=f"{hub.network}/lfs/{sha256(data)}?Signature=s3cret",
        X_Linked_Etag=f'"{sha256(data)}"',
        X_Linked_Size=str(len(data)),
        X_Repo_Commit=headers["X-Repo-Commit"],
    )


def _manifest(hub: Hub, handler: _Handler, name: str) -> None:
    if "manifest.v2+json" not in handler.headers.get("accept", ""):
        handler.say(406)
    elif name not in hub.manifests:
        handler.json({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, 404)
    else:
        handler.say(200, hub.manifests[name])


def _file(hub: Hub, handler: _Handler, name: str) -> None:
    if name not in hub.files:
        handler.say(404)
    elif handler.command == "HEAD" and not hub.has_head:
        handler.say(405)
    else:
        _bytes(hub, handler, hub.files[name], hub.file_headers.get(name, {}))


def _bytes(hub: Hub, handler: _Handler, data: bytes, headers: dict[str, str]) -> None:
    fault = hub.faults.pop(0) if hub.faults and handler.command == "GET" else Fault()
    if fault.status:
        handler.say(fault.status, **{k.replace("-", "_"): v for k, v in fault.headers.items()})
        return
    data = data if fault.content is None else fault.content
    start, status = 0, 200
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("range", ""))
    condition = handler.headers.get("if-range")
    marks = (headers.get("ETag"), headers.get("Last-Modified"))
    if asked and not fault.ignores_range and (condition is None or condition in marks):
        start, status = int(asked[1]), 206
        if start >= len(data):
            handler.say(416, Content_Range=f"bytes */{len(data)}")
            return
        headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
    body = data[start:]
    length = len(body) if fault.length is None else fault.length
    handler.send_response(status)
    for name, value in {**headers, "Accept-Ranges": "bytes"}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    if handler.command == "GET":
        _send(hub, handler, body, fault)


def _send(hub: Hub, handler: _Handler, body: bytes, fault: Fault) -> None:
    limit = len(body) if fault.cut_after is None else min(len(body), fault.cut_after)
    try:
        for at in range(0, limit, PIECE):
            hub.slow()
            piece = body[at : min(at + PIECE, limit)]
            handler.wfile.write(piece)
            hub.sent += len(piece)
        if fault.gate is not None:
            handler.wfile.flush()
            fault.gate.wait(60)
            handler.wfile.write(body[limit:])
            hub.sent += len(body) - limit
            return
    except OSError:  # the client is gone
        handler.close_connection = True
        return
    if fault.cut_after is not None or fault.length is not None:
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)


def content_md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
