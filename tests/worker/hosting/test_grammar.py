"""Whatever a model says within its constraint follows the schema."""

from __future__ import annotations

import json
import random

import jsonschema
import pytest
from modelpool_client.errors import EngineFailed, InvalidRequest
from modelpool_worker.hosting.grammar import Grammars
from support.toy_models import END, VOCABULARY

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
GRAMMARS = Grammars(VOCABULARY)


@pytest.mark.parametrize("seed", range(20))
def test_random_tokens_become_an_answer(seed: int) -> None:
    choose, constraint, said = random.Random(seed), GRAMMARS.of_schema(SCHEMA), b""
    while True:
        mask = constraint.mask()
        allowed = [i for i in range(END + 1) if mask[i // 8] >> (i % 8) & 1]
        ending = [i for i in allowed if i == END or i in b'"}],0']
        token = choose.choice(ending if ending and choose.random() < 0.5 else allowed)
        constraint.accept(token)
        if token == END:
            break
        said += VOCABULARY.tokens[token]
    jsonschema.validate(json.loads(said), SCHEMA)


def test_what_cannot_be_followed_is_told() -> None:
    with pytest.raises(InvalidRequest, match="response_format"):
        GRAMMARS.of_schema({"type": "nonsense"})
    constraint = GRAMMARS.of_schema(SCHEMA)
    with pytest.raises(EngineFailed, match="left its grammar"):
        constraint.accept(ord("x"))
