"""Whether the kernel's own count is read rightly; nobody can be made to run out of memory here."""

from __future__ import annotations

from pathlib import Path

from modelpool_worker.oom import SETTLE_SECONDS, OomWatch


def test_a_kill_is_seen_although_it_was_counted_before_its_end(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("pgfault 12\noom_kill 3\noom_kill_other 9\n")
    watch = OomWatch(0.0, vmstat)
    for now in (10.0, 20.0, 29.0):
        watch.look(now)
        assert not watch.has_struck(now)
    vmstat.write_text("pgfault 13\noom_kill 4\n")
    watch.look(30.0)  # while the process is taken apart
    watch.look(31.0)
    assert watch.has_struck(31.2)
    watch.look(31.2 + SETTLE_SECONDS)
    assert not watch.has_struck(31.2 + 2 * SETTLE_SECONDS)


def test_looks_do_not_pile_up(tmp_path: Path) -> None:
    watch = OomWatch(0.0, tmp_path / "none")
    for now in range(1000):
        watch.look(float(now))
    assert len(watch._seen) < 3 * SETTLE_SECONDS
    assert not watch.has_struck(1000.0)
