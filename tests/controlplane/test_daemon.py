"""``up`` and ``down`` agree on which process is the manager."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from modelpool import daemon
from modelpool.config import PoolConfig
from modelpool.pid_file import PidFile
from support.servers import free_port


@pytest.fixture
def manager() -> Iterator[psutil.Process]:
    """A process that could be one."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield psutil.Process(child.pid)
        child.kill()


def test_of_two_ups_at_once_only_one_starts_a_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manager: psutil.Process
) -> None:
    started: list[psutil.Process] = []

    def spawn(*_: object) -> psutil.Process:
        time.sleep(0.2)
        started.append(manager)
        return manager

    monkeypatch.setattr(daemon, "_spawn", spawn)
    monkeypatch.setattr(daemon, "_wait_for_answer", lambda *_: None)
    monkeypatch.setattr(daemon, "_wait_for_warm_up", lambda *_: [])
    monkeypatch.setattr(daemon, "_say_what_to_try", lambda *_: None)
    config = PoolConfig(state_dir=tmp_path, port=free_port())
    with ThreadPoolExecutor() as two:
        for up in [two.submit(daemon.start, config, None) for _ in range(2)]:
            up.result(timeout=60)
    assert len(started) == 1
    assert PidFile(tmp_path / "pool.pid").process() == manager


def test_up_says_that_its_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "state", Path("/proc/nobody/state")):
        with pytest.raises(daemon.StartFailed, match=f"state_dir {folder} cannot be written"):
            daemon.start(PoolConfig(state_dir=folder, port=free_port()), None)


def test_down_forgets_a_manager_that_is_gone(tmp_path: Path, manager: psutil.Process) -> None:
    config, pid_file = PoolConfig(state_dir=tmp_path / "state"), PidFile(tmp_path / "pool.pid")
    daemon.stop(config)  # there is not even a folder
    pid_file.write(manager.pid)
    manager.kill()
    manager.wait()
    daemon.stop(PoolConfig(state_dir=tmp_path))
    assert not pid_file.path.exists()
