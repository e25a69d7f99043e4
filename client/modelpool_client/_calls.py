"""Every endpoint of the pool, once, without I/O: what to send, and how to read the answer.

The same for what comes back: ``document`` and ``failure``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from modelpool_client import errors
from modelpool_client.reports import (
    AlertReport,
    Breaker,
    CapabilityReport,
    CaptureView,
    ConfigReload,
    Findings,
    Found,
    History,
    JobView,
    KeySource,
    LoadOutcome,
    LoadPlan,
    ModelOptions,
    OutcomeReport,
    Profiles,
    RequestDetails,
    RequestPage,
    RestartBegun,
    Route,
    SetLoaded,
    SetPlan,
    SilenceView,
    Taught,
    UsageReport,
    Version,
    VirtualModel,
    VirtualModelChange,
    VirtualModelVersion,
)
from modelpool_client.types import (
    ConfigChange,
    DeviceView,
    Endpoint,
    EngineView,
    Extension,
    ModelView,
    PoolHealth,
    RegistryChange,
    Reply,
    first_choice,
    text_of,
    unreadable,
    view,
)

T = TypeVar("T")

URL_VARIABLE = "MODELPOOL_URL"
DEFAULT_URL = "http://127.0.0.1:8050"
DEFAULT_WAIT = 300.0
UNLOAD_EXTRA_SECONDS = 120.0
RESTART_EXTRA_SECONDS = 60.0
# What a job does at the moment may have to be undone first.
JOB_EXTRA_SECONDS = 30.0
# Thousands of files on a slow disk.
DISK_EXTRA_SECONDS = 60.0
# Models of a large catalog that are asked for at a time.
PAGE = 1000
# Drivers and engines are asked, and one that hangs is given up.
ENGINES_EXTRA_SECONDS = 60.0
# The most that a target of alerts may be waited for.
TARGET_EXTRA_SECONDS = 300.0
INFERENCE_EXTRA_SECONDS = 600.0
STREAM_EXTRA_SECONDS = 90.0


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how to read its answer.

    ``extra_timeout`` are the seconds the pool may be silent on top of the client's own timeout,
    None without limit. ``repeatable``: sending it twice does no more than sending it once.
    ``accepts``: statuses besides 2xx that are answers, too. ``form`` and ``files`` (name: file name
    and content) are sent as ``multipart/form-data`` in place of ``json``.
    """

    method: str
    path: str
    parse: Callable[[Any], T]
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    extra_timeout: float | None = 0.0
    repeatable: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    accepts: tuple[int, ...] = ()
    form: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)

    def is_answered_by(self, status: int) -> bool:
        """Whether this status comes with an answer, and not with an error."""
        return 200 <= status < 300 or status in self.accepts


# -- the pool ------------------------------------------------------------------------------------


def health() -> Call[PoolHealth]:
    return Call("GET", "/health", lambda d: view(PoolHealth, d))


def engines(all_: bool = False, refresh: bool = False) -> Call[list[EngineView]]:
    asked = {"all": all_, "refresh": refresh}
    params = {name: "true" for name, is_set in asked.items() if is_set}
    return Call(
        "GET",
        "/engines",
        lambda d: [view(EngineView, e) for e in _list(d, "engines")],
        params,
        extra_timeout=ENGINES_EXTRA_SECONDS,
    )


def devices() -> Call[list[DeviceView]]:
    return Call(
        "GET",
        "/devices",
        lambda d: [view(DeviceView, e) for e in _list(d, "devices")],
        extra_timeout=ENGINES_EXTRA_SECONDS,
    )


def statistics() -> Call[dict[str, Any]]:
    return Call("GET", "/statistics", _object)


def metrics() -> Call[str]:
    return Call("GET", "/metrics", str)


def config() -> Call[dict[str, Any]]:
    return Call("GET", "/config", _object)


def config_sources() -> Call[dict[str, KeySource]]:
    return Call("GET", "/config/sources", _sources)


def _sources(document: object) -> dict[str, KeySource]:
    return {key: view(KeySource, each) for key, each in _object(_object(document)["keys"]).items()}


def config_file() -> Call[dict[str, Any]]:
    return Call("GET", "/config/file", _object)


def configure(changes: Mapping[str, Any]) -> Call[ConfigChange]:
    return Call("PATCH", "/config", lambda d: view(ConfigChange, d), json=dict(changes))


def reload_config() -> Call[ConfigReload]:
    # A model that is gone from the file ends its work first.
    path, extra_timeout = "/config/reload", UNLOAD_EXTRA_SECONDS
    return Call("POST", path, lambda d: view(ConfigReload, d), json={}, extra_timeout=extra_timeout)


def restart(wait_seconds: float | None = None) -> Call[RestartBegun]:
    body = {} if wait_seconds is None else {"wait_seconds": wait_seconds}
    # The pool first sees that its program could be run anew.
    return Call(
        "POST",
        "/restart",
        lambda d: view(RestartBegun, d),
        json=body,
        extra_timeout=RESTART_EXTRA_SECONDS,
        repeatable=False,
    )


def registry() -> Call[dict[str, Any]]:
    return Call("GET", "/registry", _object)


def import_registry(models: Any, replace: bool = False) -> Call[RegistryChange]:
    entries = models.get("models", []) if isinstance(models, Mapping) else list(models)
    body = {"models": entries, "replace": replace}
    return Call("POST", "/registry", lambda d: view(RegistryChange, d), json=body)


def events(model: str | None = None, last_event_id: str | None = None) -> Call[None]:
    return Call(
        "GET",
        "/events",
        lambda _: None,
        params={"model": model} if model else {},
        extra_timeout=STREAM_EXTRA_SECONDS,
        headers={"accept": "text/event-stream"}
        | ({"last-event-id": last_event_id} if last_event_id else {}),
    )


# -- jobs ----------------------------------------------------------------------------------------


def jobs(kind: str | None = None, state: str | None = None) -> Call[list[JobView]]:
    params = {"kind": kind or "", "state": state or ""}
    params = {key: value for key, value in params.items() if value}
    return Call("GET", "/jobs", lambda d: [view(JobView, j) for j in _list(d, "jobs")], params)


def job(job_id: str, wait: float = 0.0) -> Call[JobView]:
    params = {"wait": _number(wait)} if wait else {}
    path = f"/jobs/{quote(job_id, safe='')}"
    return Call("GET", path, _job, params, extra_timeout=wait)


def create_job(kind: str, data: Mapping[str, Any]) -> Call[JobView]:
    # The pool answers the second time with the job that it then has.
    return Call("POST", "/jobs", _job, json={**data, "kind": kind})


def change_job(job_id: str, action: str) -> Call[JobView]:
    """``action``: cancel, pause or resume."""
    path = f"/jobs/{quote(job_id, safe='')}/{action}"
    return Call("POST", path, _job, extra_timeout=JOB_EXTRA_SECONDS, repeatable=False)


def remove_job(job_id: str) -> Call[str]:
    path = f"/jobs/{quote(job_id, safe='')}"
    return Call(
        "DELETE",
        path,
        lambda d: str(_object(d).get("deleted", job_id)),
        repeatable=False,
    )


# -- discovery -----------------------------------------------------------------------------------


def discover(
    paths: Sequence[str] = (), source: str | None = None, restore: bool = False
) -> Call[JobView]:
    given: list[Any] = [{"path": p, "source": source} if source else p for p in paths]
    body: dict[str, Any] = {"restore": restore, **({"paths": given} if given else {})}
    return Call("POST", "/discover", _job, json=body)


def found(kind: str | None = None, limit: int = 100, offset: int = 0) -> Call[Found]:
    params = {"limit": str(limit), "offset": str(offset), **({"kind": kind} if kind else {})}
    return Call("GET", "/discover", lambda d: view(Found, _object(d)), params)


# -- pulls ---------------------------------------------------------------------------------------


def pull(source: str, data: Mapping[str, Any]) -> Call[JobView]:
    # The pool answers the second time with the job that it then has.
    return Call("POST", "/models/pull", _job, json={**data, "source": source})


def disk() -> Call[dict[str, Any]]:
    return Call("GET", "/disk", _object, extra_timeout=DISK_EXTRA_SECONDS)


def prune(dry_run: bool = False) -> Call[dict[str, Any]]:
    path, extra_timeout = "/disk/prune", DISK_EXTRA_SECONDS
    return Call("POST", path, _object, json={"dry_run": dry_run}, extra_timeout=extra_timeout)


# -- models --------------------------------------------------------------------------------------


def models(conditions: Mapping[str, Any] | None = None) -> Call[list[ModelView]]:
    said = {key: str(value) for key, value in (conditions or {}).items() if value is not None}
    return Call("GET", "/models", lambda d: [view(ModelView, m) for m in _list(d, "models")], said)


def awake_models() -> Call[list[ModelView]]:
    return models({"state": "awake", "limit": PAGE})


def models_from(offset: int) -> Call[tuple[list[ModelView], int | None]]:
    """A page of the catalog, and where the next one begins."""

    def parse(document: Any) -> tuple[list[ModelView], int | None]:
        page = [view(ModelView, m) for m in _list(document, "models")]
        return page, _object(document).get("next_offset")

    return Call("GET", "/models", parse, {"limit": str(PAGE), "offset": str(offset)})


def find_best(wanted: Mapping[str, Any]) -> Call[Findings]:
    said = {key: value for key, value in wanted.items() if value is not None}
    return Call("POST", "/models/find_best", lambda d: view(Findings, d), json=said)


def versions(model_id: str) -> Call[list[Version]]:
    path = _path(model_id, "versions")
    return Call("GET", path, lambda d: [view(Version, v) for v in _list(d, "versions")])


def rollback(model_id: str, version: int) -> Call[ModelView]:
    path = _path(model_id, f"versions/{version}/rollback")
    return Call("POST", path, _model, json={}, repeatable=False)


# -- routing -------------------------------------------------------------------------------------


def breakers() -> Call[list[Breaker]]:
    return Call("GET", "/breakers", _breakers)


def reset_breaker(breaker: str) -> Call[list[Breaker]]:
    path = f"/breakers/{quote(breaker, safe='')}/reset"
    return Call("POST", path, _breakers)


def _breakers(document: Any) -> list[Breaker]:
    return [view(Breaker, each) for each in _list(document, "breakers")]


def alerts() -> Call[AlertReport]:
    return Call("GET", "/alerts", lambda d: view(AlertReport, d))


def silence_alerts(
    matchers: Mapping[str, str], minutes: float | None, ends_at: str | None, comment: str
) -> Call[SilenceView]:
    data: dict[str, Any] = {"matchers": dict(matchers), "comment": comment}
    data |= {} if minutes is None else {"minutes": minutes}
    data |= {} if ends_at is None else {"ends_at": ends_at}
    path = "/alerts/silences"
    return Call("POST", path, lambda d: view(SilenceView, d), json=data, repeatable=False)


def end_silence(silence_id: str) -> Call[SilenceView]:
    path = f"/alerts/silences/{quote(silence_id, safe='')}"
    return Call("DELETE", path, lambda d: view(SilenceView, d), repeatable=False)


def try_alert_targets(target: str | None = None) -> Call[dict[str, str]]:
    return Call(
        "POST",
        "/alerts/test",
        lambda d: {each["target"]: each["problem"] for each in _list(d, "targets")},
        json={"target": target},
        extra_timeout=TARGET_EXTRA_SECONDS,
        repeatable=False,
    )


def virtual_models() -> Call[list[VirtualModel]]:
    path = "/virtual-models"
    return Call("GET", path, lambda d: [view(VirtualModel, v) for v in _list(d, "virtual_models")])


def virtual_model(name: str) -> Call[VirtualModel]:
    return Call("GET", _virtual(name), lambda d: view(VirtualModel, d))


def virtual_model_versions(name: str) -> Call[list[VirtualModelVersion]]:
    path = _virtual(name, "versions")
    return Call("GET", path, lambda d: [view(VirtualModelVersion, v) for v in _list(d, "versions")])


def set_virtual_model(
    name: str, entry: Any, version: int | None = None
) -> Call[VirtualModelChange]:
    headers = {} if version is None else _if_version(version)
    return Call(
        "PUT",
        _virtual(name),
        lambda d: view(VirtualModelChange, d),
        json=_virtual_entry(entry),
        headers=headers,
        repeatable=version is None,
    )


def _virtual_entry(entry: Any) -> Any:
    """As an object, which all bodies are."""
    if isinstance(entry, str):
        return {"target": entry}
    return {"targets": entry} if isinstance(entry, list) else entry


def delete_virtual_model(name: str, version: int | None = None) -> Call[VirtualModelChange]:
    headers = {} if version is None else _if_version(version)
    parse = lambda d: view(VirtualModelChange, d)  # noqa: E731
    return Call("DELETE", _virtual(name), parse, headers=headers, repeatable=False)


def rollback_virtual_model(name: str, version: int | None = None) -> Call[VirtualModelChange]:
    body = {} if version is None else {"version": version}
    path, parse = _virtual(name, "rollback"), lambda d: view(VirtualModelChange, d)
    return Call("POST", path, parse, json=body, repeatable=False)


def route(request: Mapping[str, Any]) -> Call[Route]:
    return Call("POST", "/route", lambda d: view(Route, d), json=dict(request))


def routes(requests: Sequence[Mapping[str, Any]]) -> Call[list[Route]]:
    body = {"requests": [dict(each) for each in requests]}
    return Call("POST", "/route", lambda d: [view(Route, r) for r in _list(d, "routes")], json=body)


def report_outcome(
    decision_id: str, score: float | None = None, success: bool | None = None
) -> Call[Taught]:
    said = {"score": score, "success": success}
    body = {key: value for key, value in said.items() if value is not None}
    path = f"/route/{quote(decision_id, safe='')}/outcome"
    # It counts once: a second time it would be refused.
    return Call("POST", path, lambda d: view(Taught, d), json=body, repeatable=False)


def outcomes() -> Call[OutcomeReport]:
    return Call("GET", "/route/outcomes", lambda d: view(OutcomeReport, d))


def forget_outcomes(model: str | None = None) -> Call[int]:
    params = {} if model is None else {"model": model}
    return Call("DELETE", "/route/outcomes", lambda d: int(_object(d)["forgotten"]), params=params)


def presets() -> Call[dict[str, Any]]:
    return Call("GET", "/presets", lambda d: dict(_object(d)["presets"]))


def set_preset(name: str, values: Mapping[str, Any]) -> Call[dict[str, Any]]:
    path = f"/presets/{quote(name, safe='')}"
    return Call("PUT", path, lambda d: dict(_object(d)["presets"]), json=dict(values))


def delete_preset(name: str) -> Call[dict[str, Any]]:
    path = f"/presets/{quote(name, safe='')}"
    return Call("DELETE", path, lambda d: dict(_object(d)["presets"]), repeatable=False)


def class_file(kind: str, name: str | None = None) -> Call[dict[str, Any]]:
    return Call("GET", f"/{kind}", _object, _named(name))


def set_class_file(kind: str, data: Any, name: str | None = None) -> Call[VirtualModelChange]:
    parse = lambda d: view(VirtualModelChange, d)  # noqa: E731
    return Call("PUT", f"/{kind}", parse, _named(name), json=data)


def _named(name: str | None) -> dict[str, str]:
    return {} if name is None else {"name": name}


def _virtual(name: str, verb: str = "") -> str:
    path = f"/virtual-models/{quote(name, safe='')}"
    return f"{path}/{verb}" if verb else path


def _if_version(version: int) -> dict[str, str]:
    return {"If-None-Match": "*"} if version == 0 else {"If-Match": f'"{version}"'}


# -- models --------------------------------------------------------------------------------------


def model(model_id: str) -> Call[ModelView]:
    return Call("GET", _path(model_id), lambda d: view(ModelView, d))


def register(model: Mapping[str, Any]) -> Call[ModelView]:
    said = {key: value for key, value in model.items() if value is not None}
    return Call("POST", "/models/register", _model, json=said, repeatable=False)


def delete(model_id: str, files: bool = False) -> Call[str]:
    return Call(
        "DELETE",
        _path(model_id),
        lambda d: str(_object(d).get("deleted", model_id)),
        params={"files": "true"} if files else {},
        extra_timeout=UNLOAD_EXTRA_SECONDS,
        repeatable=False,
    )


def load(model_id: str, wait: bool | float = True) -> Call[ModelView]:
    seconds = wait_seconds(wait)
    params = {"wait": _number(seconds)} if seconds else {}
    return Call("POST", _path(model_id, "load"), _model, params, extra_timeout=seconds)


def load_set(model_ids: Sequence[str], wait: bool | float = True) -> Call[SetLoaded]:
    seconds = wait_seconds(wait)
    params = {"wait": _number(seconds)} if seconds else {}
    body = {"models": list(model_ids)}
    path = "/models/load"
    return Call("POST", path, _set_loaded, params, body, extra_timeout=seconds)


def unload(model_id: str, force: bool = False, wait: bool = True) -> Call[ModelView]:
    params = {} if wait else {"wait": "0"}
    extra_timeout = UNLOAD_EXTRA_SECONDS if wait else 0.0
    body = {"force": force}
    return Call("POST", _path(model_id, "unload"), _model, params, body, extra_timeout)


def extend(model_id: str, minutes: float) -> Call[Extension]:
    body = {"minutes": minutes}
    path = _path(model_id, "extend-ttl")
    return Call("POST", path, lambda d: view(Extension, d), json=body, repeatable=False)


def endpoint(model_id: str, wait: bool | float = True) -> Call[Endpoint]:
    seconds = wait_seconds(wait)
    params = {"wait": _number(seconds)}
    path = _path(model_id, "endpoint")
    return Call("GET", path, lambda d: view(Endpoint, d), params, extra_timeout=seconds)


def capabilities(model_id: str) -> Call[CapabilityReport]:
    return Call("GET", _path(model_id, "capabilities"), lambda d: view(CapabilityReport, d))


def plan(model_id: str) -> Call[LoadPlan]:
    return Call("GET", _path(model_id, "plan"), lambda d: view(LoadPlan, d))


def plan_set(model_ids: Sequence[str]) -> Call[SetPlan]:
    body = {"models": list(model_ids)}
    return Call("POST", "/models/plan", lambda d: view(SetPlan, d), json=body)


def history(model_id: str, limit: int = 50, before: int | None = None) -> Call[History]:
    params = {"limit": str(limit)} | ({"before": str(before)} if before is not None else {})
    return Call("GET", _path(model_id, "history"), lambda d: view(History, d), params)


def requests(conditions: Mapping[str, Any] | None = None) -> Call[RequestPage]:
    said = {key: str(value) for key, value in (conditions or {}).items() if value is not None}
    return Call("GET", "/requests", lambda d: view(RequestPage, d), said)


def request(number: int) -> Call[RequestDetails]:
    return Call("GET", f"/requests/{number}", lambda d: view(RequestDetails, d))


def capture() -> Call[CaptureView]:
    return Call("GET", "/requests/capture", lambda d: view(CaptureView, d))


def start_capture(
    minutes: float = 10.0, models: Sequence[str] | None = None, max_body_bytes: int | None = None
) -> Call[CaptureView]:
    body: dict[str, Any] = {"minutes": minutes, "models": None if models is None else list(models)}
    body |= {} if max_body_bytes is None else {"max_body_bytes": max_body_bytes}
    return Call("POST", "/requests/capture", lambda d: view(CaptureView, d), json=body)


def stop_capture() -> Call[CaptureView]:
    return Call("DELETE", "/requests/capture", lambda d: view(CaptureView, d))


def usage(
    by: str = "model,day",
    since: str | None = None,
    until: str | None = None,
    model: str | None = None,
) -> Call[UsageReport]:
    return Call("GET", "/usage", lambda d: view(UsageReport, d), _usage_of(by, since, until, model))


def usage_csv(
    by: str = "model,day",
    since: str | None = None,
    until: str | None = None,
    model: str | None = None,
) -> Call[str]:
    params = _usage_of(by, since, until, model) | {"format": "csv"}
    return Call("GET", "/usage", str, params)


def _usage_of(by: str, since: str | None, until: str | None, model: str | None) -> dict[str, str]:
    said = {"by": by, "since": since, "until": until, "model": model}
    return {key: value for key, value in said.items() if value is not None}


def model_health(model_id: str) -> Call[dict[str, Any]]:
    return Call("GET", _path(model_id, "health"), _health, accepts=(503,))


def logs(
    model_id: str, lines: int = 100, follow: bool = False, offset: int | None = None
) -> Call[str]:
    params = {"lines": str(lines)} | ({"follow": "true"} if follow else {})
    params |= {} if offset is None else {"offset": str(offset)}
    return Call("GET", _path(model_id, "logs"), str, params, extra_timeout=None if follow else 0.0)


def profile(model_id: str, body: Mapping[str, Any]) -> Call[JobView]:
    return Call("POST", _path(model_id, "profile"), _job, json=dict(body))


def profiles(model_id: str) -> Call[Profiles]:
    return Call("GET", _path(model_id, "profiles"), lambda d: view(Profiles, d))


def tune(model_id: str, body: Mapping[str, Any]) -> Call[JobView]:
    return Call("POST", _path(model_id, "tune"), _job, json=dict(body))


def untune(model_id: str) -> Call[dict[str, Any]]:
    return Call("DELETE", _path(model_id, "tuned"), _object)


def options(model_id: str, changes: Mapping[str, Any] | None = None) -> Call[ModelOptions]:
    """With ``changes`` they are set before; None removes one."""
    method = "GET" if changes is None else "PATCH"
    return Call(method, _path(model_id, "options"), lambda d: view(ModelOptions, d), json=changes)


# -- inference -----------------------------------------------------------------------------------


def chat(model: str, messages: Any, stream: bool, params: Mapping[str, Any]) -> Call[Reply]:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    body = {**params, "model": model, "messages": messages, "stream": stream}
    path = "/v1/chat/completions"
    return Call("POST", path, _reply, json=body, extra_timeout=INFERENCE_EXTRA_SECONDS)


def generate(model: str, prompt: str, params: Mapping[str, Any]) -> Call[Reply]:
    body = {**params, "model": model, "prompt": prompt, "stream": False}
    return Call("POST", "/v1/completions", _reply, json=body, extra_timeout=INFERENCE_EXTRA_SECONDS)


def embed(model: str, texts: Sequence[str], dimensions: int | None = None) -> Call[dict[str, Any]]:
    body: dict[str, Any] = {"model": model, "input": list(texts), "encoding_format": "float"}
    body |= {} if dimensions is None else {"dimensions": dimensions}
    path = "/v1/embeddings"
    return Call("POST", path, _object, json=body, extra_timeout=INFERENCE_EXTRA_SECONDS)


def rerank(
    model: str, query: str, documents: Sequence[str], top_n: int | None = None
) -> Call[dict[str, Any]]:
    body: dict[str, Any] = {"model": model, "query": query, "documents": list(documents)}
    body |= {} if top_n is None else {"top_n": top_n}
    path = "/v1/rerank"
    return Call("POST", path, _object, json=body, extra_timeout=INFERENCE_EXTRA_SECONDS)


def transcribe(
    model: str, audio: bytes, file_name: str, params: Mapping[str, str]
) -> Call[dict[str, Any]]:
    return Call(
        "POST",
        "/v1/audio/transcriptions",
        _object,
        form={**params, "model": model},
        files={"file": (file_name, audio)},
        extra_timeout=INFERENCE_EXTRA_SECONDS,
    )


def openai_models() -> Call[list[dict[str, Any]]]:
    return Call("GET", "/v1/models", lambda d: _list(d, "data"))


# -- how answers are read ------------------------------------------------------------------------


def wait_seconds(wait: bool | float) -> float:
    """Seconds that ``wait`` means: True is the default, False (or 0) is not at all."""
    if isinstance(wait, bool):
        return DEFAULT_WAIT if wait else 0.0
    return max(0.0, wait)


def document(headers: Mapping[str, str], body: bytes) -> Any:
    """The JSON of a whole answer; its text where it is none."""
    text = body.decode("utf-8", "replace")
    if "json" in headers.get("content-type", ""):
        with suppress(ValueError):
            return json.loads(text)
    return text


def failure(status: int, headers: Mapping[str, str], body: bytes) -> errors.ModelPoolError:
    """The error that a whole answer stands for."""
    found = document(headers, body)
    return errors.from_response(status, found, headers.get("retry-after"))


def _path(model_id: str, verb: str = "") -> str:
    # A URL with "." or ".." segments would be shortened to another route on its way.
    if any(part in ("", ".", "..") for part in model_id.split("/")):
        raise errors.InvalidModelId(
            f"{model_id!r} is no model id: empty, '.' and '..' segments are not allowed",
            param="model_id",
            source="client",
        )
    return f"/models/{quote(model_id, safe='/:')}" + (f"/{verb}" if verb else "")


def _number(value: float) -> str:
    return f"{value:g}" if value < 1e6 else str(int(value))


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise unreadable(
            f"expected a JSON object, got {str(document)[:80]!r}: is this a model pool?"
        )
    return document


def _health(document: Any) -> dict[str, Any]:
    if "error" in _object(document):
        raise errors.from_response(503, document)
    return _object(document)


def _list(document: Any, key: str) -> list[Any]:
    value = _object(document).get(key, [])
    if not isinstance(value, list):
        raise unreadable(f"expected a list under {key!r} in the pool's answer")
    return value


def _model(document: Any) -> ModelView:
    return view(ModelView, _object(document).get("model", {}))


def _set_loaded(document: Any) -> SetLoaded:
    message = str(_object(document).get("message", ""))
    return SetLoaded(message, tuple(_load_outcome(each) for each in _list(document, "models")))


def _load_outcome(document: Any) -> LoadOutcome:
    said = dict(_object(document))
    model = said.pop("model", None)
    return replace(view(LoadOutcome, said), model=view(ModelView, model or {}))


def _job(document: Any) -> JobView:
    return view(JobView, _object(document))


def _reply(document: Any) -> Reply:
    return Reply(text_of(first_choice(_object(document)), "message"), document)
