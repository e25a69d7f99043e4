"""etcd 3.4 and later, through its JSON gateway: one lease, one key per worker.

Keys are ``PREFIX/POOL/workers/ID``, values the record as JSON. Whoever renews no lease, such as a
manager that was killed, loses its keys by itself.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .base import Refused, RegistrarFailed
from .client import RegistryClient
from .json_api import JsonApi
from .record import Record, read_record
from .settings import RegistrarSettings

UNAUTHENTICATED = 401


class EtcdRegistrar:
    """An entry under another lease than ours counts as one to be written anew: it is a former
    manager's, and goes when that lease does."""

    def __init__(self, settings: RegistrarSettings, pool_id: str, client: RegistryClient) -> None:
        self._ttl = settings.ttl_seconds
        self._folder = f"{settings.names.rstrip('/')}/{pool_id}/workers/"
        self._user, _, self._password = (settings.secret() or "").partition(":")
        self._api = JsonApi(client, settings.address)
        self._lease: str | None = None

    async def find(self) -> Mapping[str, Record | None]:
        """Renews the lease, too, or takes a new one where it is gone: with it went its keys."""
        if not await self._is_renewed():
            await self._take_lease()
        span = {"key": _code(self._folder), "range_end": _code(_after(self._folder))}
        found = await self._call("/v3/kv/range", span)
        return {
            _decode(entry["key"]).removeprefix(self._folder): self._record(entry)
            for entry in found.get("kvs", ())
        }

    async def _take_lease(self) -> None:
        granted = await self._call("/v3/lease/grant", {"TTL": self._ttl})
        self._lease = str(granted["ID"])

    async def _is_renewed(self) -> bool:
        if self._lease is None:
            return False
        reply = await self._call("/v3/lease/keepalive", {"ID": self._lease})
        return "TTL" in reply.get("result", {})

    def _record(self, entry: Mapping[str, str]) -> Record | None:
        if entry.get("lease") != self._lease:
            return None
        try:
            # It leaves out what is empty.
            return read_record(json.loads(_decode(entry.get("value", ""))))
        except (ValueError, RecursionError):
            return None

    async def put(self, record: Record) -> None:
        if self._lease is None:
            await self._take_lease()
        value = json.dumps(record.as_dict())
        key = _code(self._folder + record.id)
        await self._call("/v3/kv/put", {"key": key, "value": _code(value), "lease": self._lease})

    async def keep(self, records: Sequence[Record]) -> None:
        """Nothing is left to do: ``find`` has renewed the lease that they share."""

    async def remove(self, record_id: str) -> None:
        await self._call("/v3/kv/deleterange", {"key": _code(self._folder + record_id)})

    async def _call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Tokens of etcd expire: one that is not taken is renewed, once."""
        if self._user and "authorization" not in self._api.headers:
            await self._log_in()
        status, reply = await self._api.call("POST", path, body, also=(UNAUTHENTICATED,))
        if status == UNAUTHENTICATED and self._user:
            await self._log_in()
            status, reply = await self._api.call("POST", path, body, also=(UNAUTHENTICATED,))
        if status == UNAUTHENTICATED:
            raise Refused(f"etcd wants a user for {path}: set token_file to a file USER:PASSWORD")
        if not isinstance(reply, dict):
            raise RegistrarFailed(f"{path}: that is no answer of etcd: {reply!r}")
        return reply

    async def _log_in(self) -> None:
        self._api.headers.pop("authorization", None)
        who = {"name": self._user, "password": self._password}
        _, reply = await self._api.call("POST", "/v3/auth/authenticate", who)
        self._api.headers["authorization"] = str(reply["token"])


def _code(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decode(text: str) -> str:
    return base64.b64decode(text).decode(errors="replace")


def _after(folder: str) -> str:
    """The first key behind all that begin with ``folder``, which ends in an ASCII character."""
    return folder[:-1] + chr(ord(folder[-1]) + 1)
