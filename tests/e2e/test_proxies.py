"""The proxies of docs/proxies.md, as they stand there, before a real pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.servers import Server, needs

from e2e.conftest import WithModels
from e2e.helpers import chat, fake, until
from e2e.support import PoolProcess

PAGE = Path(__file__).parents[2] / "docs" / "proxies.md"
TOKEN = {"authorization": "Bearer SECRET"}
SLOW = {"tokens": 1000, "tokens_per_second": 20}


def example(language: str, *changes: tuple[str, str]) -> str:
    """The page's block of that language, with ports and names of the test."""
    text = PAGE.read_text().split(f"```{language}\n")[1].split("```")[0]
    for old, new in changes:
        assert old in text, f"{old} is no more in the example"
        text = text.replace(old, new)
    return text


class Proxy(Server):
    """Is there as soon as it answers anything: what is not under ``/v1`` it does not serve."""

    def _answers(self) -> bool:
        try:
            httpx.get(self.url, trust_env=False, verify=False, timeout=60)
        except httpx.TransportError:
            return False
        return True


class Nginx(Proxy):
    """In the foreground, as one process."""

    def __init__(self, folder: Path, pool: int) -> None:
        super().__init__(folder, "/")
        self.text = example(
            "nginx",
            ("127.0.0.1:8050", f"127.0.0.1:{pool}"),
            ("listen 8443", f"listen 127.0.0.1:{self.port}"),
        )

    def command(self) -> Sequence[str]:
        temps = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        own = "".join(f"{name}_temp_path {self.folder}/{name};" for name in temps)
        (self.folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {self.folder}/pid; events {{ }}"
            f"http {{ access_log off; {own}\n{self.text}\n}}"
        )
        return ["nginx", "-c", str(self.folder / "nginx.conf"), "-e", "stderr"]


class Caddy(Proxy):
    """Without TLS, and without its port for administration."""

    def __init__(self, folder: Path, pool: int) -> None:
        super().__init__(folder, "/")
        self.text = example(
            "caddy",
            ("127.0.0.1:8050", f"127.0.0.1:{pool}"),
            ("pool.example {", f"http://pool.example:{self.port} {{"),
        )

    def command(self) -> Sequence[str]:
        (self.folder / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{self.text}")
        return ["caddy", "run", "--config", str(self.folder / "Caddyfile")]


@pytest.fixture(scope="module")
def pool_keys() -> dict[str, Any]:
    return {"allowed_hosts": ["pool.example"]}


@pytest.fixture
def pool(own_pool: WithModels) -> PoolProcess:
    return own_pool(fake("m"), fake("slow", options=SLOW))


@pytest.fixture(
    params=[
        pytest.param(Nginx, marks=needs("nginx")),
        pytest.param(Caddy, marks=needs("caddy")),
    ]
)
def proxy(
    request: pytest.FixtureRequest, pool: PoolProcess, tmp_path: Path
) -> Iterator[httpx.Client]:
    server = request.param(tmp_path / "proxy", pool.port)
    host = {"host": f"pool.example:{server.port}"}
    with ExitStack() as stack:
        stack.callback(server.kill)
        server.start()
        yield stack.enter_context(
            httpx.Client(
                base_url=server.url, headers=host, timeout=60, trust_env=False, verify=False
            )
        )


def test_it_serves_who_has_the_token(proxy: httpx.Client) -> None:
    assert proxy.get("/v1/models", headers=TOKEN).status_code == 200
    assert proxy.get("/v1/models").status_code == 401
    answer = proxy.post("/v1/chat/completions", json=chat("m"), headers=TOKEN)
    assert answer.status_code == 200, answer.text
    large = chat("m", text="x " * 1_000_000)
    refused = proxy.post("/v1/chat/completions", json=large, headers=TOKEN)
    assert refused.json()["error"]["source"] != "pool", "it came as far as the engine"


def test_pages(proxy: httpx.Client) -> None:
    own = {"origin": str(proxy.base_url).replace("127.0.0.1", "pool.example")}
    asked = {"access-control-request-method": "POST"}
    answer = proxy.options("/v1/chat/completions", headers={**own, **asked})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == own["origin"]
    other = {"origin": "https://evil.example"}
    answer = proxy.options("/v1/models", headers={**other, **asked})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert proxy.get("/v1/models", headers={**other, **TOKEN}).status_code == 403


def test_a_stream_comes_as_it_is_made_and_ends_with_its_client(
    proxy: httpx.Client, pool: PoolProcess
) -> None:
    worker = f"{pool.load('slow')['endpoint']}/health"
    body = chat("slow", text=" ".join("abcdef"), stream=True)
    asked = proxy.stream("POST", "/v1/chat/completions", json=body, headers=TOKEN)
    with asked as answer:
        pieces = (line for line in answer.iter_lines() if line.startswith("data: {"))
        for _ in range(3):
            next(pieces)
        assert pool.http.get(worker).json()["in_flight"] == 1, "it was kept until its end"
    until(lambda: pool.http.get(worker).json()["in_flight"] == 0, "the end of the work")


def test_a_cold_model_is_waited_for(proxy: httpx.Client, pool: PoolProcess) -> None:
    pool.http.post("/models/register", json=fake("cold", options={"load_seconds": 2}))
    body = chat("cold", stream=True)
    with proxy.stream("POST", "/v1/chat/completions", json=body, headers=TOKEN) as answer:
        lines = list(answer.iter_lines())
    assert any(line.startswith(": cold is") for line in lines)
    assert lines[-2:] in (["data: [DONE]", ""], ["", "data: [DONE]"])
