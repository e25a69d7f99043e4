"""A server of Ollama for tests, on loopback: a fake, strict about its documented native API.

It knows the routes, bodies and answers that Ollama's API documents (``docs/api.md``,
``api/types.go``): a route that there is not is 404 in plain text, a body of a wrong type 400, a
model that nobody pulled 404, one that cannot do what is asked 400. Its models write what they were
told last. What goes wrong is told to ``faults``, one for each request of a path; every request is
kept in ``seen``.

Words of a prompt with a meaning: ``wait`` waits for ``gate`` before the first word, ``slow`` after
it, ``call`` calls the first tool that is offered.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

WEIGHTS = 50_000_000
CREATED = "2026-01-02T03:04:05.678901234Z"
FOREVER = "2318-01-02T03:04:05.678901234Z"
# Fields of a request and their types, as Go decodes them: null is "not given" but for a value.
_TEXT, _FLAG, _OBJECT, _LIST = (str,), (bool,), (dict,), (list,)
_LASTS = (int, float, str)
_GENERATING: Mapping[str, tuple[type, ...]] = {
    "model": _TEXT,
    "stream": _FLAG,
    "format": (str, dict),
    "options": _OBJECT,
    "keep_alive": _LASTS,
    "think": (bool, str),
    "truncate": _FLAG,
    "shift": _FLAG,
    "logprobs": _FLAG,
    "top_logprobs": (int,),
}
FIELDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "/api/chat": {**_GENERATING, "messages": _LIST, "tools": _LIST},
    "/api/generate": {
        **_GENERATING,
        "prompt": _TEXT,
        "suffix": _TEXT,
        "system": _TEXT,
        "template": _TEXT,
        "context": _LIST,
        "raw": _FLAG,
        "images": _LIST,
    },
    "/api/embed": {
        "model": _TEXT,
        "input": (str, list),
        "truncate": _FLAG,
        "dimensions": (int,),
        "options": _OBJECT,
        "keep_alive": _LASTS,
    },
    "/api/embeddings": {"model": _TEXT, "prompt": _TEXT, "options": _OBJECT, "keep_alive": _LASTS},
    "/api/show": {"model": _TEXT, "name": _TEXT, "verbose": _FLAG},
    "/api/pull": {"model": _TEXT, "name": _TEXT, "stream": _FLAG, "insecure": _FLAG},
    "/api/delete": {"model": _TEXT, "name": _TEXT},
}
OPTIONS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "seed"), (int,)
    ),
    **dict.fromkeys(("num_predict", "top_k", "repeat_last_n", "mirostat"), (int,)),
    **dict.fromkeys(("temperature", "top_p", "min_p", "typical_p"), (int, float)),
    **dict.fromkeys(("repeat_penalty", "presence_penalty", "frequency_penalty"), (int, float)),
    **dict.fromkeys(("mirostat_tau", "mirostat_eta"), (int, float)),
    "use_mmap": _FLAG,
    "stop": _LIST,
}
_OF_THE_LOAD = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "use_mmap")


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    Attributes:
        status: answered in place of all else, with ``error``.
        after: so many lines of a stream come; then what ``line`` says, and the end, or a break of
            the connection where ``breaks``, or nothing more where ``hangs``.
        line: is sent as it is.
    """

    status: int = 0
    error: str = "the fake was told to"
    after: int | None = None
    line: bytes = b""
    breaks: bool = False
    hangs: bool = False


@dataclass
class FakeModel:
    """One that was pulled. ``on_gpu`` is the part of its bytes that lies there."""

    capabilities: tuple[str, ...] = ("completion",)
    parameters: str = ""
    trained_context: int = 8192
    size: int = WEIGHTS
    on_gpu: float = 0.0
    architecture: str = "llama"
    template: str = "{{ .Prompt }}"


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)


@dataclass
class Loaded:
    options: dict[str, Any]
    keep_alive: Any = None


class FakeOllama:
    """``models`` were pulled, ``loaded`` of them are in memory; ``loads`` counts how often each was
    loaded. ``busy`` requests are computed, ``left`` clients were seen to leave before their end.
    """

    def __init__(self, models: Mapping[str, FakeModel], version: str = "0.33.0") -> None:
        self.models = dict(models)
        self.version = version
        self.loaded: dict[str, Loaded] = {}
        self.loads: dict[str, int] = defaultdict(int)
        self.unloads: dict[str, int] = defaultdict(int)
        self.seen: list[Seen] = []
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.gate = threading.Event()
        self.unload_gate = threading.Event()
        self.unload_gate.set()
        self.pulls: dict[str, list[dict[str, Any]]] = {}
        self.busy = 0
        self.left = 0
        self.lock = threading.Lock()
        self.port = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> FakeOllama:
        """Listen, on the same port as before where there was one; models in memory are gone."""
        self.loaded.clear()
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def stop(self) -> None:
        """Be gone, and with it every connection."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()
        self._server = None

    def asked(self, path: str) -> list[dict[str, Any]]:
        """The bodies of all requests of a path."""
        return [seen.body for seen in self.seen if seen.path == path]

    def full(self, name: str) -> str:
        return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


@contextmanager
def fake_ollama(models: Mapping[str, FakeModel], version: str = "0.33.0") -> Iterator[FakeOllama]:
    """One that runs until the end of the context."""
    fake = FakeOllama(models, version).start()
    try:
        yield fake
    finally:
        fake.gate.set()
        fake.unload_gate.set()
        fake.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()
        self.is_over = threading.Event()

    def process_request(self, request: Any, address: Any) -> None:
        self._open.add(request)
        super().process_request(request, address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        self.is_over.set()
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """A client that left is no news."""


class _Left(Exception):
    """The client is gone."""


class _Broken(Exception):
    """The connection is to break."""


class _BadRequest(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _handler(fake: FakeOllama) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        owner = fake

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ClassVar[FakeOllama]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        seen = Seen(method, self.path, dict(self.headers.items()))
        with self.owner.lock:
            self.owner.seen.append(seen)
        route = {
            ("GET", "/"): self._root,
            ("GET", "/api/version"): self._version,
            ("GET", "/api/tags"): self._tags,
            ("GET", "/api/ps"): self._ps,
            ("POST", "/api/show"): self._show,
            ("POST", "/api/chat"): self._chat,
            ("POST", "/api/generate"): self._generate,
            ("POST", "/api/embed"): self._embed,
            ("POST", "/api/embeddings"): self._old_embed,
            ("POST", "/api/pull"): self._pull,
            ("DELETE", "/api/delete"): self._delete,
        }.get((method, self.path))
        if route is None:
            self._send(404, b"404 page not found", "text/plain")
            return
        try:
            if method != "GET":
                seen.body = self._body(raw)
            self._fault = self._next_fault()
            if self._fault.hangs and self._fault.after is None:
                self._wait(threading.Event())
            if self._fault.status:
                raise _BadRequest(self._fault.status, self._fault.error)
            route(seen.body)
        except _BadRequest as e:
            self._json({"error": str(e)}, e.status)
        except _Broken:
            self.close_connection = True
        except _Left:
            with self.owner.lock:
                self.owner.left += 1
            self.close_connection = True

    def _next_fault(self) -> Fault:
        waiting = self.owner.faults[self.path]
        return waiting.popleft() if waiting else Fault()

    def _body(self, raw: bytes) -> dict[str, Any]:
        if not raw:
            raise _BadRequest(400, "missing request body")
        try:
            said = json.loads(raw)
        except ValueError as e:
            raise _BadRequest(400, str(e)) from None
        fields = FIELDS[self.path]
        for name, value in said.items():
            kinds = fields.get(name)
            if kinds is None or (value is None and name != "keep_alive"):
                continue  # Go ignores what it does not know, and null
            if value is None:
                raise _BadRequest(400, "the fake knows versions that take null for 0")
            if not _is_of(value, kinds):
                raise _BadRequest(400, f"json: cannot unmarshal {value!r} into {name}")
        if isinstance(last := said.get("keep_alive"), str) and last.lstrip("-").isdigit():
            raise _BadRequest(400, f"time: missing unit in duration {last!r}")
        for name, value in (said.get("options") or {}).items():
            if name in OPTIONS and not _is_of(value, OPTIONS[name]):
                raise _BadRequest(400, f'option "{name}" must be of type {OPTIONS[name]}')
        return dict(said)

    # -- about models ----------------------------------------------------------------------------

    def _root(self, _: Any) -> None:
        self._send(200, b"Ollama is running", "text/plain")

    def _version(self, _: Any) -> None:
        self._json({"version": self.owner.version})

    def _details(self, model: FakeModel) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": model.architecture,
            "families": [model.architecture],
            "parameter_size": "1.2B",
            "quantization_level": "Q4_K_M",
        }

    def _tags(self, _: Any) -> None:
        told = [
            {
                "name": name,
                "model": name,
                "modified_at": CREATED,
                "size": model.size,
                "digest": f"{abs(hash(name)):064x}"[:64],
                "details": self._details(model),
                **({"capabilities": list(model.capabilities)} if self._is_at_least(0, 30) else {}),
            }
            for name, model in self.owner.models.items()
        ]
        self._json({"models": told})

    def _ps(self, _: Any) -> None:
        told = []
        for name, loaded in list(self.owner.loaded.items()):
            model = self.owner.models[name]
            size = model.size + 1000 * loaded.options.get("num_ctx", 4096)
            entry = {
                "name": name,
                "model": name,
                "size": size,
                "digest": "0" * 64,
                "details": self._details(model),
                "expires_at": FOREVER,
                "size_vram": int(size * model.on_gpu),
            }
            if self._is_at_least(0, 10):
                entry["context_length"] = loaded.options.get("num_ctx", 4096)
            told.append(entry)
        self._json({"models": told})

    def _show(self, body: Mapping[str, Any]) -> None:
        name = self._known(body.get("model") or body.get("name"))
        model = self.owner.models[name]
        of = model.architecture
        told = {
            "license": "none",
            "modelfile": f"FROM {name}",
            "parameters": model.parameters,
            "template": model.template,
            "details": self._details(model),
            "model_info": {
                "general.architecture": of,
                f"{of}.context_length": model.trained_context,
                f"{of}.block_count": 4,
                f"{of}.embedding_length": 256,
                f"{of}.attention.head_count": 4,
                f"{of}.attention.head_count_kv": 2,
            },
            "modified_at": CREATED,
        }
        if self._is_at_least(0, 6, 4):
            told["capabilities"] = list(model.capabilities)
        self._json(told)

    def _delete(self, body: Mapping[str, Any]) -> None:
        del self.owner.models[self._known(body.get("model") or body.get("name"))]
        self._send(200, b"", "text/plain")

    def _pull(self, body: Mapping[str, Any]) -> None:
        name = self.owner.full(str(body.get("model") or body.get("name")))
        lines = self.owner.pulls.get(name, [{"error": "pull model manifest: file does not exist"}])
        self._stream(json.dumps(line).encode() for line in lines)
        if lines[-1].get("status") == "success":
            self.owner.models[name] = FakeModel()

    # -- work ------------------------------------------------------------------------------------

    def _chat(self, body: Mapping[str, Any]) -> None:
        name, messages = self._known(body.get("model")), body.get("messages") or []
        if not messages and self._is_unload(name, body):
            self._json(self._last(name, {"message": _message("")}, "unload"))
            return
        self._needs(name, "completion")
        if body.get("tools"):
            self._needs(name, "tools")
        self._check_think(name, body)
        for message in messages:
            self._check_message(name, message)
        self._load(name, body)
        if not messages:
            self._json(self._last(name, {"message": _message("")}, "load"))
            return
        said = [str(m.get("content") or "") for m in messages]
        self._write(name, body, said, lambda more: {"message": _message(**more)})

    def _generate(self, body: Mapping[str, Any]) -> None:
        name, prompt = self._known(body.get("model")), str(body.get("prompt") or "")
        if not prompt and self._is_unload(name, body):
            self._json(self._last(name, {"response": ""}, "unload"))
            return
        self._needs(name, "completion")
        if body.get("suffix"):
            self._needs(name, "insert")
        if body.get("raw") and (body.get("template") or body.get("system")):
            raise _BadRequest(400, "raw mode does not support template, system, or context")
        self._check_think(name, body)
        self._load(name, body)
        if not prompt:
            self._json(self._last(name, {"response": ""}, "load"))
            return
        said = [prompt, str(body.get("suffix") or "")]
        self._write(name, body, [" ".join(filter(None, said))], _response)

    def _embed(self, body: Mapping[str, Any]) -> None:
        name = self._known(body.get("model"))
        given = body.get("input")
        texts = [given] if isinstance(given, str) else given or []
        if not all(isinstance(text, str) for text in texts):
            raise _BadRequest(400, "invalid input type")
        self._load(name, body)
        if texts:
            self._needs(name, "embedding")
        limit = self.owner.loaded[name].options.get("num_ctx", 4096)
        tokens = [len(text.split()) for text in texts]
        if any(n > limit for n in tokens) and body.get("truncate") is False:
            raise _BadRequest(400, "the input length exceeds the context length")
        with self._computing():
            self._gate_for(" ".join(texts))
        vectors = [[1.0, 0.0, float(len(text))] for text in texts]
        self._json(
            {
                "model": str(body["model"]),
                "embeddings": vectors,
                "total_duration": 5,
                "load_duration": 1,
                "prompt_eval_count": sum(tokens),
            }
        )

    def _old_embed(self, body: Mapping[str, Any]) -> None:
        name = self._known(body.get("model"))
        self._load(name, body)
        self._json({"embedding": [1.0, 0.0] if body.get("prompt") else []})

    def _write(self, name: str, body: Mapping[str, Any], said: list[str], tell: Any) -> None:
        options = {**(body.get("options") or {})}
        limit = self.owner.loaded[name].options.get("num_ctx", 4096)
        tokens = sum(len(text.split()) for text in said)
        if tokens > limit and body.get("truncate") is False and self._is_at_least(0, 12, 4):
            raise _BadRequest(400, "the input length exceeds the context length")
        words = said[-1].split()
        with self._computing():
            if "wait" in words:
                self._wait(self.owner.gate)
            parts = list(self._parts(name, body, words))
            most = options.get("num_predict", -1)
            is_cut = 0 <= most < len(parts)
            parts = parts[:most] if is_cut else parts
            last = self._last(name, tell({}), "length" if is_cut else "stop")
            last |= {"prompt_eval_count": min(tokens, limit), "eval_count": len(parts)}
            last = {k: v for k, v in last.items() if v != 0}
            lines = [self._line(name, tell(part), probs) for part, probs in parts]
            if body.get("stream", True):
                self._stream(self._paced([*lines, last], "slow" in words))
            else:
                self._gate_for(said[-1])
                self._json(self._together(parts, last, tell))

    def _parts(
        self, name: str, body: Mapping[str, Any], words: list[str]
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        def with_probs(text: str) -> dict[str, Any]:
            if not body.get("logprobs") or not self._is_at_least(0, 12, 11):
                return {}
            token = {"token": text, "logprob": -0.25, "bytes": list(text.encode())}
            top = [{"token": text, "logprob": -0.25}, {"token": "no", "logprob": -2.0}]
            return {"logprobs": [{**token, "top_logprobs": top[: body.get("top_logprobs") or 0]}]}

        thinks = "thinking" in self.owner.models[name].capabilities
        if thinks and body.get("think") is not False and not body.get("raw"):
            yield {"thinking": "hm"}, {}
        if "call" in words and body.get("tools"):
            function = body["tools"][0]["function"]["name"]
            called = {"function": {"index": 0, "name": function, "arguments": {"a": 1}}}
            yield {"tool_calls": [called]}, {}
            return
        if body.get("format"):
            yield {"content": '{"a":'}, {}
            yield {"content": " 1}"}, {}
            return
        for i, word in enumerate(words):
            text = word if i == 0 else f" {word}"
            yield {"content": text}, with_probs(text)

    def _together(
        self, parts: list[tuple[dict[str, Any], dict[str, Any]]], last: dict[str, Any], tell: Any
    ) -> dict[str, Any]:
        whole: dict[str, Any] = {}
        for part, _ in parts:
            for key, value in part.items():
                whole[key] = whole[key] + value if key in whole else value
        return {**last, **tell(whole)}

    def _line(self, name: str, said: dict[str, Any], probs: dict[str, Any]) -> dict[str, Any]:
        return {"model": name, "created_at": CREATED, **said, **probs, "done": False}

    def _last(self, name: str, said: dict[str, Any], reason: str) -> dict[str, Any]:
        head = {"model": name, "created_at": CREATED, **said, "done": True, "done_reason": reason}
        return {**head, "total_duration": 9, "eval_duration": 4_000_000, "load_duration": 1}

    # -- in memory -------------------------------------------------------------------------------

    def _known(self, name: Any) -> str:
        if not name:
            raise _BadRequest(400, "model is required")
        full = self.owner.full(str(name))
        if full not in self.owner.models:
            raise _BadRequest(404, f"model '{name}' not found")
        return full

    def _needs(self, name: str, capability: str) -> None:
        if capability not in self.owner.models[name].capabilities:
            word = {"completion": "generate"}.get(capability, capability)
            raise _BadRequest(400, f'"{name}" does not support {word}')

    def _check_think(self, name: str, body: Mapping[str, Any]) -> None:
        if body.get("think"):
            self._needs(name, "thinking")
            if isinstance(body["think"], str) and body["think"] not in ("low", "medium", "high"):
                raise _BadRequest(400, f'invalid think value: "{body["think"]}"')

    def _check_message(self, name: str, message: Any) -> None:
        content = message.get("content") if isinstance(message, dict) else 0
        if not isinstance(content, str | None):
            raise _BadRequest(400, "json: cannot unmarshal into Message.content of type string")
        if message.get("role") not in ("system", "user", "assistant", "tool"):
            raise _BadRequest(400, "invalid role")
        for call in message.get("tool_calls") or ():
            if not isinstance(call["function"].get("arguments"), dict):
                raise _BadRequest(400, "json: cannot unmarshal string into arguments")
        if message.get("images"):
            self._needs(name, "vision")

    def _is_unload(self, name: str, body: Mapping[str, Any]) -> bool:
        last = body.get("keep_alive")
        if last not in (0, "0", "0s") or isinstance(last, bool):
            return False
        threading.Thread(target=self._unload, args=(name,), daemon=True).start()
        return True

    def _unload(self, name: str) -> None:
        """It is only marked by the request: it goes later."""
        self.owner.unload_gate.wait()
        with self.owner.lock:
            if self.owner.loaded.pop(name, None) is not None:
                self.owner.unloads[name] += 1

    def _load(self, name: str, body: Mapping[str, Any]) -> None:
        given = body.get("options") or {}
        options = {k: v for k, v in given.items() if k in _OF_THE_LOAD}
        with self.owner.lock:
            loaded = self.owner.loaded.get(name)
            if loaded is None or loaded.options != options:
                self.owner.loads[name] += 1
                self.owner.loaded[name] = loaded = Loaded(options)
            if "keep_alive" in body:
                loaded.keep_alive = body["keep_alive"]

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with self.owner.lock:
            self.owner.busy += 1
        try:
            yield
        finally:
            with self.owner.lock:
                self.owner.busy -= 1

    # -- on the wire -----------------------------------------------------------------------------

    def _gate_for(self, text: str) -> None:
        if {"wait", "slow"} & {*text.split()}:
            self._wait(self.owner.gate)

    def _wait(self, event: threading.Event) -> None:
        """Until then; raises _Left when the client leaves, which Go sees at once."""
        server = self.server
        assert isinstance(server, _Server)
        while not event.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.005)
            if server.is_over.is_set():
                raise _Broken
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                raise _Left

    def _paced(self, lines: list[dict[str, Any]], is_slow: bool) -> Iterator[bytes]:
        for i, line in enumerate(lines):
            if is_slow and i == 1:
                self._wait(self.owner.gate)
            yield json.dumps(line, separators=(",", ":")).encode()

    def _stream(self, lines: Iterable[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        fault = self._fault
        for i, line in enumerate(lines):
            if fault.after == i:
                if fault.line:
                    self._chunk(fault.line)
                if fault.hangs:
                    self._wait(threading.Event())
                if fault.breaks:
                    raise _Broken
                break
            self._chunk(line + b"\n")
        self._write_out(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self._write_out(b"%x\r\n%b\r\n" % (len(data), data))

    def _write_out(self, data: bytes) -> None:
        try:
            self.wfile.write(data)
            self.wfile.flush()
        except OSError:
            raise _Left from None

    def _json(self, said: Mapping[str, Any], status: int = 200) -> None:
        data = json.dumps(said, separators=(",", ":")).encode()
        self._send(status, data, "application/json; charset=utf-8")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self._write_out(data)

    def _is_at_least(self, *version: int) -> bool:
        mine = tuple(int(part) for part in self.owner.version.split("-")[0].split("."))
        return mine >= version


def _message(content: str = "", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def _response(more: Mapping[str, Any]) -> dict[str, Any]:
    rest = {k: v for k, v in more.items() if k != "content"}
    return {"response": more.get("content", ""), **rest}


def _is_of(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)


def until_left(fake: FakeOllama, count: int, seconds: float = 60.0) -> bool:
    """Whether that many clients were seen to leave; waits for it."""
    end = time.monotonic() + seconds
    while fake.left < count and time.monotonic() < end:
        time.sleep(0.005)
    return fake.left >= count
