"""The fastest engine for GGUF models that is here: ``llama-server`` as built for this machine, or
else the one that is installed with the pool. Which one, and why, it says wherever it is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from modelpool_client.surfaces.schema import Schema
from modelpool_client.wire_base import PromptCacheLimits

from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.leaving import Leaving

from .llama.llama_cpp import LlamaCpp
from .llama.llama_server import LlamaServer

NAME = "auto"
FASTER = "built for its processor, it reads prompts up to twice as fast as the wheel of xllamacpp"


class Auto(Engine):
    """See ``llama_cpp.OPTIONS``: either engine takes the same."""

    name = NAME
    formats = LlamaCpp.formats
    capabilities = LlamaCpp.capabilities
    options: ClassVar[Mapping[str, Schema]] = LlamaCpp.options
    surfaces: ClassVar[Collection[str]] = LlamaCpp.surfaces
    after_leaving: ClassVar[Mapping[str, Leaving]] = LlamaCpp.after_leaving
    honours: ClassVar[Mapping[str, Collection[str]] | None] = LlamaCpp.honours

    def __init__(self) -> None:
        self._native, self._wheel = LlamaServer(), LlamaCpp()
        self._chosen: Engine | None = None

    def prepare(self) -> None:
        # Which of the two it will be says the job only.
        self._native.prepare()
        self._wheel.prepare()

    def probe(self) -> Usable:
        engine, why, version = self._choice()
        if engine is None:
            return Usable(False, why, self._wheel.probe().install_hint)
        return Usable(True, f"{engine.name}: {why}", version=version)

    def inspect(self, source: str) -> None:
        self._wheel.inspect(source)

    def check(self, options: Mapping[str, Any]) -> None:
        self._wheel.check(options)

    def check_each(self, options: Mapping[str, Any]) -> None:
        self._wheel.check_each(options)

    def stop_seconds(self, options: Mapping[str, Any]) -> float:
        return self._native.stop_seconds(options)

    def serve(self, job: EngineJob, status: Status) -> None:
        engine, why, version = self._choice()
        # If neither can be used the wheel's engine says best what to install.
        self._chosen = engine or self._wheel
        self._chosen.settings = self.settings
        status.runs(f"{self._chosen.name} {version}: {why}")
        self._chosen.serve(job, status)

    def save_prompts(self, limits: PromptCacheLimits) -> None:
        if self._chosen is not None:
            self._chosen.save_prompts(limits)

    def shut_down(self) -> None:
        if self._chosen is not None:
            self._chosen.shut_down()

    def _choice(self) -> tuple[Engine | None, str, str]:
        """The engine, why that one, and its version."""
        self._native.settings = self.settings
        native, wheel = self._native.probe(), self._wheel.probe()
        if native.usable:
            return self._native, f"{native.reason}; {FASTER}", native.version
        if wheel.usable:
            return self._wheel, native.reason, wheel.version
        return None, f"{native.reason}; {wheel.reason}", ""
