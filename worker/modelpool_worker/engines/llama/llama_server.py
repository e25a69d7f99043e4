"""GGUF models through ``llama-server``, llama.cpp's own program, as it was built for this machine.

The same server core as in engine ``llama.cpp``, the same options and surfaces, but a process of its
own; one that was built here uses what this processor has (``make native``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.chat_template import CHATML
from modelpool_client.surfaces.schema import Schema
from modelpool_client.wire_base import PromptCacheLimits

from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.engines import command_server
from modelpool_worker.engines.command_server import Server, Servers, Start, end_as, environment_of
from modelpool_worker.engines.cpu import physical_cores
from modelpool_worker.engines.gguf import Header, read_header
from modelpool_worker.engines.gguf_identity import identity
from modelpool_worker.leaving import Leaving
from modelpool_worker.prompt_cache.store import PromptStore, clear, key_of

from . import lora as llama_lora
from . import parameters as llama_parameters
from . import slots as llama_slots
from . import speculation as llama_speculation
from .flags import DISPENSABLE, flags
from .llama_cpp import (
    CPU_BATCH,
    DEFAULT_CONTEXT,
    DEFAULT_PARALLEL,
    PROMPT_CACHE,
    SLOTS_SECONDS,
    LlamaCpp,
    Prompts,
    bytes_per_token,
    given_template,
    keeps_prompts,
    limit_spinning,
    slot_folder,
    surfaces_of,
    template_fault,
    unable_of,
)
from .program import NAME as NAME
from .program import Program
from .program import find_program as find_program

INSTALL_HINT = (
    "make native builds it; or install llama.cpp, or name it in the config key llama_server"
)
STALL_SECONDS = 300.0
STOP_SECONDS = 2.0
# What the user's shell says to a llama-server of his own is not meant for ours.
OTHERS = "LLAMA_ARG_"


class LlamaServer(Engine):
    """See ``llama_cpp.OPTIONS``; the source is a GGUF file, the first part if there are several."""

    name = NAME
    formats = LlamaCpp.formats
    capabilities = LlamaCpp.capabilities
    options: ClassVar[Mapping[str, Schema]] = LlamaCpp.options
    surfaces: ClassVar[Collection[str]] = LlamaCpp.surfaces
    after_leaving: ClassVar[Mapping[str, Leaving]] = LlamaCpp.after_leaving
    honours: ClassVar[Mapping[str, Collection[str]] | None] = llama_parameters.HONOURS

    def __init__(self) -> None:
        self._llama = LlamaCpp()
        self._servers = Servers()
        self._prompts: Prompts | None = None

    def prepare(self) -> None:
        command_server.prepare()

    def probe(self) -> Usable:
        try:
            program = find_program(self.settings)
        except LoadFailed as e:
            return Usable(False, e.message, INSTALL_HINT)
        return Usable(True, f"{program.path} ({program.origin})", version=program.version)

    def inspect(self, source: str) -> None:
        read_header(source)

    def check(self, options: Mapping[str, Any]) -> None:
        self._llama.check(options)

    def check_each(self, options: Mapping[str, Any]) -> None:
        self._llama.check_each(options)

    def stop_seconds(self, options: Mapping[str, Any]) -> float:
        return STOP_SECONDS

    def serve(self, job: EngineJob, status: Status) -> None:
        header = read_header(job.source)
        program = find_program(self.settings)
        if job.engine == NAME:  # else who chose it has said why
            status.runs(f"{NAME} {program.version}: {program.path} ({program.origin})")
        length = job.options.get("context_length") or min(
            header.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT
        )
        parallel = job.options.get("parallel", DEFAULT_PARALLEL)
        given = given_template(job.options)
        prompts = _prompts(program, job, header, parallel)
        arguments = _arguments(program, job, header, length, parallel)
        if prompts is not None:
            arguments += ["--slot-save-path", os.path.join(job.prompt_cache_dir, "")]
        elif (folder := slot_folder(job.options)) is not None:
            arguments += ["--slot-save-path", folder]
        chat_error = None
        try:
            server = self._started(program, job, arguments)
        except LoadFailed:
            chat_error = template_fault(job, given)
            if chat_error is None:
                raise
            print(f"chat is refused, the rest is served: {chat_error}", file=sys.stderr)
            server = self._started(program, job, [*arguments, "--chat-template", CHATML])
        if llama_speculation.is_wanted(job.options):
            slots = llama_slots.SlotServer(job.socket).slots(SLOTS_SECONDS)
            llama_speculation.check_in_force(job.options, slots)
        if prompts is not None:
            prompts.restore(job.prompt_cache_limits)
            self._prompts = prompts
        status.ready(
            context_length=length,
            chat_error=chat_error,
            slots=parallel,
            serves=surfaces_of(header, job.options),
            saves_prompts=prompts is not None,
            unable=unable_of(job.socket, given),
            has_metrics=True,
            adapters=llama_lora.told(job.options),
        )
        end_as(server.wait())

    def save_prompts(self, limits: PromptCacheLimits) -> None:
        if self._prompts is not None:
            self._prompts.save(limits)

    def shut_down(self) -> None:
        self._servers.stop()

    def _started(self, program: Program, job: EngineJob, arguments: Sequence[str]) -> Server:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(OTHERS)}
        limit_spinning(environment)
        start = Start(
            [program.path, *arguments],
            environment_of(environment, iter(())),
            job.socket,
            ready_path="/health",
            stall_seconds=STALL_SECONDS,
            # It has no work by then and writes nothing of its own: what it would tidy up is memory,
            # which the kernel has back sooner.
            stop_signal="KILL",
            stop_seconds=STOP_SECONDS,
        )
        server = self._servers.begin(start)
        try:
            server.until_ready()
        except BaseException:
            server.stop()
            # It may be another one than it said, by a library that is not looked at.
            program.forget()
            raise
        return server


def _arguments(
    program: Program, job: EngineJob, header: Header, length: int, parallel: int
) -> list[str]:
    """Those that this program knows.

    Raises:
        LoadFailed: code ``bad_config``: it does not know one that an option needs.
    """
    wanted = flags(
        job.options,
        header,
        context_length=length,
        parallel=parallel,
        threads=job.options.get("threads") or physical_cores(),
        cpu_batch=None if program.has_device() else CPU_BATCH,
    )
    always = ["--model", job.source, "--alias", job.model_id, "--host", job.socket]
    return [*always, *known_flags(list(wanted), program.flags())]


def known_flags(wanted: Sequence[str], known: Collection[str]) -> Iterator[str]:
    """PURE. The flags with their values, without those that may be left out and are not known.

    Raises:
        LoadFailed: code ``bad_config``: another is not known.
    """
    is_left_out = False
    for word in wanted:
        if word.startswith("--"):
            is_left_out = word not in known
            if is_left_out and word not in DISPENSABLE:
                text = f"this {NAME} is too old or too new: it has no {word}"
                raise LoadFailed(text, code="bad_config", source="engine")
        if not is_left_out:
            yield word


def _prompts(program: Program, job: EngineJob, header: Header, parallel: int) -> Prompts | None:
    """Where prompts are kept; None if none are, nor are former ones."""
    if not job.prompt_cache_dir:
        return None
    if not keeps_prompts(job):
        clear(job.prompt_cache_dir)
        return None
    try:
        found = os.stat(program.path)
        key = key_of(
            {
                "engine": NAME,
                "version": program.version,
                "program": (program.path, found.st_size, found.st_mtime_ns),
                "model": job.model_id,
                "files": identity(job.source),
                "options": {k: v for k, v in job.options.items() if k != PROMPT_CACHE},
            }
        )
    except OSError:  # the load will say what is wrong with the file
        return None
    store = PromptStore(job.prompt_cache_dir, job.worker_id, key, llama_slots.tokens_of)
    if not store.open():
        return None
    server = llama_slots.SlotServer(job.socket)
    return Prompts(server, store, parallel, bytes_per_token(header, job.options))
