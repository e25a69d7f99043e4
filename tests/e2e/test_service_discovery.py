"""What registry, etcd and Prometheus list while a real pool loads, cools, unloads and dies.

Registrars look by themselves every 200 s only, so what is listed within seconds was told by the
transition itself.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGKILL
from typing import Any

import httpx
import pytest
from support.servers import Etcd, Prometheus, Registry, needs

from e2e.conftest import MakePool
from e2e.helpers import fake, run_of, until
from e2e.support import PoolProcess

pytestmark = needs("etcd", "prometheus")

SECOND = 1 / 60
SELDOM = 600


class Watchers:
    """The three, and what each lists: models by the addresses of their workers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.prometheus: Prometheus | None = None
        self.etcd = Etcd(folder / "etcd")
        self.registry = Registry(folder / "registry")
        for server in (self.etcd, self.registry):
            stack.callback(server.kill)
            server.start()

    def registrars(self, ttl_seconds: int = SELDOM) -> list[dict[str, Any]]:
        kinds = {"http": self.registry.url, "etcd": self.etcd.url}
        return [{"kind": k, "url": u, "ttl_seconds": ttl_seconds} for k, u in kinds.items()]

    def watch(self, pool: PoolProcess) -> None:
        self.prometheus = Prometheus(self._folder / "prometheus", f"{pool.url}/sd/prometheus")
        self._stack.callback(self.prometheus.kill)
        self.prometheus.start()

    def in_registry(self) -> dict[str, str]:
        items = httpx.get(
            f"{self.registry.url}/services", trust_env=False, verify=False, timeout=60
        ).json()["items"]
        return {i["url"]: i["labels"]["model"] for i in items}

    def in_etcd(self) -> dict[str, str]:
        return {f"http://{r['host']}:{r['port']}": r["model"] for r in self.records()}

    def records(self) -> list[dict[str, Any]]:
        span = {"key": _code("/modelpool/"), "range_end": _code("/modelpool0")}
        answer = httpx.post(
            f"{self.etcd.url}/v3/kv/range", json=span, trust_env=False, verify=False, timeout=60
        )
        return [json.loads(base64.b64decode(kv["value"])) for kv in answer.json().get("kvs", ())]

    def targets(self) -> list[dict[str, Any]]:
        assert self.prometheus is not None
        answer = httpx.get(
            f"{self.prometheus.url}/api/v1/targets?state=active",
            trust_env=False,
            verify=False,
            timeout=60,
        )
        return list(answer.json()["data"]["activeTargets"])

    def in_prometheus(self) -> dict[str, str]:
        found = self.targets()
        return {t["scrapeUrl"].removesuffix("/metrics"): t["labels"]["model"] for t in found}

    def are_scraped(self) -> bool:
        """Every target has answered Prometheus."""
        found = self.targets()
        return bool(found) and all(t["health"] == "up" for t in found)

    def until_all_list(self, pool: PoolProcess, *models: str) -> None:
        """Exactly these models, at the addresses where they are HOT; Prometheus if it watches."""
        states = {m["model_id"]: m for m in pool.http.get("/models").json()["models"]}
        assert {m for m in states if states[m]["state"] == "HOT"} == set(models)
        expected = {states[m]["endpoint"]: m for m in models}
        more = () if self.prometheus is None else (self.in_prometheus,)
        for look in (self.in_registry, self.in_etcd, *more):
            what = f"{look.__name__} to be {expected}"
            until(lambda look=look: look() == expected, what)  # type: ignore[misc]


def _code(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def watchers(tmp_path: Path) -> Iterator[Watchers]:
    with ExitStack() as stack:
        yield Watchers(tmp_path / "servers", stack)


def test_each_lists_exactly_the_hot_workers_after_every_transition(
    make_pool: MakePool, watchers: Watchers
) -> None:
    pool = make_pool(
        fake("stays", ttl_minutes=0, aliases=["anchor"]),
        fake("cools", ttl_minutes=2 * SECOND),
        grace_minutes=1,
        registrars=watchers.registrars(),
    )
    watchers.watch(pool)
    watchers.until_all_list(pool)

    first = pool.load("stays")
    watchers.until_all_list(pool, "stays")
    until(watchers.are_scraped, "a scrape of the worker")

    pool.load("cools")
    pool.wait_for("cools", "COOLING")  # it serves on, hidden
    watchers.until_all_list(pool, "stays")
    answer = pool.http.post("/models/cools/extend-ttl", json={"minutes": 30})
    assert answer.status_code == 200
    pool.wait_for("cools", "HOT")
    watchers.until_all_list(pool, "stays", "cools")

    pool.http.post("/models/cools/unload", json={})
    watchers.until_all_list(pool, "stays")

    (record,) = watchers.records()
    assert (record["model"], record["aliases"], record["state"]) == ("stays", ["anchor"], "HOT")
    os.kill(first["worker_pid"], SIGKILL)
    pool.wait_for("stays", "FAILED")
    watchers.until_all_list(pool)
    pool.load("stays")
    watchers.until_all_list(pool, "stays")
    assert watchers.records()[0]["id"] != record["id"]

    until(lambda: set(statuses(pool).values()) == {"ok"}, "all to be well")
    pool.stop()
    assert (watchers.in_registry(), watchers.in_etcd()) == ({}, {})


@pytest.mark.parametrize(
    "is_empty",
    [
        pytest.param(False, id="with its data", marks=pytest.mark.slow),
        pytest.param(True, id="empty"),
    ],
)
def test_an_outage_of_etcd_in_the_middle_is_healed(
    make_pool: MakePool, watchers: Watchers, is_empty: bool
) -> None:
    pool = make_pool(fake("a"), fake("b"), registrars=watchers.registrars(ttl_seconds=15))
    pool.load("a")
    watchers.until_all_list(pool, "a")

    watchers.etcd.kill()
    if is_empty:
        watchers.etcd.wipe()
    pool.load("b")  # nobody waits for etcd
    pool.http.post("/models/a/unload", json={})
    until(lambda: list(watchers.in_registry().values()) == ["b"], "the other registry")
    until(lambda: statuses(pool)["etcd"] == "failing", "the failure to be seen")
    watchers.etcd.start()
    watchers.until_all_list(pool, "b")
    until(lambda: statuses(pool)["etcd"] == "ok", "the recovery to be seen")
    told = [e["event"] for e in pool.events() if e["event"].startswith("registrar-")]
    assert told == ["registrar-failed", "registrar-recovered"]


def statuses(pool: PoolProcess) -> dict[str, str]:
    found = pool.http.get("/registrars").json()["registrars"]
    return {r["kind"]: r["status"] for r in found}


def test_a_manager_that_was_killed_leaves_its_workers_listed_for_the_next(
    make_pool: MakePool, watchers: Watchers
) -> None:
    pool = make_pool(fake("m"), registrars=watchers.registrars(ttl_seconds=60))
    watchers.watch(pool)
    pool.load("m")
    watchers.until_all_list(pool, "m")
    before = watchers.records()
    pool.kill()
    assert watchers.records() == before
    assert watchers.in_prometheus()
    pool.start()
    watchers.until_all_list(pool, "m")
    assert watchers.records() == before  # the same worker under the same id


def test_a_restart_never_takes_a_living_worker_off(make_pool: MakePool, watchers: Watchers) -> None:
    pool = make_pool(fake("m"), registrars=watchers.registrars(ttl_seconds=60))
    pool.load("m")
    watchers.until_all_list(pool, "m")
    before, run = watchers.records(), run_of(pool)
    assert pool.http.post("/restart", json={}).status_code == 202

    def is_another() -> bool:
        assert watchers.records() == before
        assert len(watchers.in_registry()) == 1
        try:
            return run_of(pool) != run
        except httpx.TransportError:
            return False

    until(is_another, "the next manager")
    until(lambda: set(statuses(pool).values()) == {"ok"}, "its first round")
    assert watchers.records() == before


def test_each_copy_of_a_model_is_an_entry_of_its_own(
    make_pool: MakePool, watchers: Watchers
) -> None:
    pool = make_pool(fake("m", min_replicas=2), registrars=watchers.registrars())
    watchers.watch(pool)
    pool.load("m")
    for look in (watchers.in_registry, watchers.in_etcd, watchers.in_prometheus):
        until(lambda look=look: list(look().values()) == ["m", "m"], look.__name__)  # type: ignore[misc]
    (service,) = pool.http.get("/sd/traefik").json()["http"]["services"].values()
    servers = {s["url"] for s in service["loadBalancer"]["servers"]}
    assert servers == set(watchers.in_registry()) == set(watchers.in_prometheus())
    pool.http.post("/models/m/unload", json={})
    for look in (watchers.in_registry, watchers.in_etcd, watchers.in_prometheus):
        until(lambda look=look: look() == {}, look.__name__)  # type: ignore[misc]


def test_registrars_come_and_go_while_the_pool_runs(
    make_pool: MakePool, watchers: Watchers
) -> None:
    pool = make_pool(fake("m"))
    url = pool.load("m")["endpoint"]
    listed = {url: "m"}
    http, etcd = watchers.registrars()
    changed = pool.http.patch("/config", json={"registrars": [http]})
    assert changed.status_code == 200, changed.text
    until(lambda: watchers.in_registry() == listed, "the one that came by PATCH")
    said = json.loads(pool.config.read_text())
    pool.config.write_text(json.dumps({**said, "registrars": [etcd]}))
    assert set(pool.http.post("/config/reload", json={}).json()["changed"]) == {"registrars"}
    until(lambda: watchers.in_etcd() == listed, "the one that came by the file")
    until(lambda: watchers.in_registry() == {}, "the other to list nothing")
    assert list(statuses(pool)) == ["etcd"]
    assert pool.http.patch("/config", json={"registrars": []}).status_code == 200
    until(lambda: watchers.in_etcd() == {}, "etcd to list nothing")
    assert pool.ask("m") == "hello there"


def test_down_takes_off_what_a_killed_manager_had_told(
    make_pool: MakePool, watchers: Watchers
) -> None:
    pool = make_pool(fake("m"), registrars=watchers.registrars())
    pool.load("m")
    until(lambda: watchers.in_registry() and watchers.in_etcd(), "its entries")
    renamed = {"models": [fake("m", aliases=["other"])], "replace": True}
    assert pool.http.post("/registry", json=renamed).status_code == 200
    until(lambda: watchers.records()[0]["aliases"] == ["other"], "its new name")
    pool.kill()
    down = pool.run("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert (watchers.in_registry(), watchers.in_etcd()) == ({}, {})


def test_registrars_that_are_down_hold_up_neither_start_nor_stop(
    make_pool: MakePool, watchers: Watchers
) -> None:
    watchers.etcd.kill()
    watchers.registry.kill()
    pool = make_pool(fake("m"), registrars=watchers.registrars())
    assert pool.load("m")["state"] == "HOT"
    until(lambda: set(statuses(pool).values()) == {"failing"}, "their failure")
    assert pool.stop() == 0


def test_a_token_file_that_is_missing_stops_the_start(make_pool: MakePool, tmp_path: Path) -> None:
    entry = {"kind": "http", "token_file": str(tmp_path / "none")}
    (tmp_path / "wrong").mkdir()
    pool = PoolProcess(tmp_path / "wrong", registrars=[entry])
    run = pool.run("serve")
    assert run.returncode == 1
    assert "token_file" in run.stderr
    assert "Traceback" not in run.stderr
