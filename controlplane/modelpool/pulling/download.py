"""Fetches one file: goes on where it was, at a limited speed, and lets nothing pass that is not
what was announced. The only way by which the bytes of any origin come."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from modelpool_client.errors import BadGateway, Conflict, ModelPoolError, Unavailable

from .base import RemoteFile
from .http import header_digest, refuse, shown, unreachable, unusable, whole_number
from .partial import Partial, file_hash, opened
from .retry import RetryPolicy
from .throttle import Throttle

_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
BUSY_SECONDS = 0.5


@dataclass(frozen=True)
class Fetched:
    """A file that is there, whole: its bytes and their ``sha256:…``; ``reused``: what it is a link
    to, where another program had it."""

    path: Path
    size: int
    sha256: str
    reused: str = ""


class Downloader:
    """Fetches files, one after the other.

    Args:
        subject: for whom, to be written beside what is not whole yet.
        throttle: is asked before each piece.
        on_bytes: is told how many bytes of the file are there.
        log: is told what people should know.
        sleep: takes seconds.
    """

    def __init__(
        self,
        client: httpx.Client,
        subject: str,
        throttle: Throttle,
        on_bytes: Callable[[int], object],
        log: Callable[[str], object],
        policy: RetryPolicy | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._client = client
        self._subject = subject
        self._throttle = throttle
        self._on_bytes = on_bytes
        self._log = log
        self._policy = policy or RetryPolicy()
        self._sleep = sleep

    def fetch(self, file: RemoteFile, target: Path, known: Fetched | None = None) -> Fetched:
        """The file under its name: found there, or fetched.

        Args:
            known: what was recorded of the one that is there.

        Raises:
            ModelPoolError: why it cannot be had; what was fetched is kept, unless it is wrong.
        """
        while True:
            found = whole(file, target, known)
            if found is not None:
                self._on_bytes(found.size)
                return found
            try:
                with opened(target, file, self._subject) as partial:
                    return self._fetch(target, partial)
            except Conflict:
                self._sleep(BUSY_SECONDS)  # another pull fetches the same file: share what it gets

    def _fetch(self, target: Path, partial: Partial) -> Fetched:
        name = partial.remote.path
        if reason := partial.begin():
            self._log(f"{name} is begun anew: {reason}")
        self._until_whole(partial)
        problem = _mismatch(partial)
        if problem and partial.was_resumed:
            # What lay there before may have been damaged: by a power cut, for one.
            self._log(f"{name} is fetched anew: {problem}")
            partial.restart()
            self._until_whole(partial)
            problem = _mismatch(partial)
        if problem:
            partial.restart()
            text = f"{name} is not what was announced: {problem}; it was thrown away"
            raise BadGateway(text, source="upstream", code="digest_mismatch")
        fetched = Fetched(target, partial.size, partial.sha256)
        partial.finish(target)
        return fetched

    def _until_whole(self, partial: Partial) -> None:
        """Ask until all bytes are there."""
        failures = 0
        while True:
            before = partial.size
            try:
                self._attempt(partial)
                return
            except httpx.TransportError as e:
                error: ModelPoolError = unreachable(e)
            except (httpx.TooManyRedirects, httpx.InvalidURL) as e:
                raise unusable(e) from None
            except Unavailable as e:
                error = e
            failures = 1 if partial.size > before else failures + 1
            delay = self._policy.delay(failures, error.retry_after)
            if delay is None:
                raise error
            text = f"{partial.remote.path}, {partial.size} bytes: {error.message}"
            self._log(f"{text}; again in {delay:.1f} s")
            self._sleep(delay)

    def _attempt(self, partial: Partial) -> None:
        """One request, from where the partial ends.

        Raises:
            Unavailable, httpx.TransportError: another attempt may go further.
            ModelPoolError: none would.
        """
        if partial.size and not partial.remote.identity:
            partial.restart()  # nobody could tell whether the rest is of the same content
        file, start = partial.remote, partial.size
        if start and start == file.size:
            return
        with self._client.stream("GET", file.url, headers=_headers(file, start)) as response:
            if response.status_code == 416 and start:
                _out_of_range(response, partial)
                return
            refuse(response)
            if response.headers.get("content-encoding", "identity") != "identity":
                text = f"{shown(file.url)} is sent encoded, though that was not asked for"
                raise BadGateway(text, source="upstream")
            self._place(response, partial)
            self._read(response, partial)

    def _place(self, response: httpx.Response, partial: Partial) -> None:
        """Make the partial end where the answer's bytes begin, and learn what it says."""
        file = partial.remote
        start, total = _extent(response)
        is_other = bool(file.etag and _etag(response) and file.etag != _etag(response))
        is_other = is_other and not file.digest  # which mirrors may mark differently
        if response.status_code == 206 and (start != partial.size or is_other):
            partial.restart()
            text = f"{shown(file.url)} answers with other bytes than those asked for"
            raise Unavailable(text, source="upstream", code="bad_range", retry_after=0)
        if response.status_code != 206 and partial.size:
            reason = "was published anew" if is_other else "does not come in parts"
            self._log(f"{file.path} {reason}: it is begun anew")
            partial.restart()
        if not file.digest:  # the answer is all that is known of it
            learned = dataclasses.replace(
                file,
                digest=header_digest(response),
                etag=_etag(response) or file.etag,
                modified=response.headers.get("last-modified", file.modified),
                size=total,
            )
            partial.learn(learned)

    def _read(self, response: httpx.Response, partial: Partial) -> None:
        file, (_, total) = partial.remote, _extent(response)
        total = total if file.size is None else file.size
        for piece in response.iter_raw():
            self._throttle.take(len(piece))
            if total is not None and partial.size + len(piece) > total:
                partial.restart()
                text = f"{file.path} has more than the {total} bytes that were announced"
                raise BadGateway(text, source="upstream", code="size_mismatch")
            partial.write(piece)
            self._on_bytes(partial.size)
        if total is not None and partial.size < total:
            text = f"{shown(file.url)} ended after {partial.size} of {total} bytes"
            raise Unavailable(text, source="upstream", code="cut_off")


def _out_of_range(response: httpx.Response, partial: Partial) -> None:
    _, total = _extent(response)
    if total == partial.size:
        partial.learn(dataclasses.replace(partial.remote, size=total))
        return
    partial.restart()
    text = f"{shown(partial.remote.url)} is shorter than what was fetched of it before"
    raise Unavailable(text, source="upstream", code="bad_range", retry_after=0)


def whole(file: RemoteFile, target: Path, known: Fetched | None) -> Fetched | None:
    """The file if it is there and what is announced; None where it is to be fetched.

    One that was recorded when it was fetched is not read again.
    """
    if not target.is_file() or not file.identity:
        return None
    size = target.stat().st_size
    if file.size is not None and size != file.size:
        return None
    if not file.digest:
        return known if known is not None and known.size == size else None
    if known is not None and known.size == size and known.sha256 == file.digest:
        return known
    found = file_hash(target, file)
    kind = file.digest.partition(":")[0]
    return Fetched(target, size, found["sha256"]) if found.get(kind) == file.digest else None


def _headers(file: RemoteFile, start: int) -> dict[str, str]:
    headers = dict(file.headers)
    if start:
        headers["range"] = f"bytes={start}-"
        strong = file.etag if not file.etag.startswith("W/") else ""
        # What has a digest is checked by it; a mirror may mark the same bytes otherwise.
        if not file.digest and (strong or file.modified):
            headers["if-range"] = strong or file.modified
    return headers


def _etag(response: httpx.Response) -> str:
    return str(response.headers.get("etag", ""))


def _extent(response: httpx.Response) -> tuple[int, int | None]:
    """Where an answer's bytes begin in the file, and how many the whole file has."""
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status_code in (206, 416):
        start, total = (found[1] or "", found[2]) if found is not None else ("", "*")
        at = whole_number(start)
        return -1 if at is None else at, whole_number(total)
    return 0, whole_number(response.headers.get("content-length", ""))


def _mismatch(partial: Partial) -> str:
    """What is wrong with the bytes; empty where nothing is."""
    file = partial.remote
    if file.size is not None and partial.size != file.size:
        return f"it has {partial.size} bytes and should have {file.size}"
    kind, _, _ = file.digest.partition(":")
    found = partial.digest(kind) if kind else ""
    return f"its digest is {found} and should be {file.digest}" if found != file.digest else ""
