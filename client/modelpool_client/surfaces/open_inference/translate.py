"""PURE. From a request of the Open Inference Protocol to what an engine that reads text is asked,
by the convention of Triton's vLLM and TensorRT-LLM backends, and who tells its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.open_inference.answers import (
    Generation,
    Head,
    Inference,
    embedding_outputs,
    text_outputs,
)
from modelpool_client.surfaces.open_inference.paths import Target, check_version, target_of
from modelpool_client.surfaces.open_inference.settings import Given, Settings, settings_of
from modelpool_client.surfaces.open_inference.tables import (
    BODIES,
    FINISH_REASON,
    GENERATE_STREAM,
    INFER,
    INPUTS,
    OUTPUTS,
    STOPS,
    TEXT_INPUT,
    VERSION,
    Kind,
)
from modelpool_client.surfaces.routes import EMBEDDINGS_PATH, TEXT_PATH
from modelpool_client.surfaces.schema import near
from modelpool_client.surfaces.schema_checks import checks
from modelpool_client.surfaces.translation import Told, Translation

_CHECKS = checks(BODIES)
_RAW = "binary_data_output"
_NUMERIC = frozenset({"BF16", "FP16", "FP32", "FP64"}) | {
    f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)
}


def translate(path: str, data: Mapping[str, Any], kind: Kind) -> Translation:
    """
    Args:
        path: of the request, one that ``paths.is_work`` is true of.
        data: its body; of an infer request, as ``codec.decode`` gives it.
        kind: of the model, see ``tables.kind_of_model`` and ``kind_of_engine``.

    Raises:
        InvalidRequest: with ``param``.
    """
    target = target_of(path)
    assert target is not None, path
    check_version(target)
    head = Head(target.model, VERSION, data.get("id"))
    if target.verb != INFER:
        return _generation(target, data, head, kind)
    return _embedding(data, head) if kind is Kind.EMBEDDING else _text(data, head)


def _text(data: Mapping[str, Any], head: Head) -> Inference:
    texts, tensors = _tensors(data["inputs"], Kind.TEXT)
    settings = settings_of(_parameters(data), tensors)
    if settings.stream:
        _refuse("stream", f"cannot be true here: ask .../{GENERATE_STREAM}")
    outputs = _wanted(data, Kind.TEXT)
    if settings.wants_reason and not data.get("outputs"):
        outputs[FINISH_REASON.name] = _is_raw(data, {})
    prefixes = [""] * len(texts) if settings.excludes_input else texts
    told = _told(settings, texts, stream=False)
    return Inference(told, head, outputs, text_outputs(prefixes))


def _embedding(data: Mapping[str, Any], head: Head) -> Inference:
    texts, _ = _tensors(data["inputs"], Kind.EMBEDDING)
    settings = settings_of(_parameters(data), {})
    if settings.stream:
        _refuse("stream", "cannot be true: embeddings come as a whole")
    body = {**settings.body, "input": texts, "encoding_format": "float"}
    told = Told(EMBEDDINGS_PATH, body, stream=False, ignored=settings.ignored)
    read = embedding_outputs(len(texts), settings.body.get("dimensions"))
    return Inference(told, head, _wanted(data, Kind.EMBEDDING), read)


def _generation(target: Target, data: Mapping[str, Any], head: Head, kind: Kind) -> Generation:
    _CHECKS[target.verb](data)
    if kind is not Kind.TEXT:
        text = f"{target.model} writes no text: ask it at .../{INFER}"
        raise InvalidRequest(text, param="model", code="missing_capability")
    own = {name: Given(name, v) for name, v in data.items() if name not in _OF_GENERATE}
    settings = settings_of(_parameters(data), own)
    is_stream = target.verb == GENERATE_STREAM
    if settings.stream and not is_stream:
        _refuse("stream", f"cannot be true here: ask .../{GENERATE_STREAM}")
    in_pieces = is_stream and settings.stream is not False
    if in_pieces and settings.excludes_input is False:
        _refuse("exclude_input_in_output", "cannot be false where the answer comes in pieces")
    is_excluded = in_pieces if settings.excludes_input is None else settings.excludes_input
    text = data[TEXT_INPUT.name]
    return Generation(
        _told(settings, text, stream=is_stream),
        head,
        "" if is_excluded else text,
        in_pieces=in_pieces,
        wants_reason=settings.wants_reason,
    )


_OF_GENERATE = frozenset({"id", "parameters", TEXT_INPUT.name})


def _told(settings: Settings, prompt: str | list[str], *, stream: bool) -> Told:
    body = {**settings.body, "prompt": prompt}
    return Told(TEXT_PATH, body, stream=stream, ignored=settings.ignored)


def _parameters(data: Mapping[str, Any]) -> dict[str, Any]:
    """Without the one that says how the answer is written, not what is computed."""
    given = data.get("parameters") or {}
    return {name: value for name, value in given.items() if name != _RAW}


def _tensors(inputs: Sequence[Mapping[str, Any]], kind: Kind) -> tuple[list[str], dict[str, Given]]:
    """The texts, and every other tensor as the value that it stands for."""
    known = INPUTS[kind]
    for i, tensor in enumerate(inputs):
        if tensor["name"] not in known:
            names = ", ".join(known)
            text = f"is {tensor['name'][:64]!r}, which is unknown{near(tensor['name'], known)}"
            _refuse(f"inputs[{i}].name", f"{text}; known are {names}")
        _check_datatype(tensor, known[tensor["name"]].datatype, f"inputs[{i}]")
    at = next((i for i, t in enumerate(inputs) if t["name"] == TEXT_INPUT.name), None)
    if at is None:
        _refuse("inputs", f"must hold {TEXT_INPUT.name}")
    texts = _texts(inputs[at], f"inputs[{at}]")
    others = {
        tensor["name"]: Given(f"inputs[{i}].data", _value(tensor, f"inputs[{i}]", len(texts)))
        for i, tensor in enumerate(inputs)
        if i != at
    }
    return texts, others


def _check_datatype(tensor: Mapping[str, Any], wanted: str, where: str) -> None:
    given = tensor["datatype"]
    is_number = wanted in _NUMERIC and given in _NUMERIC
    if given != wanted and not is_number:
        _refuse(f"{where}.datatype", f"is {given}, and {tensor['name']} is {wanted}")


def _texts(tensor: Mapping[str, Any], where: str) -> list[str]:
    shape = tensor["shape"]
    is_column = len(shape) == 2 and shape[1] == 1
    if not shape or not shape[0] or not (len(shape) == 1 or is_column):
        text = f"is {shape}, and {tensor['name']} needs [n] or [n, 1] with n of 1 or more"
        _refuse(f"{where}.shape", text)
    return _decoded(tensor["data"], where)


def _value(tensor: Mapping[str, Any], where: str, texts: int) -> Any:
    """One for all texts, however often it is said: they are asked for in one request."""
    data = tensor["data"]
    if tensor["datatype"] == "BYTES":
        data = _decoded(data, where)
    rows = [data]
    is_list = tensor["name"] in (*STOPS, "bad_words")
    per_text = len(tensor["shape"]) == 2 and tensor["shape"][0] == texts
    if is_list and per_text:
        size = tensor["shape"][1]
        rows = [data[i * size : (i + 1) * size] for i in range(texts)]
    elif not is_list:
        rows = [[element] for element in data]
    if not rows or any(row != rows[0] for row in rows[1:]):
        _refuse(f"{where}.data", "must be one value, the same for every text")
    return rows[0] if is_list else rows[0][0]


def _decoded(data: Sequence[bytes], where: str) -> list[str]:
    try:
        return [element.decode() for element in data]
    except UnicodeDecodeError as e:
        _refuse(f"{where}.data", f"is not valid UTF-8: {e.reason}")


def _wanted(data: Mapping[str, Any], kind: Kind) -> dict[str, bool]:
    """The outputs that a request wants, and whether they go raw."""
    known = OUTPUTS[kind]
    asked = data.get("outputs")
    if not asked:
        return {next(iter(known)): _is_raw(data, {})}
    for i, output in enumerate(asked):
        if output["name"] not in known:
            text = f"is {output['name'][:64]!r}, which is unknown; known are {', '.join(known)}"
            _refuse(f"outputs[{i}].name", text)
    return {output["name"]: _is_raw(data, output) for output in asked}


def _is_raw(data: Mapping[str, Any], output: Mapping[str, Any]) -> bool:
    own = (output.get("parameters") or {}).get("binary_data")
    return bool((data.get("parameters") or {}).get(_RAW) if own is None else own)


def _refuse(where: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{where} {why}", param=where)
