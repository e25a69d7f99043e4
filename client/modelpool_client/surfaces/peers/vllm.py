"""PURE. ``/score`` of vLLM: how well pairs of texts go together, by a model that ranks, or as the
cosine of their embeddings."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.contract import (
    COUNT,
    TEXT,
    Contract,
    Description,
    constant,
    holds,
    listed,
)
from modelpool_client.surfaces.embeddings import MOST_INPUTS
from modelpool_client.surfaces.parameter_rules import LOAD_OPTION, LOAD_OPTIONS, Rule, ignored, own
from modelpool_client.surfaces.routes import EMBEDDINGS_PATH, RERANK_PATH, SCORE_PATH
from modelpool_client.surfaces.schema import Schema, nullable
from modelpool_client.surfaces.schema_checks import checks
from modelpool_client.surfaces.translation import Told
from modelpool_client.surfaces.whole import Whole, vectors

_TEXT: Schema = {"type": "string", "minLength": 1}
_TEXTS: Schema = nullable(
    {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "maxItems": MOST_INPUTS, "items": _TEXT}]}
)
# What the two sides were, and are, called.
_NAMES = (("text_1", "text_2"), ("queries", "documents"), ("data_1", "data_2"))
BODY: Schema = {
    "type": "object",
    "properties": {
        "model": nullable({"type": "string"}),
        **{name: _TEXTS for pair in _NAMES for name in pair},
        "truncate_prompt_tokens": nullable({"type": "integer"}),
        "user": nullable({"type": "string"}),
        "priority": nullable({"type": "integer"}),
    },
    "anyOf": [{"required": list(pair)} for pair in _NAMES],
}
RULES: Mapping[str, Rule] = {
    "model": own("says which model"),
    **{name: own("a text, or a list of them") for pair in _NAMES for name in pair},
    "truncate_prompt_tokens": ignored("nothing is cut off a request"),
    "user": own("requests of one user go to the same copy of a model"),
    "priority": ignored("the header X-Priority says so here"),
    **dict.fromkeys(sorted(LOAD_OPTIONS), LOAD_OPTION),
}
DESCRIPTION = Description(
    holds(error=holds(message=TEXT)),
    {
        SCORE_PATH: Contract(
            holds(
                id=TEXT,
                object=constant("list"),
                created=COUNT,
                model=TEXT,
                data=listed(holds(index=COUNT, object=constant("score"), score={"type": "number"})),
                usage=holds(prompt_tokens=COUNT, total_tokens=COUNT),
            ),
            BODY,
            summary="Say how well texts go together, as vLLM does",
            rules=RULES,
        )
    },
)
_CHECK = checks({SCORE_PATH: {k: v for k, v in BODY.items() if k != "anyOf"}})[SCORE_PATH]


def translate(
    data: Mapping[str, Any], serves: Collection[str], clock: Callable[[], float]
) -> Whole:
    """
    Args:
        serves: the paths that the engine answers; nothing: not known.
        clock: unix seconds.

    Raises:
        InvalidRequest: with ``param``.
    """
    _CHECK(data)
    given = {name: value for name, value in data.items() if value is not None}
    names = next((pair for pair in _NAMES if all(name in given for name in pair)), None)
    if names is None:
        missing = "text_2" if "text_1" in given else "text_1"
        _refuse(missing, "is required: what is to be compared is said in text_1 and text_2")
    left, right = (_listed(given[name]) for name in names)
    if len(left) not in (1, len(right)):
        _refuse(names[0], f"must be one text, or as many as {names[1]} has, {len(right)}")
    unknown = {name for name in given if name not in BODY["properties"]}
    others = {name for pair in _NAMES if pair != names for name in pair}
    no_use = {"truncate_prompt_tokens", "priority"} | others
    ignored = tuple(sorted(unknown | no_use & given.keys()))
    head = {"created": int(clock()), "model": str(given.get("model") or "")}
    if RERANK_PATH in serves or EMBEDDINGS_PATH not in serves:
        return _ranked(left, right, names[0], ignored, head)
    return _compared(left, right, ignored, head)


def _ranked(
    left: Sequence[str],
    right: Sequence[str],
    name: str,
    ignored: tuple[str, ...],
    head: Mapping[str, Any],
) -> Whole:
    if any(text != left[0] for text in left):
        _refuse(name, "must be one text: a model that ranks is asked about one at a time")
    body = {"query": left[0], "documents": list(right), "top_n": len(right)}

    def tell(answer: dict[str, Any]) -> dict[str, Any]:
        found = sorted(answer.get("results") or (), key=lambda item: item["index"])
        return _scores([item["relevance_score"] for item in found], answer, head)

    return Whole(Told(RERANK_PATH, body, stream=False, ignored=ignored), tell)


def _compared(
    left: Sequence[str], right: Sequence[str], ignored: tuple[str, ...], head: Mapping[str, Any]
) -> Whole:
    texts = [*left, *right]
    body = {"input": texts, "encoding_format": "float"}

    def tell(answer: dict[str, Any]) -> dict[str, Any]:
        found = vectors(answer, len(texts))
        first, second = found[: len(left)], found[len(left) :]
        pairs = zip(first * len(second) if len(first) == 1 else first, second, strict=True)
        return _scores([_cosine(a, b) for a, b in pairs], answer, head)

    return Whole(Told(EMBEDDINGS_PATH, body, stream=False, ignored=ignored), tell)


def _scores(
    scores: Sequence[float], answer: Mapping[str, Any], head: Mapping[str, Any]
) -> dict[str, Any]:
    tokens = (answer.get("usage") or {}).get("prompt_tokens", 0)
    return {
        "id": f"score-{uuid.uuid4().hex}",
        "object": "list",
        **head,
        **({"model": answer["model"]} if answer.get("model") else {}),
        "data": [{"index": i, "object": "score", "score": s} for i, s in enumerate(scores)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    length = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _refuse(where: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{where} {why}", param=where)
