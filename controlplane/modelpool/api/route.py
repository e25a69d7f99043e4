"""The routes of the management API: HEAD wherever GET is taken, answers written as they are."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from fastapi.dependencies.utils import get_typed_return_annotation
from fastapi.routing import APIRoute
from fastapi.utils import create_model_field
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, compile_path
from starlette.types import Message, Receive, Scope, Send

Endpoint = Callable[..., Awaitable[Any]]


class ApiRoute(APIRoute):
    """A route whose GET answers HEAD, and whose endpoint returns plain JSON values or a response.

    The document of the API shows what the endpoint's annotation and ``responses`` say. The type
    checker holds the endpoint to it, and tests the answers; to build models of all shapes would be
    a third of a manager's start, and to send every answer through them most of a long list's time.

    What reads a request, too, is built when the first for this path comes, or somebody looks at
    the route: a manager has more than a hundred, and most are never asked.
    """

    def __init__(
        self,
        path: str,
        endpoint: Endpoint,
        *,
        responses: Mapping[int | str, Mapping[str, Any]] | None = None,
        status_code: int | None = None,
        **options: Any,
    ) -> None:
        self.path = path
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self._build = partial(self._built, path, endpoint, responses or {}, status_code, options)

    def __getattr__(self, name: str) -> Any:
        """What is not there yet."""
        if name.startswith("__") or (build := self.__dict__.pop("_build", None)) is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        build()
        return getattr(self, name)

    def _built(
        self,
        path: str,
        endpoint: Endpoint,
        responses: Mapping[int | str, Mapping[str, Any]],
        status_code: int | None,
        options: Mapping[str, Any],
    ) -> None:
        said = {status: dict(about) for status, about in responses.items()}
        self._is_described = False
        self._answer = get_typed_return_annotation(endpoint)
        self._answers = {s: about.pop("model") for s, about in said.items() if "model" in about}
        written = _written(endpoint, status_code or 200)
        plain: dict[str, Any] = {**options, "response_model": None}
        super().__init__(path, written, responses=said, status_code=status_code, **plain)

    def describe_answers(self) -> None:
        """Build the models that the document of the API is made from, unless they are."""
        if self._is_described:
            return
        self._is_described = True
        self.response_fields = {
            status: create_model_field(
                f"Response_{status}_{self.unique_id}", model, mode="serialization"
            )
            for status, model in self._answers.items()
        }
        is_shape = self._answer is not None and not _is_response(self._answer)
        if is_shape and self.include_in_schema:
            name = f"Response_{self.unique_id}"
            self.response_field = create_model_field(name, self._answer, mode="serialization")

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As for GET where HEAD is asked."""
        return super().matches(_as_get(scope))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; to HEAD only until the body begins, which may be a stream without end."""
        if scope["method"] != "HEAD":
            await super().handle(scope, receive, send)
            return
        begun = asyncio.Event()

        async def start_only(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                begun.set()

        answering = asyncio.ensure_future(super().handle(_as_get(scope), receive, start_only))
        waiting = asyncio.ensure_future(begun.wait())
        try:
            await asyncio.wait({answering, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not begun.is_set():
                await answering  # raises what kept it from answering
        finally:
            for task in (answering, waiting):
                task.cancel()
            await asyncio.gather(answering, waiting, return_exceptions=True)


def _as_get(scope: Scope) -> Scope:
    is_head = scope["type"] == "http" and scope["method"] == "HEAD"
    return {**scope, "method": "GET"} if is_head else scope


def _is_response(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Response)


def _written(endpoint: Endpoint, status: int) -> Endpoint:
    """The endpoint with its answer as a response. One that takes a response may have set another
    status there, and headers."""

    @functools.wraps(endpoint)
    async def answer(**given: Any) -> Response:
        found = await endpoint(**given)
        if isinstance(found, Response):
            return found
        own = next((value for value in given.values() if isinstance(value, Response)), None)
        if own is None:
            return JSONResponse(found, status)
        # An empty response has a length, which is not that of the answer.
        headers = {k: v for k, v in own.headers.items() if k != "content-length"}
        return JSONResponse(found, own.status_code or status, headers)

    return answer
