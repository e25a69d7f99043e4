"""``poolctl top``, ``ps`` and ``open`` for programs; for people: test_poolctl_terminal.py."""

from __future__ import annotations

import json
import subprocess
import sys

from e2e.conftest import WithModels
from e2e.helpers import fake
from e2e.support import PoolProcess

COMMAND = [sys.executable, "-c", "from modelpool_client.cli import main; main()"]


def poolctl(pool: PoolProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--url", pool.url, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=pool.environment, check=False
    )


def test_programs_read_what_people_see(own_pool: WithModels) -> None:
    pool = own_pool(fake("m"))
    assert "no model is loaded" in poolctl(pool, "ps").stdout
    pool.load("m")
    assert [m["model_id"] for m in json.loads(poolctl(pool, "--json", "ps").stdout)["models"]] == [
        "m"
    ]
    told = poolctl(pool, "top", "--json", "-n", "2", "-d", "0.1").stdout.splitlines()
    assert [json.loads(line)["models"][0]["state"] for line in told] == ["HOT", "HOT"]
    assert "m" in json.loads(told[1])["per_second"]
    assert "HOT" in poolctl(pool, "top", "-n", "1").stdout
    assert json.loads(poolctl(pool, "open", "--json").stdout) == {"url": pool.url}
    gone = subprocess.run(
        [*COMMAND, "--url", "http://127.0.0.1:9", "top"], capture_output=True, text=True, timeout=60
    )
    assert gone.returncode == 3
    assert "error:" in gone.stderr
