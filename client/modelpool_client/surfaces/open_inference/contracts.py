"""PURE. What the routes of the Open Inference Protocol look like."""

from __future__ import annotations

from collections.abc import Mapping

from modelpool_client.errors import (
    Conflict,
    InvalidModelId,
    InvalidRequest,
    LoadCancelled,
    LoadFailed,
    LoadTimeout,
    ModelNotFound,
    NotSupported,
)
from modelpool_client.surfaces.contract import (
    ANY_OBJECT,
    COUNT,
    EVENT_STREAM,
    FLAG,
    TEXT,
    Contract,
    Description,
    Management,
    holds,
    listed,
)
from modelpool_client.surfaces.failures import LOAD
from modelpool_client.surfaces.open_inference.tables import (
    BODIES,
    GENERATE,
    GENERATE_STREAM,
    INFER,
    NUMBERS,
    REFUSED,
    RENAMED,
    RESERVED,
    STOPS,
)
from modelpool_client.surfaces.parameter_rules import Rule, ignored, own, refused, told
from modelpool_client.surfaces.routes import (
    GENERATE_PATH,
    GENERATE_STREAM_PATH,
    INFER_PATH,
    TEXT_PATH,
)
from modelpool_client.surfaces.schema import nullable

_SETTINGS: Mapping[str, Rule] = {
    **{name: told(RENAMED.get(name, name), at=TEXT_PATH) for name in NUMBERS},
    **{name: told("stop", at=TEXT_PATH) for name in STOPS},
    **{name: refused("leave it out", *neutral) for name, neutral in REFUSED.items()},
    **{name: ignored("there is no such scheduler here") for name in sorted(RESERVED)},
    "exclude_input_in_output": own("the answer is without the prompt"),
    "return_finish_reason": own("the answer says why it ended"),
}
_TENSOR = holds(name=TEXT, datatype=TEXT, shape=listed({"type": "integer", "minimum": -1}))
_INFERRED = holds(model_name=TEXT, model_version=TEXT, outputs=listed(_TENSOR))
_GENERATED = holds(model_name=TEXT, model_version=TEXT, text_output=TEXT)
_OF_GENERATE: Mapping[str, Rule] = {
    "text_input": own("the prompt"),
    "id": own("given back"),
    "parameters": own("settings may stand there, too"),
    **_SETTINGS,
}

DESCRIPTION = Description(
    holds(error=TEXT),
    {
        INFER_PATH: Contract(
            _INFERRED,
            BODIES[INFER],
            summary="What a model makes of tensors: of text_input texts, or their embeddings",
            rules={
                "inputs": own("tensors, as JSON or raw; settings may be among them"),
                "outputs": own("those that are wanted, and whether raw"),
                "id": own("given back"),
                "parameters": own("settings"),
                **{f"parameters.{name}": rule for name, rule in _SETTINGS.items()},
            },
        ),
        GENERATE_PATH: Contract(
            _GENERATED, BODIES[GENERATE], summary="Continue a text", rules=_OF_GENERATE
        ),
        GENERATE_STREAM_PATH: Contract(
            _GENERATED,
            BODIES[GENERATE_STREAM],
            answer_type="",
            stream_type=EVENT_STREAM,
            summary="Continue a text bit by bit",
            rules=_OF_GENERATE,
        ),
    },
)


_OF_MODEL = (InvalidModelId, ModelNotFound, InvalidRequest)
_READY = holds(name=TEXT, ready=FLAG)
_NONE_NEEDED = {"type": "object"}
MANAGEMENT: Mapping[str, Management] = {
    "/v2": Management(
        "GET",
        Contract(holds(name=TEXT, version=TEXT, extensions=listed(TEXT)), summary="The server"),
    ),
    "/v2/health/live": Management("GET", Contract(holds(live=FLAG), summary="It lives")),
    "/v2/health/ready": Management("GET", Contract(holds(ready=FLAG), summary="It takes requests")),
    "/v2/models/{model}": Management(
        "GET",
        Contract(
            holds(name=TEXT, versions=listed(TEXT), platform=TEXT, inputs=listed(_TENSOR)),
            summary="A model and its tensors",
        ),
        _OF_MODEL,
    ),
    "/v2/models/{model}/ready": Management(
        "GET",
        Contract(_READY, summary="A request for it would be answered, if need be after a load"),
        (*_OF_MODEL, LoadFailed),
    ),
    "/v2/models/{model}/config": Management(
        "GET",
        Contract(
            holds(name=TEXT, platform=TEXT, max_batch_size=COUNT),
            summary="A model as Triton would be told of it",
        ),
        _OF_MODEL,
    ),
    "/v2/repository/index": Management(
        "POST",
        Contract(
            listed(holds(name=TEXT, version=TEXT, state=TEXT, reason=TEXT)),
            {"type": "object", "properties": {"ready": nullable(FLAG)}},
            summary="All models with their states",
        ),
    ),
    "/v2/repository/models/{model}/load": Management(
        "POST",
        Contract(ANY_OBJECT, _NONE_NEEDED, summary="Load a model; answered when it is HOT"),
        (*_OF_MODEL, NotSupported, *LOAD),
    ),
    "/v2/repository/models/{model}/unload": Management(
        "POST",
        Contract(ANY_OBJECT, _NONE_NEEDED, summary="Unload it; answered when its memory is back"),
        (*_OF_MODEL, NotSupported, Conflict, LoadCancelled, LoadTimeout),
    ),
}
