"""A page in a real browser asks the pool, which is another origin to it."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.servers import needs

from e2e.conftest import MakePool
from e2e.helpers import WAIT_SECONDS, chat, fake
from e2e.support import PoolProcess

BROWSER = "chromium"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HEADERS = {
    "authorization": "Bearer x",
    "content-type": "application/json",
    "x-stainless-lang": "js",
}
# Asks for each, one after the other, and reports what could be read of it.
PAGE = """<!doctype html><script>
const asked = %s
async function tell() {
  const told = []
  for (const [url, options] of asked) {
    try {
      const answer = await fetch(url, options)
      const code = answer.headers.get("x-modelpool-code")
      told.push({status: answer.status, code, text: await answer.text()})
    } catch (error) { told.push({status: 0}) }
  }
  fetch("/told", {method: "POST", body: JSON.stringify(told)})
}
tell()
</script>"""


class Site:
    """Serves the page, and takes in what it tells."""

    def __init__(self) -> None:
        self.told: queue.Queue[list[dict[str, Any]]] = queue.Queue()
        self.page = ""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(site.page.encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self._answer(b"")
                site.told.put(json.loads(body))

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


def shown(
    site: Site, folder: Path, host: str, *asked: tuple[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """What a page of ``host`` could read."""
    site.page = PAGE % json.dumps(asked)
    rules = "--host-resolver-rules=MAP app.example 127.0.0.1"
    profile = f"--user-data-dir={folder / 'profile'}"
    address = f"http://{host}:{site.port}/"
    browser = subprocess.Popen(
        [BROWSER, *FLAGS, rules, profile, "--remote-debugging-port=0", address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return site.told.get(timeout=2 * WAIT_SECONDS)
    finally:
        browser.terminate()
        browser.wait(WAIT_SECONDS)


def post(url: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    options = {"method": "POST", "headers": HEADERS, "body": json.dumps(body)}
    return f"{url}/v1/chat/completions", options


def asks(pool: PoolProcess) -> list[tuple[str, dict[str, Any]]]:
    """A stream and an error, at the manager and at a worker; and what changes something."""
    ways = (pool.url, pool.load("m")["endpoint"])
    bodies = (chat("m", stream=True), chat("unknown"))
    listed = [post(url, body) for url in ways for body in bodies]
    return [*listed, (f"{pool.url}/models/m/extend-ttl", {**post("", {"minutes": 1})[1]})]


@needs(BROWSER)
def test_pages_of_this_machine_and_listed_ones(
    make_pool: MakePool, site: Site, tmp_path: Path
) -> None:
    pool = make_pool(fake("m"), allowed_origins=[f"http://app.example:{site.port}"])
    for host in ("localhost", "127.0.0.1", "app.example"):
        stream, unknown, direct, other, extended = shown(site, tmp_path, host, *asks(pool))
        for answer in (stream, direct):
            assert answer["status"] == 200
            assert answer["text"].endswith("data: [DONE]\n\n")
        for answer in (unknown, other):
            assert (answer["status"], answer["code"]) == (404, "model_not_found")
        assert extended["status"] == 200


@needs(BROWSER)
def test_another_page_can_neither_read_nor_change_anything(
    make_pool: MakePool, site: Site, tmp_path: Path
) -> None:
    pool = make_pool(fake("m"))
    asked = asks(pool)
    plain = {"method": "POST", "mode": "no-cors", "body": json.dumps({"force": True})}
    asked.append((f"{pool.url}/models/m/unload", plain))
    told = shown(site, tmp_path, "app.example", *asked)
    assert [answer["status"] for answer in told] == [0] * len(asked)
    assert pool.model("m")["state"] == "HOT"
