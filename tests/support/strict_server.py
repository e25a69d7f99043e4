"""A small server of chat completions for tests of engines that a command starts. It is strict about
what it is asked, does wrong what it is told to, and writes into a folder what it has seen.

Run as a program: ``python strict_server.py --port N --notes FOLDER …``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ALLOWED = {"model", "messages", "prompt", "input", "stream", "stream_options", "max_tokens"} | {
    "encoding_format"
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--port", type=int)
    parser.add_argument("--socket")
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--model", default="")
    parser.add_argument("--header", default="", help="NAME=VALUE that every request must have")
    parser.add_argument("--busy", type=float, default=0, help="seconds of work before it listens")
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--say", default="", help="a line, once it listens")
    parser.add_argument("--die-while-loading", type=int)
    parser.add_argument("--die-after", type=int, help="tokens of an answer")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--garbage", action="store_true", help="bytes that are no text in its log")
    parser.add_argument("--grandchild", choices=("plain", "session"))
    parser.add_argument("--lose-port", action="store_true", help="at the first start")
    parser.add_argument("--slow-tokens", type=float, default=0)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    note(given, "started", {"argv": sys.argv[1:], "pid": os.getpid()})
    note(given, "environment", dict(os.environ))
    note(given, "cwd", os.getcwd())
    if given.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: ended(given))
    if given.garbage:
        os.write(1, bytes(range(256)) * 300)
    if given.grandchild:
        child = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(3600)"],
            start_new_session=given.grandchild == "session",
        )
        note(given, "grandchild", child.pid)
    if given.lose_port and not (given.notes / "lost.json").exists():
        lose_port(given)
    end = time.monotonic() + given.busy
    while time.monotonic() < end:
        pass
    if given.die_while_loading is not None:
        print("the weights are made of cheese", flush=True)
        sys.exit(given.die_while_loading)
    serve(given)


def ended(given: argparse.Namespace) -> None:
    note(given, "ended", True)
    os._exit(0)


def lose_port(given: argparse.Namespace) -> None:
    """Somebody else, who is none of ours, takes it before us, once it is known which it is."""
    note(given, "port", given.port)
    while not (given.notes / "lost.json").exists():
        time.sleep(0.005)
    print("bind: Address already in use", flush=True)
    sys.exit(1)


def note(given: argparse.Namespace, name: str, value: Any) -> None:
    path = given.notes / f"{name}.json"
    path.with_suffix(".tmp").write_text(json.dumps(value))
    path.with_suffix(".tmp").rename(path)


class UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0


def serve(given: argparse.Namespace) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self) -> str:
            return "somebody"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            ready = self.path == "/ready" and not given.never_ready
            self._json(200 if ready else 503, {"ready": ready})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            asked = json.loads(body)
            note(given, "asked", {"path": self.path, "body": asked, **self._headers()})
            if problem := self._problem(asked, body):
                self._json(400, {"error": {"message": problem, "type": "strict"}})
            elif self.path == "/embed":
                self._json(200, {"data": [{"index": 0, "embedding": [0.5, 0.25]}]})
            elif asked.get("stream"):
                self._stream(asked)
            else:
                self._json(200, self._whole(asked))

        def _headers(self) -> dict[str, Any]:
            return {"headers": {k.lower(): v for k, v in self.headers.items()}}

        def _problem(self, asked: dict[str, Any], body: bytes) -> str:
            if unknown := set(asked) - ALLOWED:
                return f"unknown: {sorted(unknown)}"
            if given.model and asked.get("model") != given.model:
                return f"no model {asked.get('model')!r} here"
            if body.count(b'"model"') > 1:
                return "two models"
            name, _, value = given.header.partition("=")
            if name and self.headers.get(name) != value:
                return f"{name} is missing"
            return ""

        def _tokens(self, asked: dict[str, Any]) -> list[str]:
            text = asked["messages"][-1]["content"] if "messages" in asked else asked["prompt"]
            return [f"{word} " for word in (text.split() * 500)[: asked.get("max_tokens", 3)]]

        def _stream(self, asked: dict[str, Any]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            tokens = self._tokens(asked)
            try:
                for i, token in enumerate(tokens):
                    if given.die_after == i:
                        print("a stray cosmic ray", flush=True)
                        os._exit(7)
                    piece = (
                        {"delta": {"content": token}} if "messages" in asked else {"text": token}
                    )
                    self._event({"choices": [{"index": 0, "finish_reason": None, **piece}]})
                    time.sleep(given.slow_tokens)
                last = {"delta": {}} if "messages" in asked else {"text": ""}
                self._event({"choices": [{"index": 0, "finish_reason": "stop", **last}]})
                usage = {"prompt_tokens": 1, "completion_tokens": len(tokens), "total_tokens": 2}
                self._event({"choices": [], "usage": usage})
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                note(given, "cancelled", i)

        def _event(self, value: dict[str, Any]) -> None:
            head = {"id": "x", "object": "chunk", "created": 1, "model": given.model}
            self.wfile.write(b"data: " + json.dumps({**head, **value}).encode() + b"\n\n")

        def _whole(self, asked: dict[str, Any]) -> dict[str, Any]:
            message = {"role": "assistant", "content": "".join(self._tokens(asked))}
            usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return {"id": "x", "object": "o", "choices": [choice], "usage": usage}

        def _json(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    if given.socket:
        server: ThreadingHTTPServer = UnixServer(given.socket, Handler)  # type: ignore[arg-type]
    else:
        server = ThreadingHTTPServer(("127.0.0.1", given.port), Handler)
    server.daemon_threads = True
    if given.say:
        print(given.say, flush=True)
    server.serve_forever(0.05)


if __name__ == "__main__":
    main()
