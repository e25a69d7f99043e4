"""Real servers of other people for tests: on free ports of loopback, in folders of their own, ended
by those who started them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from e2e.helpers import free_block

START_SECONDS = 60.0


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips where a program is missing; ``.ci/run`` installs those of discovery."""
    missing = [name for name in programs if shutil.which(name) is None]
    packages = "apt-get install etcd-server prometheus nginx-light caddy chromium"
    return pytest.mark.skipif(
        bool(missing), reason=f"{', '.join(missing)} not installed ({packages})"
    )


def free_port() -> int:
    """None that the kernel gives away in the meantime, and nobody else's of the tests."""
    return free_block(1)


class Server:
    """A process that answers on ``url``; started again it answers on the same one."""

    def __init__(self, folder: Path, health: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._health = health
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            log_text = (self.folder / "log").read_text(errors="replace")[-3000:]
            assert self._process.poll() is None, log_text
            assert time.monotonic() < end, log_text
            time.sleep(0.05)

    def _answers(self) -> bool:
        url, patience = f"{self.url}{self._health}", START_SECONDS
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(url, trust_env=False, verify=False, timeout=patience)
            return answer.status_code == 200
        return False

    def kill(self) -> None:
        """SIGKILL; what it had written is still there."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_SECONDS)
            self._process = None


class Etcd(Server):
    """One member, with a data directory that ``wipe`` empties."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "/health")
        self._peer = f"http://127.0.0.1:{free_port()}"

    def command(self) -> Sequence[str]:
        return (
            *("etcd", "--data-dir", str(self.folder / "data"), "--unsafe-no-fsync"),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", self._peer, "--initial-advertise-peer-urls", self._peer),
            *("--initial-cluster", f"default={self._peer}", "--logger", "zap"),
        )

    def wipe(self) -> None:
        """As a new machine: nothing is left. It must be down."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)


class Registry(Server):
    """``modelpool registry``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "/health")

    def command(self) -> Sequence[str]:
        return (sys.executable, "-m", "modelpool", "registry", "--port", str(self.port))


class Prometheus(Server):
    """Asks a manager every second where the workers are; scrapes the manager too where it is
    named, and evaluates a file of rules."""

    def __init__(
        self, folder: Path, discovery: str, manager: str = "", rules: Path | None = None
    ) -> None:
        super().__init__(folder, "/-/ready")
        self._discovery = discovery
        self._manager = manager
        self._rules = rules

    def command(self) -> Sequence[str]:
        config = self.folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
            "scrape_configs:\n"
            "  - job_name: workers\n"
            "    honor_labels: true\n"
            "    http_sd_configs:\n"
            f"      - {{url: '{self._discovery}', refresh_interval: 1s}}\n"
            + (
                f"  - {{job_name: modelpool, static_configs: [{{targets: ['{self._manager}']}}]}}\n"
                if self._manager
                else ""
            )
            + (f"rule_files: ['{self._rules}']\n" if self._rules else "")
        )
        return (
            *("prometheus", f"--config.file={config}"),
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )
