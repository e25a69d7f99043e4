"""A server elsewhere: reached over TLS, asked with a key, within its limits, once."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from modelpool_client import __version__
from modelpool_client.errors import LoadFailed, ModelPoolError
from modelpool_client.http1.message import Headers
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import (
    BrokenOff,
    NotReached,
    UpstreamConnection,
    UpstreamError,
)
from modelpool_client.surfaces import sse

from modelpool_worker.engine import EngineJob
from modelpool_worker.link import Reply, WholeReply

from .errors import Provider, error_of
from .keys import Key
from .options import SECONDS, headers_of, variables_of
from .rate_limits import WAIT_SECONDS, RateLimits
from .replies import StreamReply
from .streams import Counted, Decoder, Unchanged, whole

AGENT = (b"user-agent", f"modelpool/{__version__}".encode())
# Of an answer in one piece, and of one that says what went wrong.
LONGEST_ANSWER_BYTES = 256 << 20
LONGEST_ERROR_BYTES = 64 << 10
API_SECONDS = 30.0
# How a server shows that it is there, although it has no list of its models for us.
_NO_LIST = frozenset({402, 404, 405, 429, 501, 503, 529})


@dataclass(frozen=True)
class Ask:
    """One request, in the words of the server.

    Attributes:
        path: below that where the API begins, with its slash.
        model: its name there, whose limits count.
        decoder: makes the front's words of a stream; None where an answer in one piece is wanted.
        read: makes them of an answer in one piece; None: those are they.
        is_json: an answer in one piece is a JSON object, else it may be anything.
        hear: is told of an answer in one piece.
    """

    path: str
    headers: Headers
    body: bytes
    model: str
    decoder: Decoder | None = None
    read: Callable[[dict[str, Any]], bytes] | None = None
    is_json: bool = True
    hear: Callable[[dict[str, Any]], None] | None = None


class Server:
    """Asks one provider.

    Attributes:
        limits: what it has said of its limits.
        tokens_estimated: of streams that told of none.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        key: Key,
        *,
        seconds: float,
        ca_file: str = "",
        headers: Headers | None = None,
        key_header: Callable[[str], Headers] | None = None,
        prefix: str | None = None,
    ) -> None:
        """
        Args:
            base_url: where its API begins; without a path that is ``/v1``. ``{model}`` in the path
                is the model's name there; its query goes with every request.
            seconds: how long it may be silent, before and within an answer.
            ca_file: certificates to trust in place of the system's.
            headers: go with every request.
            key_header: how a key is shown; ``Authorization: Bearer`` where that is None.
            prefix: of every path, in place of the path of ``base_url``.

        Raises:
            LoadFailed: the certificates cannot be read (``bad_config``).
        """
        url = urlsplit(base_url)
        is_tls = url.scheme == "https"
        self.host = url.hostname or ""
        self.port = url.port or (443 if is_tls else 80)
        self.key = key
        self.limits = RateLimits.empty()
        self.tokens_estimated = 0
        self._prefix = url.path.rstrip("/") or "/v1" if prefix is None else prefix
        self._query = url.query if prefix is None else ""
        self._name = name
        self._seconds = seconds
        self._headers = [AGENT, *(headers or ())]
        self._key_header = key_header or bearer
        self._tls = _trust(ca_file) if is_tls else None
        self._upstream = Upstream(self._tls)

    def __repr__(self) -> str:
        return f"<Server {self._name} at {self.host}:{self.port}>"

    @property
    def provider(self) -> Provider:
        """Who it is, for errors of this moment."""
        where = f"{self._name} ({self.host}:{self.port})"
        return Provider(where, self.key.place, bool(self.key.value), self.key.mask)

    async def ask(self, ask: Ask) -> Reply:
        """Send a request that may be billed, and wait for its answer to begin.

        Raises:
            ModelPoolError: there is none, in words that say who failed.
        """
        provider = self.provider
        await self._wait_for_turn(provider, ask.model)
        target = self._target(ask.path, ask.model)
        sending = self._send("POST", target, ask.headers, ask.body, once=True)
        connection = await self._answered(provider, sending)
        with _Held(connection) as held:
            pause = self.limits.heard(ask.model, connection.status, connection.headers, time.time())
            if not 200 <= connection.status < 300:
                words = await self._words(connection)
                raise error_of(
                    provider, connection.status, connection.headers, words, pause, ask.model
                )
            return await self._reply(provider, ask, held)

    async def get(self, path: str, headers: Headers | None = None) -> bytes:
        """What it says of itself, which costs nothing.

        Raises:
            ModelPoolError: it refuses.
            UpstreamError: there is no answer.
        """
        _, said = await self._got(path, headers)
        if isinstance(said, ModelPoolError):
            raise said
        return said

    async def _got(
        self, path: str, headers: Headers | None = None
    ) -> tuple[int, bytes | ModelPoolError]:
        """The status, and what it says; as an error where it says no more than that.

        Raises:
            UpstreamError: there is no answer.
        """
        provider = self.provider
        try:
            async with asyncio.timeout(min(self._seconds, API_SECONDS)):
                sending = self._send("GET", self._target(path), headers or [], b"", once=False)
                with await sending as reply:
                    if reply.status == 200:
                        return 200, await self._whole(provider, reply)
                    words = await self._words(reply)
                    error = error_of(provider, reply.status, reply.headers, words, None, "")
                    return reply.status, error
        except TimeoutError:
            text = f"{provider.name} did not answer in time"
            raise UpstreamError(text) from None

    async def open(self, headers: Headers | None = None) -> None:
        """Find out whether it can be used, by asking for its list of models.

        Raises:
            LoadFailed: it cannot be reached, or refuses the key.
        """
        try:
            status, said = await self._got("/models", headers)
        except LoadFailed:
            raise
        except UpstreamError as e:
            raise self.not_reached(e) from e
        except ModelPoolError as e:
            raise LoadFailed(e.message, code="load_failed", source="upstream") from e
        if isinstance(said, ModelPoolError) and status not in _NO_LIST:
            raise LoadFailed(said.message, code="load_failed", source="upstream") from said

    async def probe(self, headers: Headers | None = None) -> None:
        """Find out whether it answers, by asking for its list of models. It need not have one, and
        may refuse to show it.

        Raises:
            UpstreamError: it does not.
        """
        status, said = await self._got("/models", headers)
        if isinstance(said, ModelPoolError) and status >= 500 and status not in _NO_LIST:
            raise UpstreamError(said.message) from said

    def not_reached(self, error: UpstreamError) -> LoadFailed:
        """Why it cannot be used."""
        text = f"{self._name}: {self.host}:{self.port} cannot be reached: {error}"
        return LoadFailed(text, code="load_failed", source="upstream")

    async def reach(self) -> None:
        """Find out whether it accepts connections.

        Raises:
            UpstreamError: it does not.
        """
        try:
            async with asyncio.timeout(API_SECONDS):
                _, writer = await asyncio.open_connection(self.host, self.port, ssl=self._tls)
        except (OSError, TimeoutError) as e:
            raise NotReached(str(e) or "no connection in time") from e
        writer.close()

    def shown(self) -> Mapping[str, Any]:
        """Its limits, as far as it has told them, for people."""
        return {
            "server": f"{self.host}:{self.port}",
            "requests_not_sent": self.limits.refused,
            "tokens_estimated": self.tokens_estimated,
            "models": self.limits.shown(time.time()),
        }

    def counted(self, stream: Decoder, said: Mapping[str, Any]) -> Counted:
        """The stream for a request for a completion, with its tokens counted."""
        hides_usage = not wants_usage(said)
        return Counted(stream, hides_usage=hides_usage, estimated=self._estimate)

    def _estimate(self, tokens: int) -> None:
        self.tokens_estimated += tokens

    def close(self) -> None:
        """Close every idle connection."""
        self._upstream.close()

    async def _wait_for_turn(self, provider: Provider, model: str) -> None:
        if (seconds := self.limits.wait(model, time.time())) > 0:
            if seconds > WAIT_SECONDS:
                self.limits.refused += 1
                raise provider.limited(model, seconds)
            await asyncio.sleep(seconds)

    def _target(self, path: str, model: str = "") -> str:
        """Without a model, what the path of the API says of one is left out."""
        prefix = self._prefix
        if model:
            prefix = prefix.replace("{model}", quote(model, safe=""))
        elif "{model}" in prefix:
            prefix = prefix.partition("{model}")[0].rstrip("/")
        if not self._query:
            return prefix + path
        return f"{prefix}{path}{'&' if '?' in path else '?'}{self._query}"

    async def _send(
        self, method: str, target: str, headers: Headers, body: bytes, *, once: bool
    ) -> UpstreamConnection:
        value = self.key.value
        own = self._key_header(value) if value else []
        return await self._upstream.request(
            (self.host, self.port),
            method,
            target.encode(),
            [*headers, *self._headers, *own],
            body,
            once=once,
        )

    async def _answered(
        self, provider: Provider, sending: Coroutine[Any, Any, UpstreamConnection]
    ) -> UpstreamConnection:
        try:
            async with asyncio.timeout(self._seconds):
                return await sending
        except TimeoutError:
            text = f"did not answer within {self._seconds:g} s (request_timeout_seconds)"
            raise provider.timed_out(text) from None
        except NotReached as e:
            raise provider.failed(f"cannot be reached: {e}") from e
        except BrokenOff as e:
            text = f"gave no answer: {e}; it is not asked again, for it may have been billed"
            raise provider.failed(text) from e
        except UpstreamError as e:
            raise provider.failed(f"gave no answer: {e}") from e

    async def _reply(self, provider: Provider, ask: Ask, held: _Held) -> Reply:
        connection = held.connection
        kind = dict(connection.headers).get(b"content-type", b"")
        if not ask.is_json:
            headers = connection.headers
            return StreamReply(held.keep(), headers, provider, Unchanged(), self._seconds)
        if sse.is_announced(connection.headers) or any(k in kind for k in _STREAMS):
            if ask.decoder is None:
                raise provider.failed("sent a stream where an answer in one piece was asked for")
            return StreamReply(held.keep(), _HEADERS, provider, ask.decoder, self._seconds)
        body = await self._in_time(provider, connection)
        if b"json" not in kind:
            shown = kind.decode("latin-1")[:100] or "no Content-Type"
            raise provider.failed(f"answered with {shown} in place of JSON: {_shown(body)}")
        value = whole(provider, body)
        if ask.decoder is not None:
            raise provider.failed("sent an answer in one piece where a stream was asked for")
        if ask.hear is not None:
            ask.hear(value)
        told = body if ask.read is None else _told(provider, ask.read, value, body)
        if (secret := self.key.value) and secret.encode() in told:
            told = provider.mask(told.decode("latin-1")).encode("latin-1")
        return WholeReply(200, told)

    async def _in_time(self, provider: Provider, connection: UpstreamConnection) -> bytes:
        try:
            return await self._whole(provider, connection)
        except TimeoutError:
            text = f"sent nothing for {self._seconds:g} s of its answer"
            raise provider.timed_out(text) from None
        except UpstreamError as e:
            raise provider.failed(f"broke off its answer: {e}") from e

    async def _whole(self, provider: Provider, connection: UpstreamConnection) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            async with asyncio.timeout(self._seconds):
                piece = await connection.piece()
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
            if size > LONGEST_ANSWER_BYTES:
                limit = f"{LONGEST_ANSWER_BYTES >> 20} MB"
                raise provider.failed(f"sent an answer of more than {limit}")

    async def _words(self, connection: UpstreamConnection) -> bytes:
        """Of an error, as much as can be had."""
        said = b""
        try:
            async with asyncio.timeout(min(self._seconds, API_SECONDS)):
                while len(said) < LONGEST_ERROR_BYTES and (piece := await connection.piece()):
                    said += piece
        except (TimeoutError, UpstreamError):
            pass
        return said


def server_of(
    job: EngineJob,
    environment: Mapping[str, str],
    base_url: str,
    variables: Sequence[str],
    key_header: Callable[[str], Headers],
    prefix: str | None = None,
) -> Server:
    """The server that a job's options name.

    Args:
        base_url: where its API begins.
        variables: of the environment, any of which may hold the key where no option says which.
        key_header: how the key is shown.
        prefix: see ``Server``.

    Raises:
        LoadFailed: a file or a variable that they name is of no use (``bad_config``).
    """
    options = job.options
    return Server(
        job.model_id,
        base_url,
        Key(environment, variables_of(options, variables), options.get("api_key_file", "")),
        seconds=options.get("request_timeout_seconds", SECONDS),
        ca_file=options.get("ca_file", ""),
        headers=headers_of(options),
        key_header=key_header,
        prefix=prefix,
    )


class _Held:
    """A connection that is given back when the block ends, unless somebody keeps it."""

    def __init__(self, connection: UpstreamConnection) -> None:
        self.connection = connection
        self._is_kept = False

    def keep(self) -> UpstreamConnection:
        """Somebody else gives it back."""
        self._is_kept = True
        return self.connection

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *details: Any) -> None:
        if not self._is_kept:
            self.connection.__exit__(None, None, None)


_HEADERS: Headers = list(sse.HEADERS)
# Types of an object on each line.
_STREAMS = (b"ndjson", b"jsonl", b"stream+json")


def wants_usage(said: Mapping[str, Any]) -> bool:
    """Whether the client of a stream asks for a chunk with its tokens."""
    return bool((said.get("stream_options") or {}).get("include_usage"))


def bearer(key: str) -> Headers:
    """How most show a key."""
    return [(b"authorization", f"Bearer {key}".encode())]


def _trust(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as e:
        text = f"ca_file {ca_file} cannot be read: {e.strerror or e}"
        raise LoadFailed(text, code="bad_config", param="ca_file") from None


def _told(
    provider: Provider, read: Callable[[dict[str, Any]], bytes], value: dict[str, Any], body: bytes
) -> bytes:
    try:
        return read(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise provider.failed(f"sent an answer that makes no sense: {_shown(body)}") from None


def _shown(body: bytes) -> str:
    return repr(body[:100].decode(errors="replace"))
