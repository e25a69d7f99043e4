"""How the tokens of a text become its vector, as the files of sentence-transformers say."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from modelpool_client.errors import LoadFailed

from .source import MODULES, bad_file, read_json

Pooling = Literal["mean", "cls", "last", "max"]
POOLINGS: tuple[Pooling, ...] = ("mean", "cls", "last", "max")
DENSE_ACTIVATIONS = ("GELU", "Identity", "ReLU", "Tanh")
_OLD_KEYS: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}
_NAMES: Mapping[str, Pooling] = {"lasttoken": "last", **{name: name for name in POOLINGS}}


@dataclass(frozen=True)
class Module:
    """A dense layer that comes after pooling; ``activation`` is a name of torch's."""

    folder: str
    activation: str


@dataclass(frozen=True)
class Sentences:
    """What a folder says of texts.

    Attributes:
        pooling: None where it does not say.
        normalises: a module does.
        max_length: in tokens; None where it does not say.
    """

    pooling: Pooling | None = None
    normalises: bool = False
    dense: tuple[Module, ...] = ()
    max_length: int | None = None


def read_sentences(folder: str) -> Sentences:
    """What it says; nothing of itself, if sentence-transformers did not save it.

    Raises:
        LoadFailed: ``bad_file``: its files are damaged; ``unsupported_arch``: it has a module that
            is not known here.
    """
    path = os.path.join(folder, MODULES)
    length = read_json(os.path.join(folder, "sentence_bert_config.json"), {}).get("max_seq_length")
    pooling: Pooling | None = None
    normalises, dense = False, []
    for kind, inside in _modules(path):
        place = os.path.join(folder, inside)
        if kind == "Pooling":
            pooling = pooling_of(read_json(os.path.join(place, "config.json")))
        elif kind == "Normalize":
            normalises = True
        elif kind == "Dense":
            dense.append(_dense(place))
        elif kind != "Transformer":
            text = f"{folder}: its module {kind} of sentence-transformers is not known here"
            raise LoadFailed(text, code="unsupported_arch", param="source", source="engine")
    known = length if isinstance(length, int) else None
    return Sentences(pooling, normalises, tuple(dense), known)


def pooling_of(config: Mapping[str, Any]) -> Pooling:
    """PURE. Of the configuration of such a module.

    Raises:
        LoadFailed: ``unsupported_arch``: it is another, or several at once.
    """
    named = config.get("pooling_mode")
    if isinstance(named, str):
        found = [_NAMES[named]] if named in _NAMES else []
    else:
        known = {key for key, value in config.items() if key.startswith("pooling_mode_") and value}
        found = [_OLD_KEYS[key] for key in known if key in _OLD_KEYS]
        found = found if len(known) == 1 else []
    if not found:
        text = f"its pooling is not known here: {json.dumps(dict(config))[:300]}"
        raise LoadFailed(text, code="unsupported_arch", param="source", source="engine")
    return found[0]


def _dense(folder: str) -> Module:
    told = str(
        read_json(os.path.join(folder, "config.json")).get("activation_function", "Identity")
    )
    name = told.rpartition(".")[2]
    if name not in DENSE_ACTIVATIONS:
        text = f"{folder}: its activation {told[:100]!r} is not known here"
        raise LoadFailed(text, code="unsupported_arch", param="source", source="engine")
    return Module(folder, name)


def _modules(path: str) -> list[tuple[str, str]]:
    """Kinds and folders, in their order; no folder that is elsewhere."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(1 << 20))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as e:
        raise bad_file(path, str(e)) from None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise bad_file(path, "is no list of modules")
    modules = [(str(m.get("type", "")), str(m.get("path", ""))) for m in found]
    if any(os.path.basename(folder) != folder for _, folder in modules):
        raise bad_file(path, "names folders that are elsewhere")
    return [(kind.rpartition(".")[2], folder) for kind, folder in modules]
