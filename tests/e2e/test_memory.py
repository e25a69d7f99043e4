"""What is known of memory, from real workers: measured, remembered, shown, and heeded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import MakePool
from e2e.helpers import content, fake, until
from e2e.support import PoolProcess

pytestmark = pytest.mark.e2e

MB = 1_000_000
DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"


class PoolOfAHost(PoolProcess):
    """One that is made to believe what its folder ``host`` says of the machine's memory."""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"MODELPOOL_TEST_HOST_ROOT": str(self.folder / "host")}

    def has_available(self, mb: int) -> None:
        info = self.folder / "host" / "proc" / "meminfo"
        info.parent.mkdir(parents=True, exist_ok=True)
        new = info.with_suffix(".new")
        new.write_text(f"MemTotal: {16 << 20} kB\nMemAvailable: {mb * MB // 1024} kB\n")
        new.replace(info)


def figures(pool: PoolProcess, model_id: str) -> dict[str, Any]:
    return dict(pool.model(model_id)["memory"])


def is_measured(pool: PoolProcess, model_id: str) -> bool:
    assert pool.http.post("/save-state").status_code == 200
    return bool(figures(pool, model_id)["source_of_reservation"] == "measured")


def test_a_measured_peak_is_remembered(tmp_path: Path) -> None:
    model = fake("a", options={"memory_mb": 64}) | {"memory_mb": 700}
    with PoolProcess(tmp_path, [model]) as pool:
        before = figures(pool, "a")
        assert (before["reserved_mb"], before["source_of_reservation"]) == (700, "declared")
        assert before["measured_peak_mb"] is before["current_mb"] is None
        pool.load("a")
        assert pool.ask("a") == "hello there"
        loaded = until(
            lambda: (figures(pool, "a")["current_mb"] or 0) > 67 and figures(pool, "a"), ""
        )
        assert loaded["reserved_mb"] == 700
        text = pool.http.get("/metrics").text
        assert 'modelpool_memory_current_bytes{model="a"}' in text
        until(lambda: is_measured(pool, "a"), "what it took for the request to be heard of")
        assert pool.stop() == 0
        pool.start()
        after = figures(pool, "a")
        assert after["source_of_reservation"] == "measured"
        assert 67 < after["measured_peak_mb"] < 300
        assert after["reserved_mb"] == pytest.approx(after["measured_peak_mb"] * 1.05, abs=0.2)
        assert after["declared_mb"] == 700
        needs = pool.http.get("/models/a/plan").json()["needs"]
        assert (needs["memory_mb"], needs["source"]) == (after["reserved_mb"], "measured")
        pool.load("a")
        peak = [x for x in pool.http.get("/metrics").text.splitlines() if "measured_peak" in x][-1]
        assert float(peak.split()[-1]) == pytest.approx(after["measured_peak_mb"] * MB, rel=0.01)


@pytest.mark.slow
def test_other_options_are_measured_anew(make_pool: Callable[..., PoolProcess]) -> None:
    pool = make_pool(fake("a", options={"memory_mb": 64}))
    pool.load("a")
    pool.ask("a")
    assert pool.stop() == 0
    pool.config.write_text(pool.config.read_text().replace('"memory_mb": 64', '"memory_mb": 32'))
    pool.start()
    assert figures(pool, "a")["measured_peak_mb"] is None


@pytest.mark.slow
def test_a_file_that_was_replaced_by_a_bigger_one(
    make_pool: Callable[..., PoolProcess], tmp_path: Path
) -> None:
    """What the former took, and what was estimated for it, says nothing of the new one."""
    file, new = tmp_path / "model.gguf", tmp_path / "new"
    file.write_bytes(DEMO.read_bytes())
    pool = make_pool({"model_id": "m", "engine": "llama.cpp", "source": str(file)})
    pool.load("m")
    pool.ask("m")
    small = figures(pool, "m")["reserved_mb"]
    assert pool.stop() == 0
    pool.start()
    # Its file is looked at beside the first requests.
    until(lambda: figures(pool, "m")["measured_peak_mb"], "what it took before")
    new.write_bytes(DEMO.read_bytes() + bytes(200 * MB))
    new.replace(file)
    pool.load("m")
    after = figures(pool, "m")
    assert after["source_of_reservation"] == "estimated"
    assert after["reserved_mb"] == pytest.approx(small + 200, abs=1)
    assert pool.ask("m")
    history = pool.http.get("/models/m/history").json()["events"]
    (reason,) = [e["reason"] for e in history if e["event"] == "model-updated"]
    assert "its files were replaced (model.gguf): size" in reason


def test_what_the_host_has_decides(tmp_path: Path) -> None:
    pool = PoolOfAHost(tmp_path, [fake("a") | {"memory_mb": 300}])
    pool.has_available(100)
    with pool:
        answer = pool.http.post("/models/a/load?wait=60", json={})
        assert answer.status_code >= 400
        assert "the host has 100 MB available" in answer.json()["error"]["message"]
        pool.has_available(1000)

        def loads() -> bool:
            return pool.http.post("/models/a/load?wait=60", json={}).status_code == 200

        until(loads, "the host's memory to be read again")


def test_slots_follow_the_memory_limit(make_pool: MakePool) -> None:
    """Eight would need 76 MB, of which half of the limit is too little; one needs 62."""
    entry = {"model_id": "d", "engine": "llama.cpp", "source": str(DEMO)}
    pool = make_pool(entry, memory_limit_mb=126)
    view = pool.model("d")
    assert (view["options"], view["effective_options"]) == ({}, {"parallel": 1})
    pool.load("d")
    assert content(pool.chat("d", max_tokens=4))
    view = pool.model("d")
    assert view["effective_options"] == {"parallel": 1}
    assert view["memory"]["reserved_mb"] <= 126


def test_what_an_engine_expects_counts_wherever_its_model_comes_from(tmp_path: Path) -> None:
    """Of its files nobody else could tell; asked at a start, and of a registered model at once."""
    entry = {"engine": "pocketsphinx", "source": "builtin"}
    with PoolProcess(tmp_path, [{"model_id": "said", **entry}]) as pool:
        plain = figures(pool, "said")["estimated_mb"]
        told = until(
            lambda: (mb := figures(pool, "said")["estimated_mb"]) != plain and mb, "an answer"
        )
        answer = pool.http.post("/models/register", json={"model_id": "added", **entry})
        assert answer.status_code == 201, answer.text
        assert figures(pool, "added")["estimated_mb"] == told > 150
    with PoolProcess(tmp_path, []) as pool:
        until(lambda: figures(pool, "added")["estimated_mb"] == told, "an answer after a restart")
