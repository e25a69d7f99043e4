"""An engine that computes nothing: it follows a script of options, faults included.

A child process like any other, for tests, demos and for trying out a pool without a model.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, NoReturn

from modelpool_client import __version__
from modelpool_client.errors import LOAD_CODES, LoadFailed
from modelpool_client.surfaces.routes import BASIC, CHAT_PATH, INFER_PATH, TEXT_PATH
from modelpool_client.surfaces.schema import Schema
from modelpool_client.wire_base import PromptCacheLimits

from modelpool_worker.engine import GOALS, Engine, EngineJob, Status, Usable
from modelpool_worker.leaving import Leaving, leaving

from . import fake_media
from .fake_http import FakeServer
from .fake_prompts import FakePrompts
from .fake_sleep import FakeSleep, way_of

_SECONDS: Schema = {"type": "number", "minimum": 0, "maximum": 86400}
_COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 10**9}
_FLAG: Schema = {"type": "boolean"}

OPTIONS: Mapping[str, Schema] = {
    "reply": {"type": "string", "description": "what it answers; default: the last user message"},
    "tokens": {**_COUNT, "description": "how many tokens (words) to answer; the reply repeats"},
    "tokens_per_second": {"type": "number", "minimum": 0, "description": "0: at full speed"},
    "turbo": {
        **_FLAG,
        "description": "four times the tokens_per_second: worth finding, but not with much memory",
        "default": False,
        "tuning": {
            "goals": GOALS,
            "settings": ({"turbo": True}, {"turbo": True, "memory_mb": 10**8}),
        },
    },
    "first_token_seconds": {**_SECONDS, "description": "time before the first token"},
    "context_length": {"type": "integer", "minimum": 1, "description": "in words; default 4096"},
    "parallel": {**_COUNT, "description": "requests at once, more wait; 0: no limit"},
    "load_seconds": {**_SECONDS, "description": "how long the load takes"},
    "load_steps": {**_COUNT, "description": "progress reports during the load"},
    "memory_mb": {**_COUNT, "description": "memory to hold, in MiB, all of it touched"},
    "fail_load": {"type": "string", "enum": [*LOAD_CODES, "load_failed"]},
    "message": {"type": "string", "description": "goes with fail_load"},
    "die_while_loading": {"type": ["integer", "string"], "description": "exit code, or SIGKILL …"},
    "never_ready": {**_FLAG, "description": "loads for ever"},
    "lie_ready": {**_FLAG, "description": "says ready, refuses connections"},
    "die_after_tokens": {**_COUNT, "description": "kills itself after so many tokens of an answer"},
    "hang_after_tokens": {**_COUNT, "description": "sends so many tokens, then nothing more"},
    "hang_everything": {**_FLAG, "description": "accepts connections, never answers"},
    "garbage": {**_FLAG, "description": "answers with bytes that are no event stream"},
    "fail_every": {**_COUNT, "description": "every so many-th answer goes wrong; 0: none"},
    "fail_how": {
        "type": "string",
        "enum": ["error", "garbage", "cut", "slow"],
        "description": "how: status 500 (default), no HTTP, no answer, or half a second late",
    },
    "end_early": {**_FLAG, "description": "ends a stream without [DONE]"},
    "ignore_term": {**_FLAG, "description": "stays until it is killed"},
    "log_tokens": {**_FLAG, "description": "writes a line to its log for each token"},
    "keep_prompts": {**_FLAG, "description": "keeps prompts on disk while it is not loaded"},
    "save_seconds": {**_SECONDS, "description": "how long it takes to keep them"},
    "sleeps": {
        "type": "integer",
        "enum": [1, 2],
        "description": "it can, at that level; memory_mb is given back meanwhile",
    },
    "tensors": {**_FLAG, "description": "answers tensors, the same ones, in place of text"},
    "leak_process": {**_FLAG, "description": "starts a process of its own that outlives it"},
}


class Fake(Engine):
    """See ``OPTIONS``; its source is not read and may be anything."""

    name = "fake"
    for_tests = True
    formats = ("none",)
    capabilities = (
        "chat",
        "classification",
        "completion",
        "image_generation",
        "speech_to_text",
        "streaming",
        "tensor_inference",
        "text_to_speech",
    )
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = (*BASIC, *fake_media.HONOURS)
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces)
    honours: ClassVar[Mapping[str, Collection[str]]] = {
        CHAT_PATH: ("max_completion_tokens", "max_tokens", "n"),
        TEXT_PATH: ("max_tokens", "n"),
        **fake_media.HONOURS,
    }

    def __init__(self) -> None:
        self._prompts: FakePrompts | None = None  # of the job that is served

    def probe(self) -> Usable:
        return Usable(True, version=__version__)

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        return int(options.get("memory_mb", 0)) << 20

    def outlives_stdin(self, job: EngineJob) -> bool:
        """Whether the child stays when its front closes its standard input."""
        return bool(job.options.get("ignore_term"))

    def serve(self, job: EngineJob, status: Status) -> None:
        options = job.options
        if options.get("leak_process"):
            _leak()
        sleep = FakeSleep(lambda: _hold(int(options.get("memory_mb", 0))))
        _load(options, status)
        self._prompts = FakePrompts.of(job)
        server = FakeServer(job.model_id, options, sleep, self._prompts)
        if not options.get("lie_ready"):
            server.listen(job.socket)
        status.ready(
            context_length=options.get("context_length", 4096),
            slots=options.get("parallel", 0),
            serves=_served(options),
            stops_plain=True,
            saves_prompts=self._prompts is not None,
            sleep=way_of(options.get("sleeps")),
        )
        if options.get("lie_ready"):
            _wait_for_ever()
        server.run()

    def save_prompts(self, limits: PromptCacheLimits) -> None:
        if self._prompts is not None:
            self._prompts.save(limits)


def _served(options: Mapping[str, Any]) -> list[str]:
    return [INFER_PATH] if options.get("tensors") else [*BASIC, *fake_media.HONOURS]


def _load(options: Mapping[str, Any], status: Status) -> None:
    seconds, steps = options.get("load_seconds", 0.0), options.get("load_steps", 0)
    for step in range(steps):
        status.progress("weights", step / steps, bytes_done=step, bytes_total=steps)
        time.sleep(seconds / steps)
    if not steps:
        time.sleep(seconds)
    if "fail_load" in options:
        message = options.get("message", "told to fail")
        print(f"fake: {message}", file=sys.stderr)
        raise LoadFailed(message, code=options["fail_load"], source="engine")
    if "die_while_loading" in options:
        _die(options["die_while_loading"])
    if options.get("never_ready"):
        _wait_for_ever()


def _die(how: int | str) -> NoReturn:
    print(f"fake: dying by {how}", file=sys.stderr, flush=True)
    if isinstance(how, str) or how < 0:
        number = getattr(signal, how, signal.SIGKILL) if isinstance(how, str) else -how
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)
        _wait_for_ever()
    os._exit(how)


def _wait_for_ever() -> NoReturn:
    while True:
        threading.Event().wait(3600)


def _hold(megabytes: int) -> bytearray:
    ballast = bytearray(megabytes << 20)
    for i in range(0, len(ballast), 4096):
        ballast[i] = 1
    return ballast


def _leak() -> None:
    with contextlib.suppress(OSError):
        # It must not inherit that an engine child ignores SIGTERM.
        subprocess.Popen(
            ["sleep", "3600"],
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        )
