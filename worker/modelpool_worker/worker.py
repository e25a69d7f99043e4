"""The state of one worker, and every answer that is read from it. Changed by its front only."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from modelpool_client import __version__
from modelpool_client.errors import (
    Conflict,
    EngineFailed,
    LoadFailed,
    ModelLoading,
    ModelPoolError,
    NotSupported,
    WorkerDraining,
)
from modelpool_client.guard import Guard
from modelpool_client.response_store import ResponseStore
from modelpool_client.surfaces.chat_template import FAULT, no_chat
from modelpool_client.surfaces.models import Listed
from modelpool_client.surfaces.openai import check_model
from modelpool_client.surfaces.parameters import ANY, Support
from modelpool_client.surfaces.routes import BASIC
from modelpool_client.surfaces.translation import KeptAnswer, Known, Translation
from modelpool_client.tracing.context import TraceContext, WorkerTrace
from modelpool_client.tracing.sampling import Sampler, worker_trace
from modelpool_client.wire import (
    CLIENT_LEFT,
    Assignment,
    Facts,
    FactsReply,
    Failure,
    Phase,
    Progress,
    encode,
)

from .activity import Activity
from .adapters import Adapters
from .backend import Backend
from .calls import NO_INFO, Answering, Call, CallInfo, is_failure
from .capture import Capture
from .child import describe_exit
from .ended import LONGEST, EndedRequests, Ending, ending_of
from .engine_client import EngineClient
from .memory import MemoryMeter
from .metrics import Metrics
from .tokens import NO_TOKENS

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
        backend: Backend,
        engine: EngineClient,
        on_change: Callable[[Change], None],
    ) -> None:
        self.assignment = assignment
        self.aliases = assignment.aliases
        self.drain_seconds = assignment.drain_seconds
        self.tracing = assignment.tracing
        self.sampler = Sampler(assignment.tracing.ratio, assignment.tracing.per_second)
        self.prompt_cache_limits = assignment.prompt_cache_limits
        self.guard = Guard(assignment.host, assignment.allowlist, "worker")
        self.port = port
        self.backend = backend
        self.engine = engine
        self.phase = Phase.LOADING
        self.activity = Activity()
        self.memory = MemoryMeter(
            backend.pid, ask_held=backend.held, answered=lambda: self.activity.answered
        )
        self.metrics = Metrics()
        self.calls: set[Call] = set()
        self.capture = Capture(asyncio.get_running_loop().time)
        self.ended = EndedRequests(self.capture)
        self.progress: Progress | None = None
        self.failure: Failure | None = None
        self.context_length: int | None = None
        self.slots: int | None = None
        self.serves: Sequence[str] = BASIC
        self.chat_error: str | None = None
        self.adapters: Adapters | None = None  # where a request may scale them
        self.runs = ""  # which engine, where it was to be found out
        self.support: Support = ANY
        runtime = assignment.runtime_dir
        self.responses = ResponseStore(
            Path(assignment.responses_dir),
            assignment.responses_max_bytes,
            # No longer than the name of the engine's, for which it was found short enough.
            f"{runtime}/{os.getpid()}.kept" if runtime else "",
        )
        self.drain_reason = ""
        self.lease_left: Callable[[float], float | None] = lambda now: 0.0
        self.ask_manager: Callable[[], Awaitable[None]] = _nobody_asked
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
            self.memory.counts_peak = True
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
        if reply.tracing is not None and reply.tracing != self.tracing:
            self.tracing = reply.tracing
            self.sampler = Sampler(reply.tracing.ratio, reply.tracing.per_second)
        if reply.served is not None:
            self.backend.serve(reply.served)
        if reply.capture is not None:
            self.capture.obey(reply.capture)
        if self.ended.heard(reply, time.time()):
            self._on_change("activity")

    def trace(
        self, channel: object, parent: TraceContext | None, *, is_direct: bool
    ) -> WorkerTrace | None:
        """The spans of a request that came over that channel, if it is traced. For those of the
        gateway that has decided."""
        if not self.tracing.is_on or (parent is None and not is_direct):
            return None
        return worker_trace(parent) if self.sampler.decides(channel, parent) else None

    def call(self, exchange: Answering, asked: CallInfo = NO_INFO) -> Call:
        """A completion request, to be entered as a context."""
        return Call(self, exchange, asked)

    def begin(self, call: Call, now: float) -> None:
        """A call starts."""
        self.calls.add(call)
        if not self.activity.in_flight:
            self.became_idle.clear()
        if self.activity.begin(now, is_direct=call.is_direct):
            self._on_change("activity")

    def end(self, call: Call, error: BaseException | None, *, has_left: bool) -> None:
        """A call ended."""
        self.calls.discard(call)
        activity, now, began = self.activity, self.now(), call.began_at
        asked, sent_at, tokens = call.asked, call.sent_at, call.tokens
        is_fault, status, code = False, 200, ""
        if error is not None or has_left:
            is_fault = is_failure(error)
            status, code = _outcome(error, has_left=has_left)
        is_edge = activity.end(
            now, failed=is_fault, tokens=tokens.completion, is_direct=call.is_direct
        )
        if activity.in_flight == 0:
            self.became_idle.set()
        gave_at = call.gave_at if asked.is_stream else None
        if sent_at is None and asked.trace is not None:
            asked = asked._replace(trace=asked.trace._replace(engine_id=""))
        ending = ending_of(
            (
                asked,
                self._served(asked.model),
                time.time(),
                (now if sent_at is None else sent_at) - began,
                None if gave_at is None else gave_at - began,
                now - began,
                tokens,
                status,
                code,
            )
        )
        if self.ended.add(ending) or is_edge:
            self._on_change("activity")

    def refused(self, asked: CallInfo, error: ModelPoolError, seconds: float) -> None:
        """A request became no call."""
        if asked.trace is not None:
            asked = asked._replace(trace=asked.trace._replace(engine_id=""))
        ending = Ending(
            asked,
            self._served(asked.model),
            ended_at=time.time(),
            waited_seconds=seconds,
            first_seconds=None,
            seconds=seconds,
            tokens=NO_TOKENS,
            status=error.status,
            code=error.code,
        )
        if self.ended.add(ending):
            self._on_change("activity")

    def _served(self, name: str) -> str:
        """The model by which a request was served that named that one, or none."""
        is_other = name and self.backend.resolve(name)
        return name[:LONGEST] if is_other else self.assignment.model_id

    def worked(self) -> None:
        """The engine gave a sign of work."""
        self.activity.sign_of_work(self.now())

    def fall_asleep(self, if_idle_for: float | None = None) -> bool:
        """Refuse new work, if idle for so long, and let go of device memory; False means busy. The
        front does what follows.

        Raises:
            NotSupported: it cannot.
        """
        if self.engine.sleep is None:
            name = self.assignment.engine
            raise NotSupported(f"engine {name} does not sleep as it was started", source="worker")
        if self.is_asleep:
            return True
        if self.activity.in_flight or self.activity.idle_seconds(self.now()) < (if_idle_for or 0.0):
            return False
        self.memory.counts_peak = False  # weights that wait on the host are no need of a load
        self.become(Phase.FALLING_ASLEEP)
        return True

    def wake(self) -> None:
        """Take device memory again, if asleep; the front does what follows.

        Raises:
            Conflict: it is still falling asleep.
        """
        if self.phase is Phase.FALLING_ASLEEP:
            raise Conflict("it is still falling asleep", source="worker", retry_after=1)
        if self.phase is Phase.ASLEEP:
            self.progress = Progress("waking", estimated=False)
            self.become(Phase.LOADING)

    @property
    def is_asleep(self) -> bool:
        """It has let go of device memory, or is about to; it takes no requests."""
        return self.phase in (Phase.FALLING_ASLEEP, Phase.ASLEEP)

    def drain(self, if_idle_for: float | None = None, reason: str = "") -> bool:
        """Refuse new work, if idle for so long; False means busy. The front does what follows."""
        was_draining = self.activity.is_draining
        drained = self.activity.drain(self.now(), if_idle_for)
        if drained and not was_draining:
            self.drain_reason = reason
            self.become(Phase.DRAINING, self.failure)
        return drained

    # What it knows, and keeps.

    async def known(self, earlier_id: str | None, owner: str) -> Known:
        """What is known beside a request that goes on from an answer of that id, and its owner."""
        earlier = None
        if earlier_id is not None:
            earlier = await self.responses.find(earlier_id, owner)
        return Known(earlier, self.serves, self.assignment.capabilities)

    async def keep(self, translation: Translation, owner: str) -> None:
        """Keep an answer that is to be kept for ``owner``, before its client has heard its end: it
        is found from then on, and written thereafter."""
        # To ask whether it is a ``KeptAnswer`` takes 40 µs.
        kept = cast(KeptAnswer, translation)
        if not getattr(translation, "store", False):
            return
        if not await self.responses.keep(kept.response_id, kept.kept(), owner):
            kept.not_stored()

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
        if self.is_asleep:
            text = f"{self.assignment.model_id} is asleep: a request to the pool wakes it"
            raise ModelLoading(text, source="worker", retry_after=1)

    def check_chat(self) -> None:
        """Raise InvalidRequest where the engine has no chat template that works."""
        if self.chat_error is not None:
            raise no_chat(self.assignment.model_id, f"{FAULT}: {self.chat_error}")

    async def explain(self, message: str) -> EngineFailed:
        """The error for an answer that broke off, with the engine's last words if it is dying."""
        if self.backend.pid is None:
            return EngineFailed(message, source="engine")
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self.backend.wait()
        except TimeoutError:
            return EngineFailed(message, source="engine")
        return self.last_words()

    def last_words(self) -> EngineFailed:
        """The error for what was in flight when the engine died."""
        code = self.backend.exit_code or 0
        lines = list(self.backend.last_lines)
        words = " | ".join(lines[-SHOWN_LINES:]) or "nothing"
        return EngineFailed(
            f"the engine died: {describe_exit(code)}; it said last: {words}",
            code="engine_died",
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
            engine_pid=self.backend.pid,
            engine_started=self.backend.started,
            rss_bytes=self.memory.resident(),
            memory_bytes=memory.total if memory else None,
            memory_held_bytes=memory.held if memory else None,
            memory_peak_bytes=memory.peak if memory else None,
            memory_requests=memory.requests if memory else None,
            device_memory_bytes=memory.devices if memory else {},
            context_length=self.context_length,
            slots=self.slots,
            runs=self.runs,
            sleep_level=self.engine.sleep.level if self.engine.sleep is not None else 0,
            progress=self.progress if self.phase is Phase.LOADING else None,
            failure=self.failure,
            chat_error=self.chat_error or "",
            version=__version__,
            upstream=self.backend.upstream(),
        )

    def health(self) -> dict[str, Any]:
        """The body of ``/health``."""
        return {
            "model": self.assignment.model_id,
            "status": self.phase.value,
            "uptime_seconds": round(self.now() - self._started, 3),
            "requests_served": self.activity.answered,
            "port": self.port,
            "in_flight": self.activity.in_flight,
            "engine": self.assignment.engine,
            "runs": self.runs,
            "engine_pid": self.backend.pid,
            "progress": encode(self.progress) if self.phase is Phase.LOADING else None,
            "worker_id": self.assignment.worker_id,
            **({"upstream": upstream} if (upstream := self.backend.upstream()) else {}),
        }

    async def learn_of_model(self, said: Mapping[str, Any]) -> None:
        """Where a request names a model that a provider's worker does not know, it may be one that
        the manager has had for a moment only: nobody is refused before that was asked."""
        name = said.get("model")
        if not self.backend.serves_others or not isinstance(name, str):
            return
        own = (self.assignment.model_id, *self.aliases)
        if name not in own and not self.backend.resolve(name):
            await self.ask_manager()

    def check_model(self, said: Mapping[str, Any]) -> None:
        """Raise ModelNotFound where a request names a model that is not served here."""
        name, own = said.get("model"), self.assignment.model_id
        if name == own or (isinstance(name, str) and self.backend.resolve(name)):
            return
        check_model(said, own, (*self.aliases, *self.backend.served))

    def listing(self) -> list[Listed]:
        """All models that are served here, for ``/v1/models``."""
        own, served = self.listed(), self.backend.served
        return [own, *(replace(own, model_id=n, aliases=(), display_name="") for n in served)]

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


def _outcome(error: BaseException | None, *, has_left: bool) -> tuple[int, str]:
    """Status and code of an answer."""
    if has_left:
        return CLIENT_LEFT, "client_left"
    if error is None:
        return 200, ""
    if isinstance(error, ModelPoolError):
        return error.status, error.code
    return 500, "internal_error"


async def _nobody_asked() -> None:
    """There is no manager."""
