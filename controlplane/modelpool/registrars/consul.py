"""Consul, through the agent of this machine: a service with a TTL check per worker.

Written to its documentation and tested against a strict fake of these calls, not against a real
agent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .client import RegistryClient
from .json_api import JsonApi
from .record import Record, read_record
from .settings import RegistrarSettings

# A value of Meta may have 512 bytes, so lists are tags: alias=NAME, capability=WORD.
LISTS = {"aliases": "alias", "capabilities": "capability"}
OWN_FIELDS = ("id", "host", "port")
# The agent removes no critical service earlier.
LEAST_REMOVAL_SECONDS = 60


class ConsulRegistrar:
    """``prefix`` is the service's name, the worker's id the service's id; the rest is in Meta."""

    def __init__(self, settings: RegistrarSettings, pool_id: str, client: RegistryClient) -> None:
        self._pool_id = pool_id
        self._service = settings.names
        self._ttl = settings.ttl_seconds
        token = settings.secret()
        headers = {"x-consul-token": token} if token else {}
        self._api = JsonApi(client, settings.address, headers)

    async def find(self) -> Mapping[str, Record | None]:
        _, services = await self._api.call("GET", "/v1/agent/services")
        return {s["ID"]: _record(s) for s in services.values() if self._is_ours(s)}

    def _is_ours(self, service: Mapping[str, Any]) -> bool:
        meta = service.get("Meta") or {}
        return service.get("Service") == self._service and meta.get("pool") == self._pool_id

    async def put(self, record: Record) -> None:
        removal = max(LEAST_REMOVAL_SECONDS, 3 * self._ttl)
        fields = {k: v for k, v in record.as_dict().items() if k not in OWN_FIELDS}
        lists = {name: fields.pop(name) for name in LISTS}
        body = {
            "ID": record.id,
            "Name": self._service,
            "Address": record.host,
            "Port": record.port,
            "Tags": [f"model={record.model}", *_tags(lists)],
            "Meta": fields,
            "Check": {
                "TTL": f"{self._ttl}s",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": f"{removal}s",
            },
        }
        await self._api.call("PUT", "/v1/agent/service/register", body)

    async def keep(self, records: Sequence[Record]) -> None:
        for record in records:
            path = f"/v1/agent/check/update/service:{quote(record.id, safe='')}"
            beat = {"Status": "passing", "Output": record.state}
            status, _ = await self._api.call("PUT", path, beat, also=(404,))
            if status == 404:  # the agent has lost it
                await self.put(record)

    async def remove(self, record_id: str) -> None:
        path = f"/v1/agent/service/deregister/{quote(record_id, safe='')}"
        await self._api.call("PUT", path, also=(404,))


def _tags(lists: Mapping[str, Iterable[str]]) -> list[str]:
    return [f"{LISTS[name]}={value}" for name, values in lists.items() for value in values]


def _record(service: Mapping[str, Any]) -> Record | None:
    pairs = [tag.partition("=") for tag in service.get("Tags") or ()]
    lists = {name: [value for key, _, value in pairs if key == tag] for name, tag in LISTS.items()}
    own = {"id": service["ID"], "host": service.get("Address"), "port": service.get("Port")}
    return read_record({**service["Meta"], **lists, **own})
