"""The state of one worker, and every answer that is read from it. Changed by its front only."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from modelpool_client import __version__
from modelpool_client.errors import (
    EngineFailed,
    InvalidRequest,
    LoadFailed,
    ModelLoading,
    WorkerDraining,
)
from modelpool_client.guard import Guard
from modelpool_client.http1.exchange import Exchange
from modelpool_client.response_store import ResponseStore
from modelpool_client.surfaces.models import Listed
from modelpool_client.surfaces.parameters import ANY, Support
from modelpool_client.surfaces.routes import BASIC, TEXT_PATH
from modelpool_client.surfaces.translation import KeptAnswer, Known, Translation
from modelpool_client.wire import (
    Assignment,
    Facts,
    FactsReply,
    Failure,
    Phase,
    Progress,
    encode,
)

from .activity import Activity
from .calls import Call
from .child import EngineChild, describe_exit
from .engine_client import EngineClient
from .memory import MemoryMeter
from .metrics import Metrics
from .proc import resident_bytes

# How long a broken answer waits for the engine's death, to be told with its last words.
LAST_WORDS_SECONDS = 2.0
SHOWN_LINES = 5

Change = Literal["phase", "activity", "progress"]


class Worker:
    """``on_change`` hears what changed; ``on_idle`` the end of the last request in flight."""

    def __init__(
        self,
        assignment: Assignment,
        port: int,
        child: EngineChild,
        engine: EngineClient,
        on_change: Callable[[Change], None],
    ) -> None:
        self.assignment = assignment
        self.aliases = assignment.aliases
        self.drain_seconds = assignment.drain_seconds
        self.prompt_cache_limits = assignment.prompt_cache_limits
        self.guard = Guard(assignment.host, assignment.allowlist, "worker")
        self.port = port
        self.child = child
        self.engine = engine
        self.phase = Phase.LOADING
        self.activity = Activity()
        self.memory = MemoryMeter(child.pid)
        self.metrics = Metrics()
        self.calls: set[Call] = set()
        self.progress: Progress | None = None
        self.failure: Failure | None = None
        self.context_length: int | None = None
        self.slots: int | None = None
        self.serves: Sequence[str] = BASIC
        self.chat_error: str | None = None
        self.support: Support = ANY
        self.responses = ResponseStore(
            Path(assignment.responses_dir), assignment.responses_max_bytes
        )
        self.drain_reason = ""
        self.lease_left: Callable[[float], float | None] = lambda now: 0.0
        self.became_idle = asyncio.Event()
        self._on_change = on_change
        self.now = asyncio.get_running_loop().time
        self._started = self.now()
        self._created = int(time.time())
        self._sequence = 0

    def __repr__(self) -> str:
        return (
            f"<Worker {self.assignment.model_id} on {self.port}: {self.phase}, "
            f"{self.activity.in_flight} in flight>"
        )

    # What happens to it.

    def become(self, phase: Phase, failure: Failure | None = None) -> None:
        """Enter a phase. Ready starts the idle time."""
        self.phase, self.failure = phase, failure
        if phase is Phase.READY:
            self.activity.last_end = self.now()
        self._on_change("phase")

    def load_went_on(self, progress: Progress) -> None:
        """The load came this far."""
        self.progress = progress
        self._on_change("progress")

    def heed(self, reply: FactsReply) -> None:
        """What the manager wants otherwise than at the start."""
        if reply.aliases is not None:
            self.aliases = reply.aliases
        if reply.drain_seconds is not None:
            self.drain_seconds = reply.drain_seconds
        if reply.prompt_cache_limits is not None:
            self.prompt_cache_limits = reply.prompt_cache_limits
        if reply.allowlist is not None and reply.allowlist != self.guard.allowlist:
            self.guard.allow(reply.allowlist)

    def call(self, exchange: Exchange, *, is_direct: bool = False) -> Call:
        """A completion request, to be entered as a context. ``is_direct``: not the gateway's."""
        return Call(self, exchange, is_direct=is_direct)

    def begin(self, call: Call) -> None:
        """A call starts."""
        self.calls.add(call)
        self.became_idle.clear()
        if self.activity.begin(self.now(), is_direct=call.is_direct):
            self._on_change("activity")

    def end(self, call: Call, *, failed: bool) -> None:
        """A call ended."""
        self.calls.discard(call)
        activity = self.activity
        is_edge = activity.end(
            self.now(), failed=failed, tokens=call.tokens, is_direct=call.is_direct
        )
        if activity.in_flight == 0:
            self.became_idle.set()
        if is_edge:
            self._on_change("activity")

    def worked(self) -> None:
        """The engine gave a sign of work."""
        self.activity.sign_of_work(self.now())

    def drain(self, if_idle_for: float | None = None, reason: str = "") -> bool:
        """Refuse new work, if idle for so long; False means busy. The front does what follows."""
        was_draining = self.activity.is_draining
        drained = self.activity.drain(self.now(), if_idle_for)
        if drained and not was_draining:
            self.drain_reason = reason
            self.become(Phase.DRAINING)
        return drained

    # What it knows, and keeps.

    async def known(self, earlier_id: str | None) -> Known:
        """What is known beside a request that goes on from an answer of that id."""
        earlier = None
        if earlier_id is not None:
            earlier = await self.responses.find(earlier_id)
        return Known(earlier, self.serves, self.assignment.capabilities)

    async def keep(self, translation: Translation) -> None:
        """Keep an answer that is to be kept, before its client has heard the end of it."""
        if not (isinstance(translation, KeptAnswer) and translation.store):
            return
        if not await self.responses.keep(translation.response_id, translation.kept()):
            translation.not_stored()

    # What it says.

    def answer_head(self) -> dict[str, Any]:
        """Id, time and model of an answer whose engine gives it none."""
        identity = f"cmpl-{uuid.uuid4().hex}"
        model = self.assignment.model_id
        return {"id": identity, "created": int(time.time()), "model": model}

    def check_ready(self, *, draining_too: bool = False) -> None:
        """Raise ModelLoading, WorkerDraining or LoadFailed unless a request can be taken now."""
        if self.phase is Phase.FAILED and self.failure is not None:
            raise LoadFailed(
                self.failure.message, code=self.failure.code, source="worker", retry_after=1
            )
        if self.activity.is_draining and not draining_too:
            raise WorkerDraining(
                f"this worker is stopping: {self.drain_reason}", source="worker", retry_after=1
            )
        if self.phase is Phase.LOADING:
            raise self._loading()

    def check_chat(self) -> None:
        """Raise InvalidRequest where the engine has no chat template that works."""
        if self.chat_error is not None:
            raise InvalidRequest(
                f"{self.assignment.model_id} cannot chat: the chat template in its file does not "
                f"work: {self.chat_error}; set the model's option chat_template or "
                f"chat_template_file and load it again, or use {TEXT_PATH}",
                code="chat_template_error",
                source="engine",
            )

    async def explain(self, message: str) -> EngineFailed:
        """The error for an answer that broke off, with the engine's last words if it is dying."""
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self.child.wait()
        except TimeoutError:
            return EngineFailed(message, source="engine")
        return self.last_words()

    def last_words(self) -> EngineFailed:
        """The error for what was in flight when the engine died."""
        code = self.child.exit_code or 0
        lines = list(self.child.last_lines)
        words = " | ".join(lines[-SHOWN_LINES:]) or "nothing"
        return EngineFailed(
            f"the engine died: {describe_exit(code)}; it said last: {words}",
            source="engine",
            details={"exit_code": code, "lines": lines},
        )

    def facts(self) -> Facts:
        """What is reported now; each has the next number."""
        self._sequence += 1
        a, now, activity = self.assignment, self.now(), self.activity
        memory = self.memory.latest
        return Facts(
            worker_id=a.worker_id,
            pool_id=a.pool_id,
            epoch=a.epoch,
            sequence=self._sequence,
            phase=self.phase,
            port=self.port,
            pid=os.getpid(),
            in_flight=activity.in_flight,
            direct=activity.direct,
            idle_seconds=activity.idle_seconds(now),
            progress_seconds=activity.progress_seconds(now),
            silent_seconds=max((c.silent_seconds(now) for c in self.calls), default=0.0),
            lease_left_seconds=self.lease_left(now),
            requests_total=activity.requests,
            errors_total=activity.errors,
            tokens_total=activity.tokens,
            uptime_seconds=now - self._started,
            engine_pid=self.child.pid,
            engine_started=self.child.started,
            rss_bytes=self._resident(),
            memory_bytes=memory.total if memory else None,
            memory_held_bytes=memory.held if memory else None,
            memory_peak_bytes=memory.peak if memory else None,
            device_memory_bytes=memory.devices if memory else {},
            context_length=self.context_length,
            slots=self.slots,
            progress=self.progress if self.phase is Phase.LOADING else None,
            failure=self.failure,
            version=__version__,
        )

    def health(self) -> dict[str, Any]:
        """The body of ``/health``."""
        return {
            "model": self.assignment.model_id,
            "status": self.phase.value,
            "uptime_seconds": round(self.now() - self._started, 3),
            "requests_served": self.activity.requests - self.activity.in_flight,
            "port": self.port,
            "in_flight": self.activity.in_flight,
            "engine": self.assignment.engine,
            "engine_pid": self.child.pid,
            "progress": encode(self.progress) if self.phase is Phase.LOADING else None,
            "worker_id": self.assignment.worker_id,
        }

    def listed(self) -> Listed:
        """The model and its aliases, for ``/v1/models``."""
        a = self.assignment
        return Listed(
            a.model_id,
            self.aliases,
            self._created,
            a.display_name,
            a.capabilities,
            self.context_length,
        )

    def _loading(self) -> ModelLoading:
        progress = self.progress
        left = progress.eta_seconds if progress else None
        how_far = ""
        if progress and progress.fraction is not None:
            about = "about " if progress.estimated else ""
            how_far = f", {about}{progress.fraction:.0%} of {progress.stage}"
        return ModelLoading(
            f"{self.assignment.model_id} is still loading{how_far}",
            source="worker",
            retry_after=min(30.0, max(1.0, left or 1.0)),
            details={"progress": encode(progress)} if progress else None,
        )

    def _resident(self) -> int | None:
        sizes = [resident_bytes(os.getpid()), resident_bytes(self.child.pid)]
        known = [s for s in sizes if s is not None]
        return sum(known) if known else None
