"""The contract of an engine: what computes behind a worker's front, in a process of its own."""

from __future__ import annotations

import abc
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from modelpool_client.errors import InvalidRequest, LoadFailed
from modelpool_client.surfaces.routes import BASIC
from modelpool_client.surfaces.schema import Schema, check
from modelpool_client.wire import PromptCacheLimits, decode

# What options can be found for by trying them, see ``Engine.options``.
GOALS = ("first-token", "one-stream", "many-streams")


@dataclass(frozen=True)
class EngineJob:
    """What an engine child is told, as one JSON line: what to load, which unix socket to serve.

    Attributes:
        prompt_cache_dir: where it may keep what it made of prompts until the next load of the
            model, see ``prompt_cache.store``; empty where nothing is to be kept.
        prompt_cache_limits: for the load; those for the end come with ``Engine.save_prompts``.
    """

    engine: str
    model_id: str
    source: str
    socket: str
    options: Mapping[str, Any] = field(default_factory=dict)
    worker_id: str = ""
    prompt_cache_dir: str = ""
    prompt_cache_limits: PromptCacheLimits = field(default_factory=PromptCacheLimits)

    @classmethod
    def parse(cls, line: bytes) -> EngineJob:
        """Read the line that the front wrote. Unknown keys are left out.

        Raises:
            DecodeError: a key is missing or wrong.
        """
        return decode(cls, json.loads(line))


@dataclass(frozen=True)
class Usable:
    """Whether an engine can work here; if not, why, and what would help. ``version`` is that of
    what computes; another may do otherwise."""

    usable: bool
    reason: str = ""
    install_hint: str = ""
    version: str = ""


class Status:
    """The child's pipe to its front: one JSON line per event. Safe after the front is gone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def begins(self, honours: Mapping[str, Collection[str]]) -> None:
        """The load begins, of an engine that honours these parameters, for each path."""
        self._write(
            event="begins", honours={path: sorted(names) for path, names in honours.items()}
        )

    def progress(
        self,
        stage: str,
        fraction: float | None = None,
        *,
        bytes_done: int | None = None,
        bytes_total: int | None = None,
        eta_seconds: float | None = None,
    ) -> None:
        """How far the load is: ``fraction`` from 0 to 1, as the engine itself knows it."""
        self._write(
            event="progress",
            stage=stage,
            fraction=fraction,
            bytes_done=bytes_done,
            bytes_total=bytes_total,
            eta_seconds=eta_seconds,
        )

    def ready(
        self,
        context_length: int | None = None,
        chat_error: str | None = None,
        *,
        slots: int | None = None,
        serves: Sequence[str] = (),
        stops_plain: bool = False,
        saves_prompts: bool = False,
        unable: Mapping[str, str] | None = None,
        has_metrics: bool = False,
    ) -> None:
        """The unix socket answers from now on.

        Args:
            context_length: in tokens, for one request.
            chat_error: what is wrong with the chat template, if chats are to be refused.
            slots: how many requests it works on at once, more wait in it; 0: any number, None: not
                known, so that the pool finds out what serves best.
            serves: paths of ``surfaces.routes.SURFACES`` that it answers for this model; none: chat
                and text completions.
            stops_plain: a client that leaves ends the work for it, whatever it asked for. Where
                only streams do that, the engine is never asked for anything else.
            saves_prompts: ``Engine.save_prompts`` is worth its time at the end.
            unable: parameters that ``Engine.honours`` names and this model cannot have, with why.
            has_metrics: ``GET /metrics`` there gives Prometheus text, for the worker's own page.
        """
        self._write(
            event="ready",
            context_length=context_length,
            chat_error=chat_error,
            slots=slots,
            serves=list(serves) or None,
            stops_plain=stops_plain or None,
            saves_prompts=saves_prompts or None,
            unable=unable or None,
            has_metrics=has_metrics or None,
        )

    def failed(self, code: str, message: str) -> None:
        """The load failed: a code of ``errors.LOAD_CODES`` or ``load_failed``, and why."""
        self._write(event="failed", code=code, message=message)

    def _write(self, **event: Any) -> None:
        line = json.dumps({k: v for k, v in event.items() if v is not None}) + "\n"
        try:
            os.write(self._fd, line.encode())
        except OSError:
            return


class Engine(abc.ABC):
    """One kind of engine. Importing its module must be cheap: heavy imports belong in ``serve``.

    ``formats`` are the file formats it loads, ``capabilities`` what its models can do at most,
    ``options`` the load options of an instance as JSON Schema properties. ``default`` there is what
    an option is without being set, where that is one value; ``tuning`` says that it is worth a try:
    for which of ``GOALS``, with which ``settings`` of options or which ``fractions`` of the model's
    layers, and what it ``needs`` (``device``). ``surfaces`` are the
    paths of ``surfaces.routes`` that it answers for any model, ``Status.ready`` says for which it
    does for one. ``honours`` are, for each
    path that it speaks, the parameters that make a difference there; what becomes of the others
    says ``surfaces.parameters``.
    """

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]] = ()
    capabilities: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Mapping[str, Schema]] = {}
    surfaces: ClassVar[Collection[str]] = BASIC
    honours: ClassVar[Mapping[str, Collection[str]]] = {}

    @abc.abstractmethod
    def probe(self) -> Usable:
        """Whether it can work on this machine, found out without loading anything."""

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Import what is heavy, in a child whose job is still to come."""

    @abc.abstractmethod
    def serve(self, job: EngineJob, status: Status) -> None:
        """Load, report ``status.ready``, serve HTTP on ``job.socket``; returns only at the end.

        Runs in the main thread of the engine child, which ends when the front does.

        Raises:
            LoadFailed: with a code of ``errors.LOAD_CODES``.
        """

    def save_prompts(self, limits: PromptCacheLimits) -> None:  # noqa: B027 - most keep none
        """Keep what was made of prompts for the next load: in ``job.prompt_cache_dir``, in files
        whose names begin with ``job.worker_id`` and a dot until they are complete.

        Called in another thread than ``serve``, once, after the last request has ended. The child
        ends when it returns, and is killed when it takes longer than the limits say. At the next
        load it must refuse what another file, version or option has made, and whatever is broken.
        """

    def inspect(self, source: str) -> None:  # noqa: B027 - most need no look
        """Look at a source before a load, cheaply.

        Raises:
            LoadFailed: it is seen to be unusable (``bad_file``, ``unsupported_arch``).
        """

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        """Bytes of host memory that the child will take with that, beyond a worker's own; None
        where only the size of the source can tell. Of options that ``check`` has passed."""
        return None

    def outlives_stdin(self, job: EngineJob) -> bool:
        """Whether the child stays when its front lets go of it. Only a test double wants that."""
        return False

    def check(self, options: Mapping[str, Any]) -> None:
        """Check load options, each by itself and all together.

        Raises:
            LoadFailed: code ``bad_config``, naming the unknown or wrong option.
        """
        self.check_each(options)

    def check_each(self, options: Mapping[str, Any]) -> None:
        """Check load options as if each were the only one, so that whoever has several wrong ones
        can be told of all.

        Raises:
            LoadFailed: as ``check``.
        """
        table = {"type": "object", "properties": self.options, "additionalProperties": False}
        try:
            check(table, dict(options), "options")
        except InvalidRequest as e:
            raise LoadFailed(
                f"{self.name}: {e.message}", code="bad_config", param=e.param, source="engine"
            ) from None
