"""Every endpoint of the pool, once, without I/O: what to send, and how to read the answer.

The same for what comes back: ``document`` and ``failure``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from modelpool_client import errors
from modelpool_client.reports import (
    CapabilityReport,
    ConfigReload,
    Findings,
    Found,
    History,
    JobView,
    LoadPlan,
    ModelOptions,
    Profiles,
    RestartBegun,
    Version,
)
from modelpool_client.types import (
    ConfigChange,
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


def engines() -> Call[list[EngineView]]:
    return Call("GET", "/engines", lambda d: [view(EngineView, e) for e in _list(d, "engines")])


def statistics() -> Call[dict[str, Any]]:
    return Call("GET", "/statistics", _object)


def metrics() -> Call[str]:
    return Call("GET", "/metrics", str)


def config() -> Call[dict[str, Any]]:
    return Call("GET", "/config", _object)


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


def find_best(wanted: Mapping[str, Any]) -> Call[Findings]:
    said = {key: value for key, value in wanted.items() if value is not None}
    return Call("POST", "/models/find_best", lambda d: view(Findings, d), json=said)


def versions(model_id: str) -> Call[list[Version]]:
    path = _path(model_id, "versions")
    return Call("GET", path, lambda d: [view(Version, v) for v in _list(d, "versions")])


def rollback(model_id: str, version: int) -> Call[ModelView]:
    path = _path(model_id, f"versions/{version}/rollback")
    return Call("POST", path, _model, json={}, repeatable=False)


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


def history(model_id: str, limit: int = 50, before: int | None = None) -> Call[History]:
    params = {"limit": str(limit)} | ({"before": str(before)} if before is not None else {})
    return Call("GET", _path(model_id, "history"), lambda d: view(History, d), params)


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


def _job(document: Any) -> JobView:
    return view(JobView, _object(document))


def _reply(document: Any) -> Reply:
    return Reply(text_of(first_choice(_object(document)), "message"), document)
