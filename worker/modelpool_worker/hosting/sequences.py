"""Generated tokens on their way from the threads that compute to the loop that serves."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator

from .cancel import Cancelled
from .contract import TextRequest, Token


class Sequence:
    """One request and its tokens: a ``TokenSink`` for what computes, an iterator for the loop."""

    def __init__(self, request: TextRequest, end_tokens: frozenset[int]) -> None:
        self.request = request
        self.is_length = False  # it ended because there was no more room
        self._end_tokens = end_tokens
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._tokens: deque[Token] = deque()
        self._count = 0
        self._has_ended = False
        self._error: BaseException | None = None
        self._is_woken = False
        self._news = asyncio.Event()

    # -- any thread ------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Nothing more is wanted of it."""
        return self._has_ended or self.request.cancel.is_set

    def push(self, *tokens: Token) -> None:
        """See ``TokenSink``."""
        with self._lock:
            for token in tokens:
                if self._has_ended:
                    break
                if token.id in self._end_tokens:
                    self._has_ended = True
                    break
                self._tokens.append(token)
                self._count += 1
                if self._count >= self.request.max_tokens:
                    self._has_ended = self.is_length = True
            self._wake()

    def end(self) -> None:
        """See ``TokenSink``."""
        with self._lock:
            self._has_ended = True
            self._wake()

    def fail(self, error: BaseException) -> None:
        """See ``TokenSink``."""
        with self._lock:
            if not self._has_ended:
                self._has_ended = True
                self._error = None if isinstance(error, Cancelled) else error
            self._wake()

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            try:
                self._loop.call_soon_threadsafe(self._news.set)
            except RuntimeError:  # the loop is closed: nobody listens
                return

    # -- the loop --------------------------------------------------------------------------------

    async def pieces(self) -> AsyncIterator[list[Token]]:
        """What has come since the last time, as soon as something has.

        Raises:
            Exception: with which the sequence failed.
        """
        while True:
            await self._news.wait()
            with self._lock:
                self._news.clear()
                self._is_woken = False
                tokens = list(self._tokens)
                self._tokens.clear()
                has_ended, error = self._has_ended, self._error
            if tokens:
                yield tokens
            if error is not None:
                raise error
            if has_ended:
                return
