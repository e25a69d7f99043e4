"""``/v2/models/{model}/infer`` of a ``TensorModel``; requests that fit together in one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client.http1.exchange import Exchange
from modelpool_client.surfaces.routes import INFER_PATH

from modelpool_worker.batching.queue import PRIORITY, priority_in
from modelpool_worker.batching.runner import Batcher

from .contract import Tensor, TensorModel, TensorSpec
from .surface import Batches, Work
from .tensor_codec import InferRequest, decode_infer, encode_infer, joined, parted

METADATA_PATH = "/v2/models"


class TensorSurface:
    """Answers for one model."""

    work = "tensors"

    def __init__(self, name: str, model: TensorModel, batches: Batches, work: Work) -> None:
        self._name = name
        self._model = model
        self._work = work
        self._batcher: Batcher[InferRequest, Sequence[Tensor]] = batches.batcher(
            self._infer, "infer"
        )
        self.meter = self._batcher
        self.raw_routes = {INFER_PATH: self.infer}

    async def infer(self, exchange: Exchange, body: bytes) -> None:
        """Answer a request."""
        fields, model = exchange.request.fields, self._model
        request = await self._work.prepare(decode_infer, fields, body, model.inputs, model.outputs)
        priority = priority_in(fields.get(PRIORITY, b""))
        (outputs,) = await self._batcher.submit([request], priority)
        headers, told = await self._work.prepare(encode_infer, self._name, request, outputs)
        exchange.send(200, headers, told)

    def metadata(self) -> dict[str, Any]:
        """What goes in and what comes out."""
        return {
            "inputs": [_told(spec) for spec in self._model.inputs],
            "outputs": [_told(spec) for spec in self._model.outputs],
        }

    def _infer(self, batch: Sequence[InferRequest]) -> list[Sequence[Tensor]]:
        answers: dict[int, Sequence[Tensor]] = {}
        for group in self._groups(batch):
            found = self._together([batch[i] for i in group])
            answers |= dict(zip(group, found, strict=True))
        return [answers[i] for i in range(len(batch))]

    def _groups(self, batch: Sequence[InferRequest]) -> list[list[int]]:
        """Those that can be joined: they differ in the first size of their inputs only."""
        groups: dict[Any, list[int]] = {}
        for i, request in enumerate(batch):
            key: Any = i
            if self._model.is_batched:
                shapes = {n: tuple(t.shape[1:]) for n, t in request.inputs.items()}
                rows = {t.shape[0] for t in request.inputs.values() if t.shape}
                if len(rows) == 1:
                    key = (tuple(sorted(shapes.items())), tuple(request.outputs))
            groups.setdefault(key, []).append(i)
        return list(groups.values())

    def _together(self, requests: Sequence[InferRequest]) -> list[Sequence[Tensor]]:
        names = list(requests[0].outputs)
        if len(requests) == 1:
            return [self._model.infer(requests[0].inputs, names)]
        rows = [next(iter(r.inputs.values())).shape[0] for r in requests]
        outputs = self._model.infer(joined([r.inputs for r in requests]), names)
        parts = [parted(tensor, rows) for tensor in outputs]
        return [[part[i] for part in parts] for i in range(len(requests))]


def _told(spec: TensorSpec) -> Mapping[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
