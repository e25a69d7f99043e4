"""What others write beside and between our entries keeps no registrar from its work."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
import pytest
from modelpool.registrars.client import RegistryClient
from modelpool.registrars.record import Record, read_record
from modelpool.registrars.registry import create
from modelpool.registrars.settings import RegistrarSettings
from support.registries import POOL, Servers, record, registry_client
from support.servers import needs


def found(kind: str, document: object) -> dict[str, Record | None]:
    """What is made of one document, which answers every call."""

    async def main() -> dict[str, Record | None]:
        told = httpx.MockTransport(lambda _: httpx.Response(200, json=document))
        async with registry_client() as client, httpx.AsyncClient(transport=told) as http:
            client._client = http
            made = create(RegistrarSettings(kind=kind), POOL, client)
            return dict(await made.find())

    return asyncio.run(main())


def registered(**values: Any) -> dict[str, Any]:
    labels = record("a").as_dict()
    return {"service_id": labels.pop("id"), "url": record("a").url, "labels": labels} | values


def test_entries_of_the_registry_without_labels() -> None:
    strange = [{}, {"labels": None}, {"labels": "x"}, {"labels": []}, {"labels": {"pool": "other"}}]
    assert found("http", {"items": [*strange, registered()]}) == {"a": record("a")}


@pytest.mark.parametrize(
    "values",
    [
        {"url": None},
        {"labels": {"pool": POOL}},
        {"labels": {**registered()["labels"], "host": 5}},
        {"labels": {**registered()["labels"], "port": None}},
        {"labels": {**registered()["labels"], "aliases": [[]]}},
    ],
)
def test_an_entry_of_ours_that_is_spoilt_is_written_anew(values: dict[str, Any]) -> None:
    assert found("http", {"items": [registered(**values)]}) == {"a": None}
    without_url = {k: v for k, v in registered().items() if k != "url"}
    assert found("http", {"items": [without_url]}) == {"a": None}


def test_services_of_consul_that_are_none_of_ours() -> None:
    strange = {"x": {}, "y": {"Service": "modelpool"}, "z": {"Service": "modelpool", "Meta": None}}
    spoilt = {"ID": "a", "Service": "modelpool", "Meta": {"pool": POOL}}
    assert found("consul", {**strange, "a": spoilt}) == {"a": None}


@pytest.mark.parametrize("key", ["port", "host", "aliases"])
def test_what_we_would_not_have_written_is_no_record(key: str) -> None:
    data = record("a").as_dict()
    assert read_record(data) == record("a")
    for value in (None, True, 1.5, {}, [1]):
        assert read_record(data | {key: value}) is None


@needs("etcd")
def test_keys_of_etcd_that_hold_nothing(servers: Servers) -> None:
    async def main() -> None:
        url = servers.url("etcd")
        async with registry_client() as client:
            made = create(RegistrarSettings(kind="etcd", url=url), POOL, client)
            for name, value in (("empty", ""), ("deep", "[" * 100_000), ("list", "[]")):
                await put(client, url, f"/modelpool/{POOL}/workers/{name}", value)
            assert await made.find() == dict.fromkeys(("deep", "empty", "list"))
            for name in await made.find():
                await made.remove(name)

    asyncio.run(main())


async def put(client: RegistryClient, url: str, key: str, value: str) -> None:
    body = {k: base64.b64encode(v.encode()).decode() for k, v in (("key", key), ("value", value))}
    answer = await client.http.post(f"{url}/v3/kv/put", json=body)
    assert answer.status_code == 200
