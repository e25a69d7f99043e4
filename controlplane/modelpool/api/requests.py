"""/requests and /usage: what passed, and what it took."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from modelpool_client.errors import Conflict, InvalidRequest, ModelNotFound, NotFound
from modelpool_client.wire import Captured, Message
from pydantic import BaseModel, ConfigDict, Field

from modelpool.api.answers import (
    CapturedContent,
    CapturedMessage,
    CaptureView,
    RequestDetails,
    RequestList,
    RequestView,
    UsageReport,
    UsageView,
)
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.api.times import seconds_of
from modelpool.api.whole_number import WHOLE
from modelpool.catalog.errors import StoreError
from modelpool.catalog.usage_rows import HOURS_OF_A_DAY, PARTS, UsageTotal
from modelpool.config import PoolConfig
from modelpool.observe.events import iso
from modelpool.observe.requests import Logged, Wanted
from modelpool.observe.usage_hours import SECONDS_OF_AN_HOUR
from modelpool.pool.worker_client import base_url
from modelpool.services import Services

MAX_PAGE = 1000
CSV_TYPE = "text/csv"

Limit = Annotated[int, WHOLE, Query(ge=1, le=MAX_PAGE, description="Most requests to show")]
Before = Annotated[
    int | None, WHOLE, Query(ge=1, description="Older ones than that number: `next_before`")
]
Time = Annotated[str | None, Query(description="ISO 8601 (UTC if it names no zone) or seconds")]
Accept = Annotated[str, Header(include_in_schema=False)]
_CSV: dict[int | str, dict[str, Any]] = {
    **refuses(StoreError),
    200: {"model": UsageReport, "content": {CSV_TYPE: {"schema": {"type": "string"}}}},
}


class CaptureBody(BaseModel):
    """What to capture: for how many minutes, of which models (null: all), how much of a body."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    minutes: float = 10.0
    models: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = None
    max_body_bytes: Annotated[int, Field(ge=256, le=65_536)] = 16_384


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["usage"], route_class=ApiRoute)
    log = services.requests

    def view(logged: Logged) -> RequestView:
        return request_view(logged, is_captured=log.content(logged.number) is not None)

    @router.get("/requests")
    async def requests(
        model: str | None = None,
        status: Annotated[str, Query(description="`404`, or a kind: `4xx`")] = "",
        surface: Annotated[str, Query(description="As `/v1/chat/completions`")] = "",
        since: Time = None,
        errors: Annotated[bool, Query(description="Only what failed")] = False,
        limit: Limit = 100,
        before: Before = None,
    ) -> RequestList:
        """The last requests that are over, newest first: facts only; of one that was `captured`
        `/requests/{number}` has what was said. Workers tell theirs within a second of falling idle,
        else with their beats."""
        at = None if since is None else seconds_of(since, "since")
        wanted = Wanted(model, status, surface, at, errors)
        found, next_before = log.find(wanted, limit, before)
        return {
            "log": services.pool.config.request_log,
            "capture": capture_view(services),
            "requests": [view(each) for each in found],
            "next_before": next_before,
            "kept": services.pool.config.request_log_entries,
            "missing": log.missing,
        }

    @router.get("/requests/capture")
    async def capture() -> CaptureView:
        """Whether what is said in requests is captured, of which models (null: all), until when."""
        return capture_view(services)

    @router.post("/requests/capture", responses=refuses(InvalidRequest, ModelNotFound, Conflict))
    async def start_capture(body: CaptureBody | None = None) -> CaptureView:
        """Keep, for some minutes, what is said in requests: in memory, without what looks like a
        key or password, at most `max_body_bytes` of each body. It ends by itself."""
        asked, config = body or CaptureBody(), services.pool.config
        refuse_capture(asked, config)
        models = None
        if asked.models is not None:
            models = [services.catalog.get(name) for name in asked.models]
        await services.captures.start(60 * asked.minutes, models, asked.max_body_bytes)
        return capture_view(services)

    @router.delete("/requests/capture")
    async def stop_capture() -> CaptureView:
        """Capture nothing any more, and forget what was captured."""
        await services.end_capture("DELETE /requests/capture")
        return capture_view(services)

    @router.get("/requests/{number}", responses=refuses(NotFound))
    async def request(number: Annotated[int, WHOLE, Path(ge=1)]) -> RequestDetails:
        """One request of the log; with what was said in it, where that was captured."""
        logged = log.get(number)
        if logged is None:
            kept = services.pool.config.request_log_entries
            text = f"request {number} is not in the log, which keeps the last {kept:,}"
            raise NotFound(text)
        content, config = log.content(number), services.pool.config
        url = base_url(config.host, config.port)
        shown = None if content is None else content_view(content, url)
        return {**view(logged), "content": shown}

    @router.get("/usage", responses=_CSV)
    async def usage(
        by: Annotated[str, Query(description="Any of model, day, hour, with commas")] = "model,day",
        since: Time = None,
        until: Time = None,
        model: str | None = None,
        format: Annotated[str, Query(description="json or csv; else as Accept says")] = "",
        accept: Accept = "",
    ) -> Response:
        """Requests, tokens, time and cost, by model and by hour or day in UTC: whole hours from
        `since` on and before `until`."""
        parts = parts_of(by)
        first, last = _hour(since, "since"), _hour(until, "until")
        model_id = model
        if model is not None and (own := services.catalog.find(model)) is not None:
            model_id = own.model_id  # one that was deleted has its rows still
        is_csv = _is_csv(format, accept)
        await services.usage_hours.save(services.store)
        rows = await services.store.usage_totals(parts, first, last, model_id)
        shown = [usage_view(row, parts) for row in rows]
        if is_csv:
            return PlainTextResponse(as_csv(shown, parts), media_type=CSV_TYPE)
        totals = await services.store.usage_totals((), first, last, model_id)
        report: UsageReport = {
            "by": list(parts),
            "since": _time(first),
            "until": _time(last),
            "rows": shown,
            "totals": [usage_view(row, ()) for row in totals],
        }
        return JSONResponse(report)

    return router


def parts_of(by: str) -> tuple[str, ...]:
    """PURE. What is told apart.

    Raises:
        InvalidRequest: there is no such thing.
    """
    said = [part.strip() for part in by.split(",") if part.strip()]
    if unknown := [part for part in said if part not in PARTS]:
        text = f"by should be of {', '.join(PARTS)}, with commas, not {unknown[0][:60]!r}"
        raise InvalidRequest(text, param="by")
    return tuple(part for part in PARTS if part in said)


def refuse_capture(body: CaptureBody, config: PoolConfig) -> None:
    """PURE. Is that to be captured?

    Raises:
        Conflict: nothing is, here.
        InvalidRequest: not for so long.
    """
    most = config.capture_max_minutes
    if config.request_log == "off":
        raise Conflict("no requests are logged (request_log is off), so none can be captured")
    if most == 0:
        raise Conflict("what is said is never captured here: capture_max_minutes is 0")
    if not 0 < body.minutes <= most:
        text = f"minutes should be above 0 and at most {most:g} (capture_max_minutes)"
        raise InvalidRequest(f"{text}, not {body.minutes:g}", param="minutes")


def capture_view(services: Services) -> CaptureView:
    """What is captured, as the API shows it."""
    captures = services.captures
    present = captures.present
    ids = None if present is None else present.model_ids
    return {
        "on": present is not None,
        "ends_at": None if present is None else iso(present.ends_at),
        "seconds_left": round(captures.seconds_left(), 3),
        "models": None if ids is None else sorted(ids),
        "max_body_bytes": None if present is None else present.max_bytes,
        "max_minutes": services.pool.config.capture_max_minutes,
        "captured": services.requests.contents,
    }


def content_view(content: Captured, url: str) -> CapturedContent:
    """PURE. What was said, as the API shows it; ``url`` of the pool."""
    return {
        "method": content.method,
        "target": content.target,
        "request": _message(content.request),
        "answer": _message(content.answer),
        "curl": as_curl(content, url),
    }


def _message(message: Message) -> CapturedMessage:
    return {
        "headers": dict(message.headers),
        "body": message.text,
        "size_bytes": message.size,
        "is_whole": message.is_whole,
    }


def as_curl(content: Captured, url: str) -> str | None:
    """PURE. A command that asks the pool the same again, without keys; None where the body is not
    known as a whole."""
    if not content.request.is_whole:
        return None
    path, _, query = content.target.partition("?")
    open_ones = "&".join(each for each in query.split("&") if not each.endswith("=[redacted]"))
    words = ["curl", "-N", shlex.quote(url + path + ("?" + open_ones if open_ones else ""))]
    if content.method != "POST":
        words[1:1] = ["-X", content.method]
    kind = dict(content.request.headers).get("content-type", "application/json")
    words += ["-H", shlex.quote(f"content-type: {kind}")]
    if content.request.text:
        words += ["--data-raw", shlex.quote(content.request.text)]
    return " ".join(words)


def request_view(logged: Logged, *, is_captured: bool = False) -> RequestView:
    """PURE. A request as the API shows it."""
    request = logged.request
    by = "worker" if request.is_direct else "gateway"
    return {
        "number": logged.number,
        "request_id": request.request_id,
        "at": iso(request.started_at),
        "model": request.model,
        "model_id": logged.model_id or None,
        "virtual_model": request.via or None,
        "surface": request.path,
        "status": request.status,
        "code": request.code or None,
        "seconds": round(request.seconds, 6),
        "waited_seconds": round(request.waited_seconds, 6),
        "first_token_seconds": None
        if request.first_seconds is None
        else round(request.first_seconds, 6),
        "prompt_tokens": request.prompt_tokens,
        "cached_tokens": request.cached_tokens,
        "completion_tokens": request.completion_tokens,
        "tokens_estimated": request.is_estimated,
        "stream": request.is_stream,
        "by": by,
        "worker_id": logged.worker_id or None,
        "captured": is_captured,
    }


def usage_view(row: UsageTotal, parts: Sequence[str]) -> UsageView:
    """PURE. A row of usage as the API shows it."""
    shown: UsageView = {
        "requests": row.requests,
        "errors": row.errors,
        "prompt_tokens": row.prompt_tokens,
        "cached_tokens": row.cached_tokens,
        "completion_tokens": row.completion_tokens,
        "estimated_requests": row.estimated,
        "seconds": round(row.seconds, 3),
        "cost": round(row.cost, 9),
        "currency": row.currency,
    }
    named: dict[str, str] = {}
    if "model" in parts and row.model_id is not None:
        named["model"] = row.model_id
    if "day" in parts and row.day is not None:
        named["day"] = (_time(row.day * HOURS_OF_A_DAY) or "")[:10]
    if "hour" in parts:
        named["hour"] = _time(row.hour) or ""
    return {**named, **shown}  # type: ignore[typeddict-item]


def as_csv(rows: Sequence[UsageView], parts: Sequence[str]) -> str:
    """PURE. A head and a line for each row."""
    text = io.StringIO()
    names = [*parts, *(name for name in UsageView.__annotations__ if name not in PARTS)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _hour(text: str | None, param: str) -> int | None:
    """That a time lies in; of the end of a time the next, unless it is one's begin."""
    if text is None:
        return None
    seconds = seconds_of(text, param)
    whole = int(seconds // SECONDS_OF_AN_HOUR)
    return whole + (param == "until" and seconds % SECONDS_OF_AN_HOUR > 0)


def _time(hour: int | None) -> str | None:
    if hour is None:
        return None
    return datetime.fromtimestamp(hour * SECONDS_OF_AN_HOUR, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_csv(said: str, accept: str) -> bool:
    if said not in ("", "json", "csv"):
        raise InvalidRequest(f"format should be json or csv, not {said[:60]!r}", param="format")
    return said == "csv" or (not said and CSV_TYPE in accept.lower())
