"""PURE. What a path of the Open Inference Protocol names."""

from __future__ import annotations

from dataclasses import dataclass

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.open_inference.tables import (
    GENERATE,
    GENERATE_STREAM,
    INFER,
    VERSION,
)

ROOT = "/v2"
_MODELS = f"{ROOT}/models/"
READY, CONFIG = "ready", "config"
# What a model is asked for; with any other verb, or none, something about it.
WORK = frozenset({INFER, GENERATE, GENERATE_STREAM})
_VERBS = WORK | {READY, CONFIG}


@dataclass(frozen=True)
class Target:
    """A model, a version of it (empty: none was named), and a verb (empty: its metadata)."""

    model: str
    version: str = ""
    verb: str = ""


def target_of(path: str) -> Target | None:
    """What ``/v2/models/{model}[/versions/{version}][/{verb}]``, decoded, names; None for any other
    path. A model's name may hold slashes; a verb at the end is never a part of it."""
    name = path.removeprefix(_MODELS)
    if name == path or not name:
        return None
    before, _, verb = name.rpartition("/")
    if verb not in _VERBS or not before:
        before, verb = name, ""
    model, mark, version = before.rpartition("/versions/")
    if not (mark and model and version) or "/" in version:
        model, version = before, ""
    return Target(model, version, verb)


def is_work(path: str) -> bool:
    """A model is asked for something that it computes."""
    target = target_of(path)
    return target is not None and target.verb in WORK


def check_version(target: Target) -> None:
    """Only the one that there is may be asked for.

    Raises:
        InvalidRequest: another is.
    """
    if target.version not in ("", VERSION):
        text = f"{target.model} has no version {target.version[:64]!r}; its only one is {VERSION}"
        raise InvalidRequest(text, param="version")
