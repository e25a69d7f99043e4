"""PURE. The bodies of the Open Inference Protocol that are about server and models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.open_inference.tables import INPUTS, OUTPUTS, VERSION, Kind, Tensor
from modelpool_client.surfaces.schema import Schema, check, nullable

SERVER_NAME = "modelpool"
# Triton's names of what is here beyond the protocol itself.
EXTENSIONS = (
    "binary_tensor_data",
    "generate",
    "model_configuration",
    "model_repository",
    "parameters",
)
INDEX, LOAD, UNLOAD = "index", "load", "unload"
_PARAMETERS: Schema = nullable({"type": "object"})
# Of the repository's requests; all of them may be left out.
REPOSITORY_BODIES: Mapping[str, Schema] = {
    INDEX: {"type": "object", "properties": {"ready": nullable({"type": "boolean"})}},
    LOAD: {"type": "object", "properties": {"parameters": _PARAMETERS}},
    UNLOAD: {"type": "object", "properties": {"parameters": _PARAMETERS}},
}
# Triton's word for each of our states.
STATES: Mapping[str, str] = {
    "COLD": "UNAVAILABLE",
    "WARMING": "LOADING",
    "HOT": "READY",
    "COOLING": "READY",
    "UNLOADING": "UNLOADING",
    "FAILED": "UNAVAILABLE",
}


def server_metadata(version: str) -> dict[str, Any]:
    """``GET /v2``."""
    return {"name": SERVER_NAME, "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(
    name: str, versions: Sequence[str], platform: str, kind: Kind | None
) -> dict[str, Any]:
    """``GET /v2/models/{name}``; a model that reads no text has no tensors that are known."""
    return {
        "name": name,
        "versions": list(versions),
        "platform": platform,
        "inputs": [tensor.body() for tensor in _inputs(kind)],
        "outputs": [tensor.body() for tensor in _outputs(kind)],
    }


def model_config(name: str, platform: str, kind: Kind | None) -> dict[str, Any]:
    """``GET /v2/models/{name}/config``: of Triton's ModelConfig what has a meaning here.

    ``max_batch_size`` is 0: shapes are told whole, the number of texts among them.
    """
    return {
        "name": name,
        "platform": platform,
        "backend": platform,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [{**_configured(t), "optional": t.is_optional} for t in _inputs(kind)],
        "output": [_configured(t) for t in _outputs(kind)],
        "model_transaction_policy": {"decoupled": False},
    }


@dataclass(frozen=True)
class Entry:
    """A model in the index; ``state`` in our words, ``reason`` why it is in it."""

    name: str
    state: str
    reason: str

    @property
    def is_ready(self) -> bool:
        """It is loaded and answers."""
        return STATES[self.state] == "READY"

    def body(self) -> dict[str, Any]:
        """In Triton's words; who is ready has no reason."""
        reason = "" if self.is_ready else self.reason
        return {
            "name": self.name,
            "version": VERSION,
            "state": STATES[self.state],
            "reason": reason,
        }


def repository_index(entries: Iterable[Entry], *, ready: bool = False) -> list[dict[str, Any]]:
    """``POST /v2/repository/index``; with ``ready`` only models that are loaded."""
    return [entry.body() for entry in entries if entry.is_ready or not ready]


def wants_ready(data: Mapping[str, Any]) -> bool:
    """Whether a request for the index wants only models that are loaded.

    Raises:
        InvalidRequest: it is none.
    """
    check(REPOSITORY_BODIES[INDEX], data)
    return data.get("ready") is True


def ignored_parameters(verb: str, data: Mapping[str, Any]) -> tuple[str, ...]:
    """Of a request to load or unload: names of those that have no meaning here.

    Raises:
        InvalidRequest: it is none, or wants the model loaded otherwise than the catalog has it.
    """
    check(REPOSITORY_BODIES[verb], data)
    given = data.get("parameters") or {}
    for name, value in given.items():
        if verb == LOAD and value is not None and (name == "config" or name.startswith("file:")):
            shown = f"parameters.{name[:64]}"
            text = f"{shown} is refused: options and files belong to the model, not to a load"
            raise InvalidRequest(f"{text}; change its entry in the catalog", param=shown)
    return tuple(sorted(name for name, value in given.items() if value not in (None, False)))


def _inputs(kind: Kind | None) -> Iterable[Tensor]:
    return () if kind is None else INPUTS[kind].values()


def _outputs(kind: Kind | None) -> Iterable[Tensor]:
    return () if kind is None else OUTPUTS[kind].values()


def _configured(tensor: Tensor) -> dict[str, Any]:
    """Triton's configurations call BYTES TYPE_STRING."""
    word = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{word}", "dims": list(tensor.shape)}
