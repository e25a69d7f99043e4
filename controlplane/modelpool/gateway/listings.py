"""The JSON of every model of the catalog, kept for the next who asks for the list of them all.

Clients of OpenAI and Ollama want the whole list, however long it is, and some ask every few
seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from secrets import token_hex

from modelpool_client.http1.exchange import JSON_TYPE, Exchange

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.pool.pool import Pool
from modelpool.pool.states import State

Encode = Callable[[Model, State], bytes]


class Listing:
    """What ``encode`` makes of each model that the pool has, by id.

    It is asked only about models that are others than the last time, or in another state; of a
    large catalog few ever leave ``COLD``. ``others`` is another number when what else is told of
    any of them has changed.
    """

    def __init__(
        self, catalog: Catalog, pool: Pool, encode: Encode, others: Callable[[], int] = lambda: 0
    ) -> None:
        self._catalog = catalog
        self._pool = pool
        self._encode = encode
        self._run, self._serial = token_hex(4), 0
        self._others = others
        self._edition = (-1, -1, -1)
        self._models: dict[str, Model] = {}
        self._encoded: dict[str, bytes] = {}
        self._states: dict[str, State] = {}

    def __repr__(self) -> str:
        return f"<Listing of {len(self._models)} models>"

    def renew(self) -> str:
        """Take in what has changed; another text than the last time where anything has."""
        states = {model_id: self._pool.state(model_id) for model_id in self._pool.awake_models}
        edition = (self._catalog.edition, self._pool.edition, self._others())
        if (edition, states) != (self._edition, self._states):
            self._serial += 1
            self._take(edition, states)
        return f"{self._run}-{self._serial}"

    @property
    def parts(self) -> list[tuple[Model, bytes]]:
        """The models that are listed, by id, each with its JSON."""
        return [(model, self._encoded[model_id]) for model_id, model in self._models.items()]

    def _take(self, edition: tuple[int, int, int], states: dict[str, State]) -> None:
        if self._edition != edition:
            if self._edition[2] != edition[2]:
                self._models = {}
            self._edition = edition
            self._renew_all(states)
        else:
            for model_id in {model_id for model_id, _ in states.items() ^ self._states.items()}:
                if model_id in self._models:
                    state = states.get(model_id, State.COLD)
                    self._encoded[model_id] = self._encode(self._models[model_id], state)
        self._states = states

    def _renew_all(self, states: dict[str, State]) -> None:
        models, encoded, before = self._models, self._encoded, self._states
        self._models = {m.model_id: m for m in self._catalog.list() if self._pool.has(m.model_id)}
        self._encoded = {}
        for model_id, model in self._models.items():
            now = states.get(model_id, State.COLD)
            is_same = models.get(model_id) is model and before.get(model_id, State.COLD) is now
            self._encoded[model_id] = encoded[model_id] if is_same else self._encode(model, now)


def send(exchange: Exchange, tag: str, body: Callable[[], bytes]) -> None:
    """The list, or that it is the one that the client has: ``tag`` is another for another list."""
    etag = f'"{tag}"'.encode()
    if etag in exchange.request.fields.get(b"if-none-match", b""):
        exchange.send(304, [(b"etag", etag)], b"")
    else:
        exchange.send(200, [JSON_TYPE, (b"etag", etag)], body())


def encoded(value: object) -> bytes:
    """As JSON."""
    return json.dumps(value).encode()
