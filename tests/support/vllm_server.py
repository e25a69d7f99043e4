"""A stand-in for ``vllm serve`` with its sleep mode, strict about what it is asked, for tests.

What would lie on a GPU is anonymous memory of this process: the weights, which it keeps in a sleep
of level 1, and a cache, which any sleep gives back. Into the folder ``--notes`` it writes what it
was asked, a line each; ``fault.json`` there says what it is to do wrong: ``{"sleep": "refuse"}``,
or ``wake``, and ``die``, ``hang`` or ``ignore``. Not vLLM's are ``--notes``, ``--load-seconds``,
``--weights-mb`` and ``--cache-mb``.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

GARBAGE = "!!!!!!!!"


class Held:
    """Memory that is really there."""

    def __init__(self, megabytes: int) -> None:
        self._size = megabytes << 20
        self._map: mmap.mmap | None = None

    def take(self) -> None:
        if self._map is None and self._size:
            self._map = mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            for at in range(0, self._size, mmap.PAGESIZE):
                self._map[at] = 1

    def give_back(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None

    @property
    def is_there(self) -> bool:
        return self._map is not None or not self._size


class Vllm:
    """The server's state."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.weights, self.cache = Held(given.weights_mb), Held(given.cache_mb)
        self.level = 0
        self.are_weights_read = True
        self.is_computing = threading.Lock()

    def note(self, text: str) -> None:
        with (self.given.notes / "log.txt").open("a") as log:
            log.write(f"{text}\n")

    def fault(self, what: str) -> str:
        path = self.given.notes / "fault.json"
        said = str(json.loads(path.read_text()).get(what, "")) if path.exists() else ""
        if said == "die":
            print(f"it dies when told to {what}", flush=True)
            os._exit(7)
        if said == "hang":
            time.sleep(3600)
        return said

    def load(self) -> None:
        self.note(f"load {os.getpid()}")
        time.sleep(self.given.load_seconds)
        self.weights.take()
        self.cache.take()

    def sleep(self, level: int) -> None:
        if self.fault("sleep") == "ignore":
            return
        assert self.is_computing.acquire(blocking=False), "told to sleep while it computes"
        self.cache.give_back()
        if level == 2:
            self.weights.give_back()
            self.are_weights_read = False
        self.level = level
        self.is_computing.release()

    def wake(self, tags: list[str]) -> None:
        if self.fault("wake") == "ignore":
            return
        if "weights" in tags:
            self.weights.take()
        if "kv_cache" in tags:
            self.cache.take()
        if self.weights.is_there and self.cache.is_there:
            self.level = 0

    def answer(self, text: str) -> str:
        if self.level or not (self.weights.is_there and self.cache.is_there):
            print("illegal memory access: it was asked while it sleeps", flush=True)
            os._exit(9)
        with self.is_computing:
            self.note(f"compute {text}")
            return text if self.are_weights_read else GARBAGE


def handler_of(server: Vllm) -> type[BaseHTTPRequestHandler]:
    has_routes = server.given.enable_sleep_mode and os.environ.get("VLLM_SERVER_DEV_MODE") == "1"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/health":
                self._send(200)
            elif self.path == "/is_sleeping" and has_routes:
                self._send(200, {"is_sleeping": server.level > 0})
            else:
                self._send(404, {"detail": "Not Found"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            url = urlsplit(self.path)
            query = parse_qs(url.query, strict_parsing=bool(url.query))
            if url.path in ("/v1/chat/completions", "/v1/completions"):
                self._complete(json.loads(body))
            elif not has_routes:
                self._send(404, {"detail": "Not Found"})
            elif url.path == "/sleep" and set(query) == {"level"} and not body:
                server.note(self.path)
                if server.fault("sleep") == "refuse":
                    self._send(500, {"detail": "it cannot sleep"})
                    return
                server.sleep({"1": 1, "2": 2}[query["level"][0]])
                self._send(200)
            elif url.path == "/wake_up" and set(query) <= {"tags"} and not body:
                server.note(self.path)
                if server.fault("wake") == "refuse":
                    self._send(500, {"detail": "CUDA out of memory"})
                    return
                server.wake(query.get("tags", ["weights", "kv_cache"]))
                self._send(200)
            elif url.path == "/collective_rpc":
                asked = json.loads(body)
                assert asked == {"method": "reload_weights"}, asked
                assert server.weights.is_there, "there is no room for the weights yet"
                server.note(f"{self.path} {asked['method']}")
                server.are_weights_read = True
                self._send(200, {"results": [None]})
            else:
                self._send(400, {"detail": f"not as documented: {self.path}"})

        def _complete(self, asked: dict[str, Any]) -> None:
            assert asked["model"] == server.given.served_model_name, asked
            is_chat = "messages" in asked
            text = server.answer(asked["messages"][-1]["content"] if is_chat else asked["prompt"])
            head = {"id": "x", "object": "chat.completion", "created": 1, "model": asked["model"]}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            if not asked.get("stream"):
                message = {"role": "assistant", "content": text}
                choice = {"index": 0, "message": message, "text": text, "finish_reason": "stop"}
                self._send(200, {**head, "choices": [choice], "usage": usage})
                return
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            piece = {"delta": {"content": text}} if is_chat else {"text": text}
            last = {"delta": {}} if is_chat else {"text": ""}
            for choice in (
                {"index": 0, "finish_reason": None, **piece},
                {"index": 0, "finish_reason": "stop", **last},
            ):
                self._event({**head, "choices": [choice]})
            self._event({**head, "choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, value: dict[str, Any]) -> None:
            self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")

        def _send(self, status: int, value: dict[str, Any] | None = None) -> None:
            data = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("verb", choices=("serve",))
    parser.add_argument("model")
    parser.add_argument("--host", choices=("127.0.0.1",), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--max-num-seqs", type=int)
    parser.add_argument("--enable-sleep-mode", action="store_true")
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--load-seconds", type=float, default=0)
    parser.add_argument("--weights-mb", type=int, default=0)
    parser.add_argument("--cache-mb", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    server = Vllm(arguments())
    server.load()
    http = ThreadingHTTPServer(("127.0.0.1", server.given.port), handler_of(server))
    http.daemon_threads = True
    http.serve_forever(0.05)


def vllm_entry(model_id: str, folder: Path, **more: Any) -> dict[str, Any]:
    """A catalog entry of the preset ``vllm``; the server writes into a folder of that name in
    ``folder``. ``more``: options, and of the program ``load_seconds``, ``weights_mb`` and
    ``cache_mb``."""
    notes = folder / f"notes-{model_id}"
    notes.mkdir(exist_ok=True)
    own = {"notes": str(notes)}
    own |= {k: str(more.pop(k)) for k in ("load_seconds", "weights_mb", "cache_mb") if k in more}
    flags = [word for k, v in own.items() for word in (f"--{k.replace('_', '-')}", v)]
    options = {"sleep": True, "arguments": flags, **more}
    return {"model_id": model_id, "engine": "vllm", "source": "some/model", "options": options}


def vllm_preset(folder: Path) -> dict[str, Any]:
    """What the config says of the preset, so that its program is this one."""
    program = folder / "vllm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    program.chmod(0o755)
    return {"vllm": {"program": str(program)}}


if __name__ == "__main__":
    main()
