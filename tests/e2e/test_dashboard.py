"""The dashboard for Grafana, and the rules: every query has data in a real Prometheus that scrapes
a real pool."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.servers import Prometheus, needs

from e2e.conftest import MakePool
from e2e.helpers import chat, fake, until
from e2e.support import PoolProcess

CONFIGS = Path(__file__).parent.parent.parent / "configs"
DASHBOARD = CONFIGS / "grafana" / "modelpool.json"
RULES = CONFIGS / "prometheus" / "alerts.yml"
# What Grafana puts in.
VARIABLES = {"$__rate_interval": "5m", "$model": ".*"}
PRICED = {"metadata": {"prices": {"output": 1_000_000}}}


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def queries() -> Iterator[tuple[str, str, str]]:
    """Title, expression and legend of each."""
    for panel in document()["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield panel["title"], expression, target["legendFormat"]


def test_grafana_can_lay_it_out() -> None:
    """As its importer wants it: ids once, nothing on top of another, one data source for all."""
    dashboard = document()
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
        references = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(references)) == len(references)
        for each in (panel, *panel.get("targets", ())):
            if panel["type"] != "row":
                assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$(?:\{(\w+)\}|([a-z]\w*))", DASHBOARD.read_text(encoding="utf-8")))
    assert {one or other for one, other in used} - {"__all"} == names
    # It is found again after an import, and is nobody's copy.
    assert (dashboard["uid"], dashboard.get("id")) == ("modelpool", None)
    assert "$" not in "".join(expression for _, expression, _ in queries())


def exercise(pool: PoolProcess) -> None:
    """Something of everything: streams, failures, a load that waits."""
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    for _ in range(3):
        answer = pool.http.post("/v1/chat/completions", json={**chat("m", "a b c d"), **stream})
        assert answer.status_code == 200
    pool.chat("bad")


@pytest.mark.slow
@needs("prometheus")
def test_every_query_has_data(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(
        fake("m", **PRICED, options={"load_seconds": 0.2, "load_steps": 2}),
        fake("bad", concurrency_limit=2, options={"fail_every": 1}),
        retry_attempts=0,
    )
    prometheus = Prometheus(
        tmp_path / "prometheus", f"{pool.url}/sd/prometheus", pool.url.split("//")[1], RULES
    )
    prometheus.start()
    try:
        _look(pool, prometheus)
    finally:
        prometheus.kill()


def _look(pool: PoolProcess, prometheus: Prometheus) -> None:
    missing = {(title, expression): legend for title, expression, legend in queries()}
    assert len(missing) > 30

    def found() -> bool:
        # Rates need something that grows, loads too.
        exercise(pool)
        pool.http.post("/models/m/unload", json={})
        for title, expression in tuple(missing):
            samples = ask(prometheus, expression)
            if any(not math.isnan(float(sample["value"][1])) for sample in samples):
                legend = missing.pop((title, expression))
                named = set(re.findall(r"\{\{(\w+)\}\}", legend))
                shown = {label for sample in samples for label in sample["metric"]}
                is_nothing = all(not sample["metric"] for sample in samples)
                assert named <= shown or is_nothing, (title, expression, shown)
        return not missing

    try:
        until(found, "data for every query", 200)
    finally:
        assert not missing  # and not only that there are some
    rules = httpx.get(f"{prometheus.url}/api/v1/rules", trust_env=False, timeout=60).json()["data"][
        "groups"
    ]
    seen = [rule for group in rules for rule in group["rules"]]
    assert seen
    assert [(rule["name"], rule["lastError"]) for rule in seen if rule["health"] != "ok"] == []


def ask(prometheus: Prometheus, expression: str) -> list[dict[str, Any]]:
    answer = httpx.get(
        f"{prometheus.url}/api/v1/query", params={"query": expression}, trust_env=False, timeout=60
    )
    assert answer.status_code == 200, (expression, answer.text)
    samples: list[dict[str, Any]] = answer.json()["data"]["result"]
    return samples
