"""Whether a model fits on this machine, with which context and how many layers on the GPU."""

from __future__ import annotations

from modelpool.api.answers import Fits, FitsHow
from modelpool.catalog.entry_schema import GGUF_ENGINES
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.fitting import Room, device_layers, largest_context
from modelpool.catalog.footprint import Machine
from modelpool.catalog.llama_memory import DEFAULT_CONTEXT_LENGTH, parallel
from modelpool.catalog.model import Model
from modelpool.pool.admission import Requirements
from modelpool.pool.capacity import Capacity, Space
from modelpool.pool.pool import Pool
from modelpool.pool.status import ReplicaStatus


def fits_view(
    status: ReplicaStatus, need: Requirements, started: Model, capacity: Capacity
) -> Fits:
    """A model of ``GET /models``: ``started`` is it with the options that it would be started
    with. ``gpu_layers`` None: as many as there are, or no device has a budget."""
    is_there = status.state.has_worker and not status.is_leaving
    return {
        "verdict": "loaded" if is_there else capacity.verdict(need),
        "context_length": _context(started),
        "gpu_layers": _gpu_layers(started),
    }


def fits_how(status: ReplicaStatus, pool: Pool, estimator: Estimator) -> FitsHow:
    """The same with what else could be had: the largest context with these options, and the most
    layers on devices, in the room that is free now and in all that there is."""
    model, capacity = status.model, pool.capacity(without=status.model.model_id)
    started = pool.effective(model)
    short = fits_view(status, pool.requirements(model.model_id), started, capacity)
    now, ever = (_Most(started, estimator, space) for space in (capacity.now, capacity.could_ever))
    return {
        **short,
        "parallel": parallel(started.options) if started.engine in GGUF_ENGINES else None,
        "layers": started.facts.get("block_count"),
        "largest_context": ever.context,
        "largest_context_now": now.context,
        "most_gpu_layers": ever.layers,
        "most_gpu_layers_now": now.layers,
    }


class _Most:
    """What there is room for, of llama.cpp's models; None elsewhere."""

    def __init__(self, model: Model, estimator: Estimator, space: Space) -> None:
        reading, room = estimator.reading(model), estimator.room(model)
        self.context: int | None = None
        self.layers: int | None = None
        info = reading.info if reading is not None else None
        if info is None or room is None or model.engine not in GGUF_ENGINES:
            return
        devices = {device: space.devices[device] for device in room.machine.devices}
        free = Room(space.host, Machine(room.machine.processor, devices))
        self.context = largest_context(info, model.options, free)
        if devices:
            self.layers = device_layers(info, model.options, free)


def _context(started: Model) -> int | None:
    """Tokens of one request."""
    chosen = started.options.get("context_length")
    if isinstance(chosen, int):
        return chosen
    trained = started.context_length
    if started.engine not in GGUF_ENGINES:
        return trained
    return min(trained or DEFAULT_CONTEXT_LENGTH, DEFAULT_CONTEXT_LENGTH)


def _gpu_layers(started: Model) -> int | None:
    chosen = started.options.get("gpu_layers")
    return chosen if isinstance(chosen, int) else None
