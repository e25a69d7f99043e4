"""Whether the kernel's own count is read rightly; nobody can be made to run out of memory here."""

from __future__ import annotations

from pathlib import Path

from modelpool_worker.oom import OomWatch


def test_a_kill_between_two_looks_is_seen(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("pgfault 12\noom_kill 3\noom_kill_other 9\n")
    watch = OomWatch(vmstat)
    assert not watch.has_struck()
    vmstat.write_text("pgfault 13\noom_kill 4\n")
    assert watch.has_struck()
    watch.look()
    assert not watch.has_struck()


def test_where_nobody_counts_nothing_is_seen(tmp_path: Path) -> None:
    watch = OomWatch(tmp_path / "none")
    watch.look()
    assert not watch.has_struck()
