"""Everything that can go wrong, for the pool, its workers and their clients alike.

Manager and worker raise these; the wire carries them as
``{"error": {message, type, param, code, source}}``; the client rebuilds the same class from
the code.

    ModelPoolError
    ├── InvalidRequest            400  the request is wrong; nothing was changed
    │   ├── InvalidModelId        400
    │   └── ContextLengthExceeded 400
    ├── Forbidden                 403  wrong Host, Origin or secret
    ├── NotFound                  404  no such route or thing
    │   └── ModelNotFound         404
    ├── MethodNotAllowed          405
    ├── Conflict                  409  right request, wrong moment
    │   ├── ModelExists           409
    │   └── UnloadProtected       409  warm-up or pinned: say force
    ├── VersionMismatch           412  it was changed since the caller looked
    ├── PayloadTooLarge           413
    ├── UnsupportedMediaType      415
    ├── UpgradeRequired           426  spoken there is WebSocket, of the version that is named
    ├── RateLimited               429  by a server elsewhere; again after ``retry_after``
    ├── HeadersTooLarge           431
    ├── Cancelled                 499  by the client itself
    ├── NotSupported              501  a known route that this engine lacks
    ├── BadGateway                502
    │   ├── WorkerFailed          502  the worker process died or cut the answer
    │   ├── EngineFailed          502  the engine inside the worker did
    │   └── UpstreamFailed        502  a server elsewhere did, or refused our key
    ├── Unavailable               503  try again after ``retry_after`` seconds
    │   ├── ModelLoading          503
    │   ├── WorkerDraining        503
    │   ├── LoadFailed            503  code says why: oom, bad_file, missing_dependency …
    │   ├── LoadCancelled         503
    │   ├── NoPortFree            503
    │   ├── NoMemoryFree          503  other programs have the host's memory
    │   ├── PoolBusy              503  waited for room in vain
    │   │   └── QueueFull         503  too many wait already
    │   ├── PoolStopping          503
    │   └── PoolRestarting        503  the manager is replaced; the workers go on
    ├── LoadTimeout               504
    ├── UpstreamTimeout           504  a server elsewhere gave nothing in time
    ├── CannotFit                 507  needs more than there is; waiting would not help
    ├── InternalError             500  a bug of ours
    └── PoolUnreachable           —    raised by the client only: nobody answers
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

Source = Literal["pool", "worker", "engine", "upstream", "client"]

CODE_HEADER = "x-modelpool-code"
SOURCE_HEADER = "x-modelpool-source"


class ModelPoolError(Exception):
    """Base of all. ``source`` says who failed; ``param`` names the offending parameter if any."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        source: Source = "pool",
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code
        self.source: Source = source
        self.retry_after = retry_after
        self.details = dict(details or {})

    def body(self) -> dict[str, Any]:
        """The JSON body: OpenAI's error shape plus ``source`` and, where there are any, details."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
            "source": self.source,
        }
        if self.details:
            error["details"] = self.details
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """Response headers: code and source, ``Retry-After`` in whole seconds, a hint to SDKs."""
        headers = {CODE_HEADER: self.code, SOURCE_HEADER: self.source}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, round(self.retry_after)))
        if isinstance(self, CannotFit):
            headers["x-should-retry"] = "false"
        return headers

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The same as they are sent."""
        return [(k.encode(), v.encode("latin-1", "replace")) for k, v in self.headers().items()]


class InvalidRequest(ModelPoolError):
    status, type, default_code = 400, "invalid_request_error", "invalid_request"


class InvalidModelId(InvalidRequest):
    default_code = "invalid_model_id"


class ContextLengthExceeded(InvalidRequest):
    """``details`` has ``prompt_tokens`` and ``context_length``, where both are known.

    Its code is OpenAI's, its type and the numbers beside it are llama.cpp's: clients of either
    shorten a conversation by what they find there.
    """

    type = "exceed_context_size_error"
    default_code = "context_length_exceeded"

    @classmethod
    def of(cls, tokens: int, limit: int, param: str) -> ContextLengthExceeded:
        """What an engine says of ``tokens`` in what the client calls ``param``, where it takes
        ``limit`` with the answer."""
        # Clients look for "maximum context length", which is what OpenAI says, and those of
        # llama.cpp for "exceeds the available context size".
        text = f"this model's maximum context length is {limit} tokens, and {param} has {tokens},"
        text += " which exceeds the available context size; shorten it, or load the model with a"
        text += " larger context_length"
        details = {"prompt_tokens": tokens, "context_length": limit}
        return cls(text, param=param, source="engine", details=details)

    def about(self, param: str) -> ContextLengthExceeded:
        """The same of a client that calls it so."""
        tokens, limit = self.details.get("prompt_tokens"), self.details.get("context_length")
        if tokens is not None and limit is not None:
            return self.of(tokens, limit, param)
        return type(self)(self.message, param=param, source=self.source, details=self.details)

    def body(self) -> dict[str, Any]:
        """See ``ModelPoolError``."""
        told = super().body()
        names = {"n_prompt_tokens": "prompt_tokens", "n_ctx": "context_length"}
        told["error"] |= {k: self.details[v] for k, v in names.items() if v in self.details}
        return told


class Forbidden(ModelPoolError):
    status, type, default_code = 403, "permission_error", "forbidden"


class NotFound(ModelPoolError):
    status, type, default_code = 404, "invalid_request_error", "not_found"


class ModelNotFound(NotFound):
    default_code = "model_not_found"


class NoSuitableModel(NotFound):
    """Of all that there are none meets the conditions of a request."""

    default_code = "no_suitable_model"


class MethodNotAllowed(ModelPoolError):
    status, type, default_code = 405, "invalid_request_error", "method_not_allowed"

    @classmethod
    def of(cls, path: str, method: str, allowed: Iterable[str]) -> MethodNotAllowed:
        """A route that takes other methods; HEAD is allowed wherever GET is."""
        methods = dict.fromkeys(m for a in allowed for m in ((a, "HEAD") if a == "GET" else (a,)))
        allow = ", ".join(methods)
        text = f"{path[:200]} takes {allow}, not {method}"
        return cls(text, details={"allow": allow})

    def headers(self) -> dict[str, str]:
        """With ``Allow``, which HTTP wants in every 405."""
        allow = self.details.get("allow")
        return super().headers() | ({"allow": str(allow)} if allow else {})


class Conflict(ModelPoolError):
    status, type, default_code = 409, "conflict_error", "conflict"


class ModelExists(Conflict):
    default_code = "model_exists"


class UnloadProtected(Conflict):
    default_code = "unload_protected"


class VersionMismatch(ModelPoolError):
    """Somebody was faster: what ``If-Match`` wanted is not so any more."""

    status, type, default_code = 412, "conflict_error", "version_mismatch"


class RequestTimeout(ModelPoolError):
    """The client did not send its request in time."""

    status, type, default_code = 408, "invalid_request_error", "request_timeout"


class PayloadTooLarge(ModelPoolError):
    status, type, default_code = 413, "invalid_request_error", "payload_too_large"


class UnsupportedMediaType(ModelPoolError):
    status, type, default_code = 415, "invalid_request_error", "unsupported_media_type"

    @classmethod
    def of_coding(cls, given: str, understood: Iterable[str]) -> UnsupportedMediaType:
        """A Content-Encoding that nobody here decodes."""
        names = ", ".join(understood)
        text = f"Content-Encoding {given!r} is not understood; send the body as one of: {names}"
        return cls(text, param="content-encoding", details={"accept_encoding": names})

    def headers(self) -> dict[str, str]:
        """With ``Accept-Encoding``, if it is about that (RFC 9110, 15.5.16)."""
        names = self.details.get("accept_encoding")
        return super().headers() | ({"accept-encoding": str(names)} if names else {})


class UpgradeRequired(ModelPoolError):
    """A route that is spoken to by WebSocket (RFC 6455)."""

    status, type, default_code = 426, "invalid_request_error", "upgrade_required"

    def headers(self) -> dict[str, str]:
        """With what it is to be upgraded to (RFC 9110, 15.5.22; RFC 6455, 4.4)."""
        wanted = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}
        return super().headers() | wanted


class RateLimited(ModelPoolError):
    """A limit of a server elsewhere; without ``retry_after`` waiting may not help."""

    status, type, default_code = 429, "rate_limit_error", "rate_limited"

    def headers(self) -> dict[str, str]:
        """Whoever cannot know when to come again should not try at once."""
        hopeless = {"x-should-retry": "false"} if self.retry_after is None else {}
        return super().headers() | hopeless


class HeadersTooLarge(ModelPoolError):
    status, type, default_code = 431, "invalid_request_error", "headers_too_large"


class Cancelled(ModelPoolError):
    """The status is nginx's for a client that left before its answer."""

    status, type, default_code = 499, "invalid_request_error", "cancelled"


class NotSupported(ModelPoolError):
    status, type, default_code = 501, "not_supported_error", "not_supported"


class BadGateway(ModelPoolError):
    status, type, default_code = 502, "server_error", "bad_gateway"


class WorkerFailed(BadGateway):
    default_code = "worker_failed"


class EngineFailed(BadGateway):
    default_code = "engine_failed"


class UpstreamFailed(BadGateway):
    default_code = "upstream_failed"


class Unavailable(ModelPoolError):
    status, type, default_code = 503, "unavailable_error", "unavailable"


class ModelLoading(Unavailable):
    default_code = "model_loading"


class WorkerDraining(Unavailable):
    default_code = "worker_draining"


class LoadFailed(Unavailable):
    default_code = "load_failed"


class LoadCancelled(Unavailable):
    default_code = "load_cancelled"


class NoPortFree(Unavailable):
    default_code = "no_port_free"


class NoMemoryFree(Unavailable):
    default_code = "no_memory_free"


class PoolBusy(Unavailable):
    default_code = "pool_busy"


class QueueFull(PoolBusy):
    default_code = "queue_full"


class PoolStopping(Unavailable):
    default_code = "pool_stopping"


class PoolRestarting(Unavailable):
    default_code = "pool_restarting"


class LoadTimeout(ModelPoolError):
    status, type, default_code = 504, "timeout_error", "load_timeout"


class UpstreamTimeout(ModelPoolError):
    status, type, default_code = 504, "timeout_error", "upstream_timeout"


class CannotFit(ModelPoolError):
    status, type, default_code = 507, "insufficient_capacity_error", "cannot_fit"


class InternalError(ModelPoolError):
    pass


class PoolUnreachable(ModelPoolError):
    status, type, default_code = 0, "connection_error", "pool_unreachable"


# Codes with which a worker explains a failed load; the engine's last lines go with them.
LOAD_CODES = ("oom", "bad_file", "unsupported_arch", "missing_dependency", "timeout", "bad_config")


def _classes_here(cls: type[ModelPoolError]) -> list[type[ModelPoolError]]:
    # Those of other modules are made in other ways, and only some processes have them.
    subs = [sub for sub in cls.__subclasses__() if sub.__module__ == __name__]
    return [cls, *(leaf for sub in subs for leaf in _classes_here(sub))]


# What a header can say, and a person read.
_CODE = re.compile(r"[!-~]{1,200}")


def _class_for(status: int, code: str) -> type[ModelPoolError]:
    classes = _classes_here(ModelPoolError)
    if code in LOAD_CODES and status == LoadFailed.status:
        return LoadFailed
    if code.startswith("upstream_") and status == UpstreamFailed.status:
        return UpstreamFailed
    by_code = {cls.default_code: cls for cls in classes}
    by_status = {cls.status: cls for cls in reversed(classes)}
    return by_code.get(code) or by_status.get(status) or ModelPoolError


def _sound(details: Mapping[str, Any]) -> dict[str, Any]:
    """Without what would be told in a header and cannot be."""
    told = ("allow", "accept_encoding")
    return {k: v for k, v in details.items() if k not in told or str(v).isprintable()}


def from_response(status: int, body: object, retry_after: str | None = None) -> ModelPoolError:
    """Rebuild the error that a response carries; any body will do, even none of ours."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        error = {"message": f"HTTP {status}: {str(body)[:200]}"}
    code, param, details = error.get("code"), error.get("param"), error.get("details")
    code = code if isinstance(code, str) and _CODE.fullmatch(code) else None
    cls = _class_for(status, code or "")
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    return cls(
        str(error.get("message") or f"HTTP {status}"),
        param=param if isinstance(param, str) else None,
        code=code,
        source=error.get("source") or "upstream",
        retry_after=seconds,
        details=_sound(details) if isinstance(details, Mapping) else None,
    )
