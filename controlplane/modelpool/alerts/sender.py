"""Sends messages to one target: in order, again where that may help, and without anybody waiting
for it. Nothing that is logged or told holds its address."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import retry
from .addresses import NoAddress, address_of
from .settings import AlertTargetSettings
from .targets.base import Message
from .targets.registry import body_of

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

# More than that wait for a target that does not answer: the oldest are dropped.
MOST_WAITING = 100
# Below warnings they log addresses.
TALKATIVE = ("httpx", "httpcore")
# A proxy of the environment is of no use for what is on this machine.
OWN_MACHINE = ("all://127.0.0.1", "all://localhost", "all://[::1]")


class HttpClient:
    """The client of all targets, made when the first message is sent: to import it is a quarter of
    the manager's start."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def post(self, url: str, body: Any) -> tuple[int, str | None]:
        """Status and Retry-After; follows no redirect, and leaves the answer's body unread.

        Raises:
            OSError, ValueError, httpx.HTTPError, httpx.InvalidURL: there was no answer.
        """
        self.open()
        assert self._client is not None
        async with self._client.stream("POST", url, json=body) as response:
            return response.status_code, response.headers.get("retry-after")

    def open(self) -> None:
        """Make the client, which takes a while; no target is to blame for that."""
        if self._client is None:
            import httpx

            for name in TALKATIVE:
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = httpx.AsyncClient(
                timeout=None,
                verify=ssl.create_default_context(),
                mounts=dict.fromkeys(OWN_MACHINE, httpx.AsyncHTTPTransport()),
                headers={"user-agent": "modelpool"},
            )

    async def close(self) -> None:
        """End its connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


@dataclass(frozen=True)
class Attempt:
    """What came of one.

    Attributes:
        problem: what went wrong, in words; empty: it was taken.
        may_pass: another one may help.
        retry_after: seconds, as the target said.
    """

    problem: str = ""
    may_pass: bool = False
    retry_after: float | None = None


class Sender:
    """Of one target.

    Attributes:
        problem: why the last message did not arrive; empty if it did.
        sent, lost: messages that arrived, and that were given up.
    """

    def __init__(
        self,
        name: str,
        settings: AlertTargetSettings,
        client: HttpClient,
        publish: Callable[..., object],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.settings = settings
        self.problem = ""
        self.sent = self.lost = 0
        self._client = client
        self._publish = publish
        self._pause = pause
        self._waiting: deque[Message] = deque()
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Sender {self.name}, {len(self._waiting)} waiting>"

    @property
    def waiting(self) -> int:
        """Messages that were not sent yet."""
        return len(self._waiting)

    def put(self, message: Message) -> None:
        """Send it when those before it are sent. Never waits."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(message)
        self._came.set()
        if self._task is None:
            self._task = asyncio.ensure_future(self._send_on())

    async def close(self) -> None:
        """Stop; what waits is not sent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _send_on(self) -> None:
        while True:
            await self._came.wait()
            while self._waiting:
                message = self._waiting[0]
                problem = await self._deliver(message)
                # It may have been dropped meanwhile.
                if self._waiting and self._waiting[0] is message:
                    self._waiting.popleft()
                self._note(problem)
            self._came.clear()

    async def _deliver(self, message: Message) -> str:
        """With as many attempts as it may take; why it was given up, empty if it arrived."""
        for number in range(1, self.settings.attempts + 1):
            attempt = await self.attempt(message)
            if not attempt.problem:
                return ""
            if not attempt.may_pass or number == self.settings.attempts:
                break
            await self._pause(retry.pause_seconds(number, attempt.retry_after))
        return f"{attempt.problem} (attempt {number} of {self.settings.attempts})"

    def _note(self, problem: str) -> None:
        """Told when it begins and when it is over, not for every message."""
        before, self.problem = self.problem, problem
        self.sent += not problem
        self.lost += bool(problem)
        if problem and not before:
            log.warning("alerts do not reach %s: %s", self.name, problem)
            self._publish("alert-target-failed", target=self.name, reason=problem)
        elif before and not problem:
            reason = "alerts reach it again"
            self._publish("alert-target-recovered", target=self.name, reason=reason)

    async def attempt(self, message: Message) -> Attempt:
        """Send it once."""
        seconds = self.settings.timeout_seconds
        self._client.open()
        try:
            body = body_of(self.settings.kind)(message)
            async with asyncio.timeout(seconds):
                address = await asyncio.to_thread(address_of, self.settings)
                status, retry_after = await self._client.post(address, body)
        except NoAddress as e:
            return Attempt(str(e))
        except TimeoutError:
            return Attempt(f"no answer within {seconds:g} s", may_pass=True)
        except Exception as e:
            # Whatever it says may hold the address.
            return Attempt(_in_words(e), may_pass=True)
        if retry.is_taken(status):
            return Attempt()
        told = retry.retry_after(retry_after)
        return Attempt(f"it answers {status}", retry.may_pass(status), told)


def _in_words(error: Exception) -> str:
    kind = type(error).__name__
    if kind in ("ConnectError", "ConnectTimeout"):
        return "it cannot be reached, or its certificate is not trusted"
    return f"the connection failed ({kind})"
