"""Ten thousand files: the second look reads nothing, and the manager stays small."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from modelpool.app import running
from modelpool.config import PoolConfig
from modelpool.discovery.watching import look
from support.model_tree import gguf, put

FILES = 10_000
FOLDERS = 500
MB = 1_000_000


@pytest.mark.slow
def test_ten_thousand_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "models"
    for i in range(FILES):
        folder = root / f"owner-{i % FOLDERS}" / f"model-{i}-GGUF"
        put(folder / f"model-{i}-q4_0.gguf", gguf(f"model {i}"))
    figures: dict[str, Any] = {}

    async def main() -> None:
        config = PoolConfig(
            state_dir=tmp_path / "state",
            discovery_paths=[str(root)],
            discovery_calm_seconds=0,
            watch_discovery_paths=False,
            discovery_interval_seconds=0,
        )
        async with running(config) as pool:
            services, me = pool.services, psutil.Process()
            before = me.memory_info().rss
            for name in ("cold", "again"):
                began = time.perf_counter()
                done = await look(services, None, lambda *_: None)
                figures[name] = time.perf_counter() - began
                report = services.discovery.reports[str(root)]
                figures[f"{name}, of it the scan"] = report.seconds
                figures[f"{name}, files read"] = report.files_read
                figures[f"{name}, discovered"] = len(done.discovered)
            figures["manager's memory, MB more"] = (me.memory_info().rss - before) / MB
            assert len(services.catalog) == FILES

    asyncio.run(main())
    with capsys.disabled():
        print()
        for name, value in figures.items():
            print(f"  {name}: {value:.2f}" if isinstance(value, float) else f"  {name}: {value}")
    assert (figures["cold, files read"], figures["again, files read"]) == (FILES, 0)
    assert (figures["cold, discovered"], figures["again, discovered"]) == (FILES, 0)
