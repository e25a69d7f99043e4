"""The files in configs/prometheus: promtool accepts them, and the pool has what they name."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from modelpool.app import running
from modelpool.config import PoolConfig

FOLDER = Path(__file__).parent.parent / "configs" / "prometheus"
PROMTOOL = shutil.which("promtool")
# What Prometheus itself makes.
ITS_OWN = frozenset({"up"})


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def metrics_in(expression: str) -> set[str]:
    without_labels = re.sub(r"\{[^}]*\}", "", expression)
    return set(re.findall(r"\b(?:modelpool_\w+|up)\b", without_labels))


def shown(folder: Path) -> set[str]:
    """Names of the series of a real scrape, those without a sample too."""

    async def scrape() -> str:
        async with running(PoolConfig(state_dir=folder)) as pool:
            return pool.services.metrics.text().decode()

    types = re.findall(r"^# TYPE (\w+) (\w+)$", asyncio.run(scrape()), re.MULTILINE)
    parts = ("", "_bucket", "_count", "_sum")
    return {f"{name}{part}" for name, kind in types for part in parts if not part or kind[0] == "h"}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    run = subprocess.run(
        [PROMTOOL, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_metric_of_the_rules_is_there(tmp_path: Path) -> None:
    named = {name for rule in rules() for name in metrics_in(rule["expr"])}
    assert named - ITS_OWN - shown(tmp_path) == set()
    assert {"modelpool_state", "modelpool_request_seconds_bucket"} <= named, "they are found at all"


def test_every_metric_of_the_dashboard_is_there(tmp_path: Path) -> None:
    """Those of workers are asked of real ones, in the tests of pools."""
    document = json.loads((FOLDER.parent / "grafana" / "modelpool.json").read_text("utf-8"))
    queries = [t["expr"] for panel in document["panels"] for t in panel.get("targets", ())]
    named = {name for query in queries for name in metrics_in(query)}
    known = {name for name in named if not name.startswith("modelpool_worker_")}
    assert known - shown(tmp_path) == set()
    assert len(known) > 25


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    tests = (FOLDER / "alerts_test.yml").read_text(encoding="utf-8")
    for rule in rules():
        assert re.search(rf"\b{rule['alert']}\b", tests), f"{rule['alert']} has no test"
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"]


def test_the_example_scrapes_what_the_pool_serves() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    port = PoolConfig.model_fields["port"].default
    assert jobs["modelpool"]["static_configs"] == [{"targets": [f"127.0.0.1:{port}"]}]
    (sd,) = jobs["modelpool-workers"]["http_sd_configs"]
    assert sd["url"] == f"http://127.0.0.1:{port}/sd/prometheus"
