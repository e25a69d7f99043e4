"""The key ``registrars``: what it takes, what it refuses and how, and that it shows no secret."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from modelpool.config import ConfigError, PoolConfig, load_config
from modelpool.registrars import kinds as registrars
from modelpool.registrars.registry import BadRegistrar, create
from modelpool.registrars.settings import RegistrarSettings
from support.registries import registry_client


def load(folder: Path, *entries: Any) -> PoolConfig:
    file = folder / "pool.json"
    file.write_text(json.dumps({"registrars": list(entries)}))
    return load_config(file, {})


def wrong(folder: Path, *entries: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, *entries)
    return [f"{e.key} {e.message}" for e in caught.value.errors]


def test_a_kind_is_enough(tmp_path: Path) -> None:
    config = load(tmp_path, {"kind": "http"}, {"kind": "etcd"}, {"kind": "consul"})
    assert [r.address for r in config.registrars] == [
        "http://127.0.0.1:6121",
        "http://127.0.0.1:2379",
        "http://127.0.0.1:8500",
    ]
    assert [r.names for r in config.registrars] == ["", "/modelpool", "modelpool"]
    assert {r.ttl_seconds for r in config.registrars} == {15}


def test_none_is_the_default_and_the_environment_may_name_them() -> None:
    assert PoolConfig().registrars == ()
    environ = {"MODELPOOL_REGISTRARS": '[{"kind": "etcd", "url": "https://e:1/"}]'}
    (entry,) = load_config(None, environ).registrars
    assert entry.address == "https://e:1"


def test_it_is_written_as_it_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, {"kind": "etcd", "token_file": "~/t", "prefix": "/x"})
    shown = config.as_dict()["registrars"]
    json.dumps(shown)
    assert load(tmp_path, *shown).registrars == config.registrars


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "zookeeper"}, "kind is no kind of registrar; there are consul, etcd, http"),
        ({}, "kind is required"),
        (3, "should be an object with kind, url, ttl_seconds, prefix, token_file"),
        ({"kind": "http", "ulr": "http://x"}, "ulr is unknown; did you mean url"),
        ({"kind": "http", "url": "localhost:6121"}, "url should be an address as http://host:port"),
        ({"kind": "http", "url": "ftp://x"}, "url should be an address"),
        ({"kind": "http", "url": "http://u:p@x"}, "url should hold no user or password"),
        ({"kind": "http", "url": "http://x?a=b"}, "url should be an address"),
        ({"kind": "http", "url": "http://x:y"}, "url should be an address"),
        ({"kind": "http", "ttl_seconds": 1}, "ttl_seconds should be greater than or equal to 2"),
        ({"kind": "http", "ttl_seconds": "9"}, "ttl_seconds should be a whole number"),
        ({"kind": "http", "prefix": "x"}, "prefix means nothing to a registrar of kind http"),
        ({"kind": "etcd", "prefix": ""}, "prefix String should have at least 1 character"),
        ({"kind": "etcd", "token_file": "~no-such-user/t"}, "token_file begins with the home of"),
        ({"kind": "etcd", "token_file": "token"}, "token_file should be a path that begins with"),
    ],
)
def test_one_thing_wrong(tmp_path: Path, entry: Any, message: str) -> None:
    (line,) = wrong(tmp_path, entry)
    assert line.startswith("registrars[0]")
    assert message in line


def test_one_registry_twice(tmp_path: Path) -> None:
    (line,) = wrong(tmp_path, {"kind": "http"}, {"kind": "http", "url": "http://127.0.0.1:6121/"})
    assert line.startswith("registrars http http://127.0.0.1:6121 stands there twice")
    two = load(tmp_path, {"kind": "etcd"}, {"kind": "etcd", "prefix": "/other"})
    assert len(two.registrars) == 2


def test_passwords_are_not_repeated(tmp_path: Path) -> None:
    (line,) = wrong(tmp_path, {"kind": "http", "url": "http://u:hunter2@x"})
    assert "hunter2" not in line


# -- the door for strangers -----------------------------------------------------------------


class Stranger:
    """A plug-in's registrar."""

    def __init__(self, settings: RegistrarSettings, pool_id: str, session: Any) -> None:
        self.settings, self.pool_id = settings, pool_id


def test_a_plug_in_enters_by_the_same_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", f"{__name__}:Stranger", registrars.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: (point,))
    (line,) = wrong(tmp_path, {"kind": "mine"})
    assert "url is needed for a registrar of kind mine" in line
    (entry,) = load(tmp_path, {"kind": "mine", "url": "http://x"}).registrars

    async def main() -> None:
        async with registry_client() as client:
            made = create(entry, "p", client)
            assert type(made).__name__ == "Stranger"

    asyncio.run(main())


def test_what_cannot_be_made_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = RegistrarSettings(kind="http", token_file=tmp_path / "no")
    point = EntryPoint("mine", "not_installed_at_all:Registrar", registrars.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: (point,))
    broken = RegistrarSettings(kind="mine", url="http://x")

    async def main() -> None:
        async with registry_client() as client:
            with pytest.raises(BadRegistrar, match=r"token_file .*/no cannot be read: No such"):
                create(missing, "p", client)
            with pytest.raises(BadRegistrar, match="'mine' cannot be loaded"):
                create(broken, "p", client)

    asyncio.run(main())
