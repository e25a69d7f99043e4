"""The contracts of engines: what computes behind a worker's front, in a process of its own or
elsewhere."""

from __future__ import annotations

import abc
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from modelpool_client import __version__
from modelpool_client.errors import InvalidRequest, LoadFailed
from modelpool_client.surfaces.routes import BASIC
from modelpool_client.surfaces.schema import Schema, check
from modelpool_client.wire_base import PromptCacheLimits, decode

from .leaving import Leaving
from .status import Status as Status

if TYPE_CHECKING:
    from .link import RemoteLink

# What options can be found for by trying them, see ``Engine.options``.
GOALS = ("first-token", "one-stream", "many-streams")
# See ``EngineKind``.
NOTES_SETTING = "notes_dir"


@dataclass(frozen=True)
class EngineJob:
    """What an engine child is told, as one JSON line: what to load, which unix socket to serve.

    Attributes:
        prompt_cache_dir: where it may keep what it made of prompts until the next load of the
            model, see ``prompt_cache.store``; empty where nothing is to be kept.
        prompt_cache_limits: for the load; those for the end come with ``Engine.save_prompts``.
        settings: what the pool's configuration says to engines, see ``Engine.settings``.
    """

    engine: str
    model_id: str
    source: str
    socket: str
    options: Mapping[str, Any] = field(default_factory=dict)
    worker_id: str = ""
    prompt_cache_dir: str = ""
    prompt_cache_limits: PromptCacheLimits = field(default_factory=PromptCacheLimits)
    settings: Mapping[str, Any] = field(default_factory=dict)

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
    what computes; another may do otherwise. Of one that is usable ``reason`` may say what it is,
    or which it takes of several."""

    usable: bool
    reason: str = ""
    install_hint: str = ""
    version: str = ""


class EngineKind(abc.ABC):
    """What is known of a kind of engine without loading anything. Importing its module must be
    cheap: heavy imports belong in ``Engine.serve``.

    ``formats`` are the file formats it loads, ``capabilities`` what its models can do at most,
    ``options`` the load options of an instance as JSON Schema properties. ``default`` there is what
    an option is without being set, where that is one value; ``tuning`` says that it is worth a try:
    for which of ``GOALS``, with which ``settings`` of options or which ``fractions`` of the model's
    layers, and what it ``needs`` (``device``). ``surfaces`` are the
    paths of ``surfaces.routes`` that it answers for any model, ``Status.ready`` says for which it
    does for one. ``honours`` are, for each
    path that it speaks, the parameters that make a difference there; what becomes of the others
    says ``surfaces.parameters``; None: it is not known, and all are passed on. An option whose
    schema says ``only_in_config`` is not for clients of the API to set.
    ``settings`` is what the pool's configuration says to all engines: ``llama_server``, a path,
    ``notes_dir``, a folder for what they find out once, and ``presets``, see
    ``engines.command_presets``. ``extra`` is what of ours installs what it needs,
    as in ``modelpool[extra]``. One that is ``for_tests`` is listed only where it is asked for.
    ``after_leaving`` says for each path what is still computed for a client that has left; none: it
    is not known. Of one that is ``asked_once`` no request that may have begun is sent again: it may
    be billed.
    """

    name: ClassVar[str]
    extra: ClassVar[str] = ""
    for_tests: ClassVar[bool] = False
    asked_once: ClassVar[bool] = False
    formats: ClassVar[tuple[str, ...]] = ()
    capabilities: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Mapping[str, Schema]] = {}
    surfaces: ClassVar[Collection[str]] = BASIC
    honours: ClassVar[Mapping[str, Collection[str]] | None] = {}
    after_leaving: ClassVar[Mapping[str, Leaving]] = {}
    settings: Mapping[str, Any] = MappingProxyType({})

    @abc.abstractmethod
    def probe(self) -> Usable:
        """Whether it can work on this machine, found out without loading anything."""

    def probe_for(self, options: Mapping[str, Any]) -> Usable:
        """The same for a model with these options, which may say where what it needs is."""
        return self.probe()

    def inspect(self, source: str) -> None:  # noqa: B027 - most need no look
        """Look at a source before a load, cheaply.

        Raises:
            LoadFailed: it is seen to be unusable (``bad_file``, ``unsupported_arch``).
        """

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        """Bytes of host memory that the child will take with that, beyond a worker's own; None
        where only the size of the source can tell. Of options that ``check`` has passed."""
        return None

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


class Engine(EngineKind):
    """Computes in a child process of the worker's front."""

    def prepare(self) -> None:
        """Import what is heavy, in a child whose job is still to come."""

    @abc.abstractmethod
    def serve(self, job: EngineJob, status: Status) -> None:
        """Load, report ``status.ready``, serve HTTP on ``job.socket``; returns only at the end.

        Runs in the main thread of the engine child, which ends when the front does.

        Raises:
            LoadFailed: with a code of ``errors.LOAD_CODES``.
        """

    def save_prompts(self, limits: PromptCacheLimits) -> None:
        """Keep what was made of prompts for the next load: in ``job.prompt_cache_dir``, in files
        whose names begin with ``job.worker_id`` and a dot until they are complete.

        Called in another thread than ``serve``, once, after the last request has ended. The child
        ends when it returns, and is killed when it takes longer than the limits say. At the next
        load it must refuse what another file, version or option has made, and whatever is broken.
        """

    def shut_down(self) -> None:
        """End what would outlive the child, which ends when this returns.

        Called in another thread than ``serve``, when the front lets go of the child.
        """

    def stop_seconds(self, options: Mapping[str, Any]) -> float:
        """How long ``shut_down`` may take before the child is killed; 0: there is nothing to do."""
        return 0.0

    def outlives_stdin(self, job: EngineJob) -> bool:
        """Whether the child stays when its front lets go of it. Only a test double wants that."""
        return False


class RemoteEngine(EngineKind):
    """Computes elsewhere: the front speaks to it without a child between them. Its source is the
    model's name there; it needs nothing on this machine, and takes none of its memory."""

    asked_once = True
    formats = ("none",)

    def probe(self) -> Usable:
        # Who can be reached says each model when it is loaded.
        return Usable(True, version=__version__)

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        return 0

    @abc.abstractmethod
    def connect(self, job: EngineJob) -> RemoteLink:
        """A link for that job, which has not asked anybody anything yet. Runs in the front, whose
        environment holds what the pool's own holds."""
