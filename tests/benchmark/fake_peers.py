"""Doubles of the peers: as much of their command lines and routes as the benchmark uses.

python fake_peers.py --port 8000 --models-preset presets.ini …      llama-server's router mode
python fake_peers.py --port 8000 --model FILE …                     a bare llama-server
python -m llama_cpp.server --config_file settings.json              see ``LLAMA_CPP_SERVER``
"""

from __future__ import annotations

import configparser
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """One model is loaded at a time; the states of all are those of the server."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        states = self._states().items()
        self._answer({"data": [{"id": m, "status": {"value": s}} for m, s in states]})

    def do_POST(self) -> None:
        model = json.loads(self.rfile.read(int(self.headers["content-length"])))["model"]
        if self.path == "/models/unload":
            self._states()[model] = "unloaded"
            self._answer({"success": True})
            return
        for other in self._states():
            self._states()[other] = "loaded" if other == model else "unloaded"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in (b'data: {"choices": []}\n\n', b"data: [DONE]\n\n"):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _states(self) -> dict[str, str]:
        assert isinstance(self.server, Server)
        return self.server.states

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """A peer with these models, of which none is loaded."""

    def __init__(self, port: int, models: list[str]) -> None:
        self.states = dict.fromkeys(models, "unloaded")
        super().__init__(("127.0.0.1", port), Handler)


def serve(port: int, models: dict[str, str]) -> None:
    """Serve until it is ended; every model has a file."""
    assert all(models.values())
    Server(port, list(models)).serve_forever()


def llama_server(arguments: list[str]) -> None:
    """As llama-server: with a model of its own that answers to any name, or without."""
    port = int(arguments[arguments.index("--port") + 1])
    if "--model" in arguments:
        serve(port, {"its own": arguments[arguments.index("--model") + 1]})
        return
    presets = configparser.ConfigParser()
    presets.read(arguments[arguments.index("--models-preset") + 1])
    files = {name: presets[name]["model"] for name in presets.sections()}
    serve(port, files)


def llama_cpp_server(arguments: list[str]) -> None:
    """As llama-cpp-python's server; to be called by the ``__main__`` of a package of that name."""
    settings = json.loads(Path(arguments[arguments.index("--config_file") + 1]).read_text())
    serve(settings["port"], {m["model_alias"]: m["model"] for m in settings["models"]})


if __name__ == "__main__":
    llama_server(sys.argv)
