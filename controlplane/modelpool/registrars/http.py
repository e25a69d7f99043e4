"""The PAS registry on port 6121: register, heartbeat, deregister, discover.

Its documents name the calls and not their shapes; those are of its own source, ``registry_service``
in the author's public repository, and ``server.py`` here answers to the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .client import RegistryClient
from .json_api import JsonApi
from .record import Record, read_record
from .settings import RegistrarSettings

# The registry takes no longer ones; labels.model has the whole id.
LONGEST_NAME = 100
# Its own word for what a model can do; ours follow.
INFER = "infer"


class HttpRegistrar:
    """Each worker is a service of type ``model``; its record is in ``labels``."""

    def __init__(self, settings: RegistrarSettings, pool_id: str, client: RegistryClient) -> None:
        self._pool_id = pool_id
        self._ttl = settings.ttl_seconds
        token = settings.secret()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._api = JsonApi(client, settings.address, headers)

    async def find(self) -> Mapping[str, Record | None]:
        _, body = await self._api.call("GET", "/discover", params={"type": "model"})
        ours = filter(self._is_ours, body["items"])
        return {item["service_id"]: self._record(item) for item in ours}

    def _is_ours(self, item: Mapping[str, Any]) -> bool:
        """What others registered may lack, or have in another shape, whatever is not asked for."""
        labels = item.get("labels")
        return isinstance(labels, Mapping) and labels.get("pool") == self._pool_id

    def _record(self, item: Mapping[str, Any]) -> Record | None:
        record = read_record({**item["labels"], "id": item["service_id"]})
        is_right = record is not None and item.get("url") == record.url
        return record if is_right else None

    async def put(self, record: Record) -> None:
        body = self._registration(record)
        status, _ = await self._api.call("POST", "/register", body, also=(400,))
        if status == 400:  # it has that id and replaces nothing
            await self.remove(record.id)
            await self._api.call("POST", "/register", body)

    def _registration(self, record: Record) -> dict[str, Any]:
        labels = record.as_dict()
        return {
            "service_id": labels.pop("id"),
            "name": record.model[:LONGEST_NAME],
            "type": "model",
            "role": "production",
            "url": record.url,
            "caps": [INFER, *record.capabilities],
            "labels": labels,
            "heartbeat_interval_s": max(1, self._ttl // 3),
            "ttl_s": self._ttl,
        }

    async def keep(self, records: Sequence[Record]) -> None:
        for record in records:
            beat = {"service_id": record.id, "status": "ok"}
            status, _ = await self._api.call("PUT", "/heartbeat", beat, also=(404,))
            if status == 404:
                await self.put(record)

    async def remove(self, record_id: str) -> None:
        await self._api.call("POST", "/deregister", {"service_id": record_id}, also=(404,))
