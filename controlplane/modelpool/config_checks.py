"""PURE: is a configuration right, within each key and between them, and if not, what is wrong?"""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import InvalidRequest
from pydantic import ValidationError

from .alerts.settings import AlertRuleSettings, AlertsSettings, AlertTargetSettings
from .catalog.model import Model, did_you_mean, printable
from .catalog.variables import FilledText, is_filled, plain, typed
from .config_keys import LIVE_KEYS, DiscoveryPath, EnvironmentSettings, PoolConfig, PortRange
from .providers.settings import ProviderSettings, RemoteModelSettings
from .registrars.settings import RegistrarSettings

# Where pydantic speaks of Python's types, the file's author thinks of the file's.
PLAIN_WORDS = {
    "tuple_type": "should be a list",
    "model_type": "should be an object with start and end",
    "int_type": "should be a whole number",
    "float_type": "should be a number",
    "bool_type": "should be true or false",
}
# What was wanted where a text stood.
WANTED = {"int_type": "integer", "float_type": "number", "bool_type": "boolean"}
INNER_KEYS = {
    "alerts": AlertsSettings.model_fields,
    "alerts.rules": AlertRuleSettings.model_fields,
    "alerts.targets": AlertTargetSettings.model_fields,
    "discovery_paths": DiscoveryPath.model_fields,
    "environments": EnvironmentSettings.model_fields,
    "port_range": PortRange.model_fields,
    "providers": ProviderSettings.model_fields,
    "registrars": RegistrarSettings.model_fields,
    "remote_models": RemoteModelSettings.model_fields,
}

NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong: the key, as ``registrars[0].url``, and what is wrong with it;
    ``others`` are keys with which it does not go together."""

    key: str
    message: str
    others: tuple[str, ...] = ()


def typed_values(data: dict[str, Any]) -> dict[str, Any]:
    """The data with texts from variables as numbers and truth values where their keys want them."""
    own = {k: v for k, v in data.items() if k in PoolConfig.model_fields and k != "models"}
    if is_filled(own):
        try:
            PoolConfig.model_validate(plain(own))
        except ValidationError as e:
            for error in e.errors(include_url=False):
                *parents, last = error["loc"]
                kind, holder = WANTED.get(error["type"]), _at(own, parents)
                if kind is not None and isinstance(_at(own, error["loc"]), FilledText):
                    holder[last] = typed(holder[last], kind)
    return data | own


def _at(data: Any, path: Sequence[int | str]) -> Any:
    """What stands there; None where nothing does."""
    for step in path:
        try:
            data = data[step]
        except (LookupError, TypeError):
            return None
    return data


def validated(
    data: Mapping[Any, Any], templates: Mapping[str, Any] = NOTHING
) -> tuple[PoolConfig | None, list[Issue]]:
    """The configuration, or None and everything that is wrong with it.

    Args:
        templates: keys with values from the environment, and what is shown instead.
    """
    values = plain(data)
    try:
        config = PoolConfig.model_validate(values)
    except ValidationError as e:
        issues = [_issue(error, data) for error in e.errors(include_url=False)]
    else:
        issues = cross_issues(config, templates)
        return (None if issues else config), issues
    # What is right on its own may still contradict something else that is.
    wrong = {re.split(r"[.\[]", issue.key)[0] for issue in issues}
    right = {k: v for k, v in values.items() if k not in wrong and k in PoolConfig.model_fields}
    return None, issues + cross_issues(PoolConfig.model_validate(right), templates, wrong)


def patched(
    config: PoolConfig, changes: object, templates: Mapping[str, Any] = NOTHING
) -> PoolConfig:
    """A copy with some of ``LIVE_KEYS`` changed; ``changes`` is the body of ``PATCH /config``.

    Args:
        templates: see ``validated``; of the changes only.

    Raises:
        InvalidRequest: naming the first wrong key, with all of them in ``details``.
    """
    if not isinstance(changes, Mapping):
        raise InvalidRequest(f"changes must be an object, not {type(changes).__name__}")
    wrong = [_unpatchable(key) for key in changes if key not in LIVE_KEYS]
    same = {key: getattr(config, key) for key in PoolConfig.model_fields}
    kept = {k: v for k, v in config.templates.items() if k not in changes} | dict(templates)
    alerts = changes.get("alerts")
    if isinstance(alerts, Mapping) and "targets" not in alerts:
        # They are the file's alone, so whoever changes rules does not know them, and means none.
        changes = {**changes, "alerts": {**alerts, "targets": config.alerts.targets}}
        if (shown := config.templates.get("alerts")) is not None:
            as_told = kept.get("alerts", alerts)
            kept["alerts"] = {**as_told, "targets": shown.get("targets", {})}
    new, issues = validated(same | {k: v for k, v in changes.items() if k in LIVE_KEYS}, kept)
    if wrong or new is None:
        raise _refusal(wrong + issues)
    return new.with_notes(config.file, config.warnings, kept)


def refuse_new_secrets(config: PoolConfig, trusted: Iterable[PoolConfig]) -> None:
    """What a token file holds is sent to the registry, so only the config file may bring the two
    together: whoever reaches the API could have any file of ours sent anywhere. Where alerts are
    sent is likewise the file's alone.

    Raises:
        InvalidRequest: a registrar has a token file, or alerts a target, that is in none of
            ``trusted``.
    """
    trusted = tuple(trusted)
    known = {(r.kind, r.address, r.token_file) for each in trusted for r in each.registrars}
    wrong = [
        Issue(f"registrars[{i}].token_file", "can only be set in the config file")
        for i, r in enumerate(config.registrars)
        if r.token_file is not None and (r.kind, r.address, r.token_file) not in known
    ]
    targets = [each.alerts.targets.items() for each in trusted]
    wrong += [
        Issue(f"alerts.targets.{name}", "can only be set in the config file")
        for name, target in config.alerts.targets.items()
        if not any((name, target) in there for there in targets)
    ]
    if wrong:
        raise _refusal(wrong)


@dataclass(frozen=True)
class Reloaded:
    """What a file that was read again makes of the configuration in force.

    Attributes:
        config: what is in force afterwards.
        changed: the live keys that change by it.
        needs_restart: keys that the file wants otherwise than they are, and that are no live ones.
        models: the entries that it did not have, or had otherwise.
        gone: ids of models that it had and has no more.
    """

    config: PoolConfig
    changed: Mapping[str, Any]
    needs_restart: Mapping[str, Any]
    models: tuple[Model, ...] = ()
    gone: tuple[str, ...] = ()


# What they say is models, which are taken over.
MADE_MODELS = {"aliases", "models", "presets", "providers", "remote_models", "virtual_models"}


def reloaded(config: PoolConfig, former: PoolConfig, said: PoolConfig) -> Reloaded:
    """Take over what ``said``, the file now, says otherwise than ``former``, the file when it was
    last read. A key or model of which the file still says what it did stays as it was made at run
    time, deleted ones included.

    Raises:
        InvalidRequest: a new value contradicts one that was set at run time.
    """
    live = {k: getattr(said, k) for k in LIVE_KEYS if getattr(said, k) != getattr(former, k)}
    texts = {k: v for k, v in said.templates.items() if k in live}
    new = patched(config, live, texts).model_copy(
        update={key: getattr(said, key) for key in MADE_MODELS}
    )
    changed = changes_between(config, new, live)
    needs = changes_between(config, said, PoolConfig.model_fields.keys() - LIVE_KEYS - MADE_MODELS)
    known = {m.model_id: m for m in former.models}
    fresh = tuple(m for m in said.models if known.pop(m.model_id, None) != m)
    in_force = new.with_notes(said.file, said.warnings, new.templates)
    return Reloaded(in_force, changed, needs, fresh, tuple(known))


def changes_between(old: PoolConfig, new: PoolConfig, keys: Iterable[str]) -> dict[str, Any]:
    """Those of the keys whose value is another in ``new``, as they are shown there."""
    shown = new.as_dict()
    return {k: shown[k] for k in sorted(keys) if getattr(new, k) != getattr(old, k)}


def cross_issues(
    config: PoolConfig, templates: Mapping[str, Any] = NOTHING, but: Collection[str] = ()
) -> list[Issue]:
    """What is wrong between keys that are each right, except where a key of ``but`` is in it."""
    low, high, ttl = config.min_ttl_minutes, config.max_ttl_minutes, config.default_ttl_minutes
    least, most = (
        templates.get(key, f"{getattr(config, key):g}")
        for key in ("min_ttl_minutes", "max_ttl_minutes")
    )
    ports, backoff = config.port_range, config.restart_backoff_seconds
    checks = (
        (("min_ttl_minutes", "max_ttl_minutes"), low > high, f"is above max_ttl_minutes, {most}"),
        (
            ("default_ttl_minutes", "min_ttl_minutes", "max_ttl_minutes"),
            ttl != 0 and low <= high and not low <= ttl <= high,
            f"should be 0 (never) or between {least} and {most}, the least and most TTL",
        ),
        (("port_range",), ports.start > ports.end, "starts after its end"),
        (("port", "port_range"), config.port in ports, "is one of port_range, the workers' ports"),
        (
            ("ollama_port", "port_range"),
            config.ollama_port in ports,
            "is one of port_range, the workers' ports",
        ),
        (("ollama_port", "port"), config.ollama_port == config.port, "is the manager's port too"),
        (
            ("restart_backoff_seconds", "restart_backoff_max_seconds"),
            backoff > config.restart_backoff_max_seconds,
            "is above restart_backoff_max_seconds",
        ),
        (
            ("aliases", "virtual_models"),
            bool(both := sorted(config.aliases.keys() & config.virtual_models.keys())),
            f"name what virtual_models name, too: {', '.join(map(printable, both))}",
        ),
        (
            ("warmup_models",),
            bool(twins := _twins(config.warmup_models)),
            f"name {', '.join(twins)} more than once",
        ),
    )
    return [
        Issue(keys[0], text, keys[1:])
        for keys, bad, text in checks
        if bad and not set(keys) & set(but)
    ]


def _twins(names: Sequence[str]) -> list[str]:
    return sorted(printable(name) for name, count in Counter(names).items() if count > 1)


def _issue(error: Mapping[str, Any], data: Mapping[Any, Any]) -> Issue:
    *parents, last = map(str, error["loc"])
    key = printable(_key(error["loc"]))
    if error["type"] == "extra_forbidden":
        known = _inner_keys(parents) if parents else PoolConfig.model_fields
        return Issue(key, f"is unknown{did_you_mean(last, known)}")
    if error["type"] == "missing":
        return Issue(key, "is required")
    if error["type"] == "model_type" and key != "port_range":
        inner = _inner_keys(parents or [last])
        shape = f" with {', '.join(inner)}" if inner else ""
        return Issue(key, f"should be an object{shape}")
    said = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    if key.startswith(("registrars", "alerts.targets")) and error["type"] == "value_error":
        return Issue(key, said)  # an address may hold a password, or be one
    text = PLAIN_WORDS.get(error["type"], said)
    given = _at(data, error["loc"])
    shown = given if is_filled(given) else error["input"]
    return Issue(key, f"{text}, not {printable(reprlib.repr(shown))}")


def _inner_keys(parents: Sequence[str]) -> Mapping[str, Any]:
    """Those that may stand there."""
    return INNER_KEYS.get(".".join(parents[:2])) or INNER_KEYS.get(parents[0], {})


def _key(path: Iterable[int | str]) -> str:
    """``("registrars", 0, "url")`` as ``registrars[0].url``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def _unpatchable(key: object) -> Issue:
    name = printable(str(key)[:80])
    if name in PoolConfig.model_fields:
        return Issue(name, "needs a restart: it cannot change while the pool runs")
    return Issue(name, f"is unknown{did_you_mean(name, LIVE_KEYS)}")


def _refusal(issues: list[Issue]) -> InvalidRequest:
    errors = [{"param": i.key, "message": f"{i.key} {i.message}"} for i in issues]
    text = "; ".join(e["message"] for e in errors)
    return InvalidRequest(text, param=issues[0].key, details={"errors": errors})
