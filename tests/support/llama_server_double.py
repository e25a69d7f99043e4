"""A stand-in for ``llama-server``: it takes the flags that the real one takes and no others, checks
their values, and answers as it does at a unix socket; what it says is what it was told.

``install(folder)`` makes a program of it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "version: 4711 (cafe)"
WHOLE, NUMBER, TEXT = int, float, str
# As in common/arg.cpp of llama.cpp b11549.
VALUES: dict[str, Any] = {
    "--alias": TEXT,
    "--batch-size": WHOLE,
    "--cache-ram": WHOLE,
    "--cache-type-k": TEXT,
    "--cache-type-v": TEXT,
    "--chat-template": TEXT,
    "--chat-template-file": TEXT,
    "--cors-origins": TEXT,
    "--ctx-size": WHOLE,
    "--fit": TEXT,
    "--flash-attn": TEXT,
    "--gpu-layers": WHOLE,
    "--host": TEXT,
    "--load-mode": TEXT,
    "--lora-scaled": TEXT,
    "--mmproj": TEXT,
    "--model": TEXT,
    "--parallel": WHOLE,
    "--pooling": TEXT,
    "--reasoning": TEXT,
    "--rope-freq-base": NUMBER,
    "--rope-freq-scale": NUMBER,
    "--rope-scaling": TEXT,
    "--seed": WHOLE,
    "--sleep-idle-seconds": WHOLE,
    "--slot-save-path": TEXT,
    "--spec-draft-model": TEXT,
    "--spec-draft-n-max": WHOLE,
    "--spec-draft-n-min": WHOLE,
    "--spec-draft-ngl": WHOLE,
    "--spec-draft-p-min": NUMBER,
    "--spec-draft-type-k": TEXT,
    "--spec-draft-type-v": TEXT,
    "--spec-ngram-map-k-size-m": WHOLE,
    "--spec-ngram-map-k4v-size-m": WHOLE,
    "--spec-ngram-mod-n-max": WHOLE,
    "--spec-ngram-mod-n-min": WHOLE,
    "--spec-ngram-simple-size-m": WHOLE,
    "--spec-type": TEXT,
    "--temp": NUMBER,
    "--tensor-split": TEXT,
    "--threads": WHOLE,
    "--threads-batch": WHOLE,
    "--threads-http": WHOLE,
    "--ubatch-size": WHOLE,
    "--verbosity": WHOLE,
    "--yarn-attn-factor": NUMBER,
    "--yarn-beta-fast": NUMBER,
    "--yarn-beta-slow": NUMBER,
    "--yarn-ext-factor": NUMBER,
    "--yarn-orig-ctx": WHOLE,
}
SWITCHES = (
    "--embeddings",
    "--kv-unified",
    "--metrics",
    "--no-warmup",
    "--no-webui",
    "--slots",
)


def install(folder: Path, **lacks: bool) -> Path:
    """The program, in that folder; without the flags that are named (``cache_ram=True``)."""
    path = folder / "llama-server"
    missing = [f"--{name.replace('_', '-')}" for name in lacks]
    path.write_text(
        f"#!{sys.executable}\n"
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"import llama_server_double\nllama_server_double.main({missing!r})\n"
    )
    path.chmod(0o755)
    return path


def main(missing: list[str]) -> None:
    values = {k: v for k, v in VALUES.items() if k not in missing}
    switches = [s for s in SWITCHES if s not in missing]
    match sys.argv[1:]:
        case ["--version"]:
            print(VERSION, file=sys.stderr)
            return
        case ["--help"]:
            print("\n".join(f"-x,   {flag} N   what it does" for flag in [*values, *switches]))
            return
        case ["--list-devices"]:
            print("Available devices:")
            return
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag, kind in values.items():
        parser.add_argument(flag, type=kind)
    for flag in switches:
        parser.add_argument(flag, action="store_true")
    given = parser.parse_args()
    if any(name.startswith("LLAMA_ARG_") for name in os.environ):
        sys.exit("error: somebody else's environment")
    with open(given.model, "rb") as f:
        if f.read(4) != b"GGUF":
            sys.exit("error: invalid magic characters")
    if given.chat_template == "{bad":
        sys.exit("error: the supplied chat template is not supported")
    serve(given)


class UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0


def serve(given: argparse.Namespace) -> None:
    began = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self) -> str:
            return "somebody"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            slots = [{"id": i, "is_processing": False} for i in range(given.parallel)]
            if given.spec_type:
                slots = [{**slot, "speculative": True} for slot in slots]
            answers = {
                "/health": {"status": "ok"},
                "/props": {"chat_template_caps": {"supports_tools": True}, "argv": sys.argv[1:]},
                "/slots": slots,
                "/lora-adapters": [],
            }
            is_loading = self.path == "/health" and time.monotonic() < began + 0.2
            if is_loading:
                self._json(503, {"error": {"message": "Loading model", "code": 503}})
            elif self.path == "/metrics":
                self._send(200, "text/plain", b"llamacpp:prompt_tokens_total 7\n")
            else:
                self._json(200 if self.path in answers else 404, answers.get(self.path, {}))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path == "/infill":
                self._json(501, {"error": {"message": "no infill", "code": 501}})
            elif self.path == "/v1/chat/completions":
                self._chat(asked)
            else:
                self._json(404, {})

        def _chat(self, asked: dict[str, Any]) -> None:
            text = asked["messages"][-1]["content"]
            head = {"id": "x", "object": "chat.completion.chunk", "created": 1}
            head["model"] = given.alias
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
            end = {"index": 0, "delta": {}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            events = [{**head, "choices": [choice]}, {**head, "choices": [end], "usage": usage}]
            data = b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events)
            self._send(200, "text/event-stream", data + b"data: [DONE]\n\n")

        def _json(self, status: int, value: Any) -> None:
            self._send(status, "application/json", json.dumps(value).encode())

        def _send(self, status: int, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    UnixServer(given.host, Handler).serve_forever(0.05)  # type: ignore[arg-type]
