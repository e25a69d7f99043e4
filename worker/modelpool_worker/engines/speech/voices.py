"""PURE. Names of voices, for all engines that speak."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from modelpool_client.errors import InvalidRequest, LoadFailed
from modelpool_client.surfaces.routes import SPEECH_PATH, VOICES_PATH
from modelpool_client.surfaces.schema import Schema

SURFACES = (SPEECH_PATH, VOICES_PATH)
HONOURS: Mapping[str, Collection[str]] = {SPEECH_PATH: ("response_format", "speed", "voice")}

VOICE = "voice"
ALIASES = "voices"
OPTIONS: Mapping[str, Schema] = {
    ALIASES: {
        "type": "object",
        "additionalProperties": {"type": "string", "minLength": 1},
        "description": "more names for voices, as clients ask for them: name to voice",
    },
}


def voice(description: str, **more: object) -> Schema:
    """The option for requests that name no voice."""
    return {"type": "string", "minLength": 1, "description": description, **more}


def chosen(
    asked: str, default: str, known: Collection[str], aliases: Mapping[str, str] | None = None
) -> str:
    """The voice that a request means: one that is known, by its name or another.

    Args:
        asked: what the request says; empty for ``default``.

    Raises:
        InvalidRequest: there is none of that name; the text names near ones.
    """
    name = (aliases or {}).get(asked, asked) or default
    if name in known:
        return name
    near = difflib.get_close_matches(name, [*known, *(aliases or {})], 5, 0.5)
    hint = f"; near it are {', '.join(near)}" if near else ""
    text = f"voice {name[:100]!r} is not known to this engine{hint}; GET {VOICES_PATH}?model=NAME "
    text += f"lists all, and the load option {ALIASES} gives them more names"
    raise InvalidRequest(text, param=VOICE, source="engine")


@contextmanager
def of_options(engine: str) -> Iterator[None]:
    """Within it a voice that is not known is one that the load options name.

    Raises:
        LoadFailed: ``bad_config``: there is none of that name.
    """
    try:
        yield
    except InvalidRequest as e:
        text = f"{engine}: options.{VOICE}: {e.message}"
        raise LoadFailed(text, code="bad_config", source="engine") from None
