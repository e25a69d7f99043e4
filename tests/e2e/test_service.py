"""``poolctl service`` with a stand-in for systemd that runs the unit as it stands there."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from support.systemctl_double import install

from e2e.helpers import MARK, chat, content, fake
from e2e.support import PoolProcess
from e2e.test_poolctl import COMMAND


@pytest.mark.slow
def test_a_service_from_install_to_uninstall(tmp_path: Path) -> None:
    pool = PoolProcess(tmp_path, [fake("plain", options={"reply": "${GREETING}"})])
    (tmp_path / "keys").write_text("GREETING=hello\n")
    programs = f"{install(tmp_path)}{os.pathsep}{os.environ['PATH']}"
    environ = {**pool.environment, "PATH": programs, "XDG_CONFIG_HOME": str(tmp_path / "config")}

    def service(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, "service", *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=90)

    def installed(*more: str) -> subprocess.CompletedProcess[str]:
        keys = ("--environment-file", str(tmp_path / "keys"), "--env", "TMPDIR", "--env", MARK)
        return service("install", "--config", str(pool.config), *more, *keys)

    with contextlib.closing(pool):
        assert service("status").returncode == 1
        refused = service("install", "--config", str(pool.config))
        assert (refused.returncode, "GREETING, which is not set" in refused.stderr) == (1, True)
        assert not (tmp_path / "config").exists()
        done = installed()
        assert done.returncode == 0, done.stderr + pool.log()
        assert f"the pool answers at {pool.url}" in done.stdout
        answer = pool.http.post("/v1/chat/completions", json=chat("plain", "hi"))
        assert content(answer) == "hello"
        status = json.loads(service("status", "--json").stdout)
        assert (status["installed"], status["active"]) == (True, True)
        assert status["pid"] == int((tmp_path / "service.pid").read_text())
        assert "says that already" in installed().stdout
        gone = service("uninstall")
        assert (gone.returncode, "is removed" in gone.stdout) == (0, True), gone.stderr
        assert not list((tmp_path / "config").rglob("*.service"))
        assert "it is not installed" in service("uninstall").stdout
