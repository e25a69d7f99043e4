"""PURE. Names that are no models there: selectors, and models of peers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from modelpool.converters.base import BadSettings, Draft

from .macros import VARIABLE, expanded
from .model import rules

WHICH_FIRST: Mapping[str, str] = {
    "warm": "there is no choice by what is loaded: it is a list here, the next where one fails",
    "spillover": "there is no overflow from one model to another: it is a list here, the next where"
    " one fails; more copies of one model are its max_replicas",
}


def add_selectors(draft: Draft, selectors: Any) -> None:
    """Each is a virtual model: an alias, or a list of which the next is asked where one fails."""
    if not isinstance(selectors, Mapping):
        raise BadSettings("selectors should be a mapping of names")
    for name, about in selectors.items():
        if not isinstance(about, Mapping) or not about.get("targets"):
            raise BadSettings(f"selectors.{name} should name its targets")
        targets, strategy = [str(t) for t in about["targets"]], str(about.get("strategy"))
        if strategy == "pin":
            entry: dict[str, Any] = {"kind": "alias", "target": targets[0]}
        elif strategy in WHICH_FIRST:
            entry = {"kind": "fallback", "targets": targets}
            draft.remark(f"selectors.{name}.strategy", WHICH_FIRST[strategy])
        else:
            raise BadSettings(f"selectors.{name} has the strategy {strategy!r}, which is none")
        if told := about.get("description") or about.get("name"):
            entry["description"] = str(told)
        draft.config.setdefault("virtual_models", {})[str(name)] = entry
        for key in about.keys() - {"strategy", "targets", "name", "description"}:
            draft.remark(f"selectors.{name}.{key}", "has no counterpart in a virtual model")


def add_peers(draft: Draft, peers: Any, macros: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Each is a provider; its models keep the names that they have there."""
    if not isinstance(peers, Mapping):
        raise BadSettings("peers should be a mapping of names")
    times: Counter[str] = Counter(str(m) for p in peers.values() for m in p.get("models") or ())
    for peer, given in peers.items():
        about = expanded(given, macros, f"peers.{peer}")
        if not isinstance(about.get("proxy"), str):
            raise BadSettings(f"peers.{peer} has no proxy")
        models = [str(model) for model in about.get("models") or ()]
        provider: dict[str, Any] = {"base_url": f"{about['proxy'].rstrip('/')}/v1"}
        _add_key(draft, peer, about.get("apiKey"), provider)
        provider["models"] = models
        draft.config.setdefault("providers", {})[str(peer)] = provider
        changed = rules(about.get("filters") or {})
        for model in models:
            is_free = times[model] == 1 and model not in own
            for name in [f"{peer}/{model}", *([model] if is_free else [])]:
                virtual: dict[str, Any] = {"kind": "alias", "target": f"{peer}:{model}"}
                virtual |= {"request": changed} if changed else {}
                draft.config.setdefault("virtual_models", {})[name] = virtual
        for key in about.keys() - {"proxy", "apiKey", "models", "filters"}:
            draft.remark(
                f"peers.{peer}.{key}",
                "has no effect: how long a provider may be silent is its option timeout_seconds",
            )


def _add_key(draft: Draft, peer: str, key: Any, provider: dict[str, Any]) -> None:
    if not key:
        return
    variable = VARIABLE.fullmatch(str(key))
    if variable is not None:
        provider["api_key_variable"] = variable[1]
    else:
        draft.remark(
            f"peers.{peer}.apiKey",
            "a key does not belong in a config file and was left out: put it into a file of its own"
            " and name that in api_key_file, or into a variable and name it in api_key_variable",
        )
