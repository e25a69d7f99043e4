"""What is asked of a job, read by a schema. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from modelpool_client.errors import InvalidRequest
from pydantic import BaseModel, ValidationError

T = TypeVar("T", bound=BaseModel)


def parsed(schema: type[T], data: Mapping[str, Any]) -> T:
    """The request as the schema has it.

    Raises:
        InvalidRequest: naming the first key that is wrong, with every error in ``details``.
    """
    try:
        return schema.model_validate(dict(data))
    except ValidationError as e:
        errors = [(".".join(map(str, each["loc"])), each["msg"]) for each in e.errors()]
        param = str(e.errors()[0]["loc"][0]) if e.errors()[0]["loc"] else None
        text = "; ".join(f"{name}: {message}" for name, message in errors)
        details = {"errors": [{"param": name, "message": message} for name, message in errors]}
        raise InvalidRequest(text, param=param, details=details) from None
