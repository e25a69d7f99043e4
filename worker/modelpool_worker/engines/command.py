"""Any server that a command starts. The front relays to its port or its unix socket itself.

What may be run is for whoever writes the config file to say: options with ``only_in_config`` are
refused from clients of the API, see ``docs/engines.md``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.routes import SURFACES
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.progress import parts_of, source_bytes

from .command_line import BadTemplate, fill, fill_text, names_in
from .command_presets import COMMAND, QUESTIONS, Preset, sleep_options
from .command_server import (
    PortTaken,
    Servers,
    Start,
    end_as,
    environment_of,
    free_port,
    prepare,
)
from .local_client import Address

NAME = "command"
PORT_TRIES = 3
BEAT_SECONDS = 0.5
STAGE_CHARACTERS = 100
DEFAULT_READY_SECONDS = 300.0
_ONLY = {"only_in_config": True}
_PATH = re.compile(r"/[!-~]*")
_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\xa0-\xff]*")
_HTTP = ("ready_path", "paths", "headers")
_WORDS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}

# Of every such engine.
COMMON: Mapping[str, Schema] = {
    "context_length": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1 << 24,
        "description": "tokens of one request, prompt and answer; default: the server's",
    },
    "parallel": {
        "type": "integer",
        "minimum": 1,
        "maximum": 4096,
        "description": "requests at once; default: the server's, and the pool finds out how many"
        " serve best",
    },
    "arguments": {
        "type": "array",
        "items": {"type": "string"},
        "maxItems": 500,
        "description": "of the command, after those that follow from other options",
        **_ONLY,
    },
    "environment": {
        **_WORDS,
        "description": "variables beside the worker's own, none of which is a secret",
        **_ONLY,
    },
    "working_directory": {
        "type": "string",
        "minLength": 1,
        "description": "absolute path of the folder in which it runs",
        **_ONLY,
    },
    "port": {
        "type": "integer",
        "minimum": 1,
        "maximum": 65535,
        "description": "on which it listens, on loopback; default: one that is free, as {port}",
        **_ONLY,
    },
    "ready_path": {
        "type": "string",
        "description": "where it answers 200 when it can be used; empty: it listens",
    },
    "ready_log": {
        "type": "string",
        "maxLength": 1000,
        "description": "a regular expression that is found in a line of its output by then",
        **_ONLY,
    },
    "ready_timeout_seconds": {
        "type": "number",
        "minimum": 0.1,
        "maximum": 86400,
        "description": "without a word and without work for that long before it is ready, it is"
        " given up",
        "default": DEFAULT_READY_SECONDS,
    },
    "stop_command": {
        **COMMAND,
        "description": "what ends it, in place of a signal",
        **_ONLY,
    },
    "stop_signal": {
        "type": "string",
        "enum": ("TERM", "INT", "QUIT", "HUP", "KILL"),
        "description": "what ends it; default: TERM",
    },
    "stop_seconds": {
        "type": "number",
        "minimum": 0,
        "maximum": 60,
        "description": "how long it may take to end before it is killed",
    },
    "api": {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "description": "the paths that it answers, of those of the API",
    },
    "paths": {
        **_WORDS,
        "description": "of these what the server calls otherwise: our path and its own",
    },
    "model_name": {
        "type": "string",
        "description": "what requests to it call the model; empty: nothing",
    },
    "headers": {**_WORDS, "description": "of every request to it"},
    "stops_plain": {
        "type": "boolean",
        "description": "it stops work for a client that leaves without asking for a stream; where"
        " it does not, it is always asked for one",
    },
}
PROGRAM: Mapping[str, Schema] = {
    "program": {
        "type": "string",
        "minLength": 1,
        "description": "what is started, a name on PATH or an absolute path",
        **_ONLY,
    },
}
OWN: Mapping[str, Schema] = {
    "command": {
        **COMMAND,
        "description": "program and arguments, in which {source}, {port} or {socket}, {model_id} "
        "and the names of options in braces are filled in; a list in it is left out unless all "
        "that it names is given; there is no shell",
        **_ONLY,
    },
    "threads": {"type": "integer", "minimum": 1, "maximum": 512, "description": "for {threads}"},
}
# What a preset says and an option may say otherwise.
_SAID = (
    *("ready_path", "ready_log", "stop_command", "stop_signal", "stop_seconds"),
    *("api", "paths", "model_name", "headers", "stops_plain"),
)
_ALWAYS = ("port", "socket", "source", "model_id", "worker_id", "program", "stop_seconds")


def any_command() -> Preset:
    """What the engine ``command`` is without its options."""
    return Preset(
        NAME,
        description="any server that a command starts",
        install_hint="say in the option command how it is started",
        capabilities=tuple(sorted({word for s in SURFACES.values() for word in s.needs})),
        options=OWN,
    )


class CommandEngine(Engine):
    """See ``COMMON`` and the preset's own options; the source is whatever the command makes of
    it."""

    honours: ClassVar[Mapping[str, Collection[str]] | None] = None

    def __init__(self, preset: Preset) -> None:
        self._preset = preset
        self.name = preset.name  # type: ignore[misc]
        self.formats = preset.formats  # type: ignore[misc]
        self.capabilities = preset.capabilities  # type: ignore[misc]
        own = preset.options if preset.name == NAME else {**PROGRAM, **preset.options}
        self.options = {**COMMON, **sleep_options(preset.sleep), **own}  # type: ignore[misc]
        # An option may say that it answers others.
        self.surfaces = tuple(SURFACES) if preset.name == NAME else _reachable(preset)  # type: ignore[misc]
        self.after_leaving = dict.fromkeys(self.surfaces, "server")  # type: ignore[misc]
        self._servers = Servers()
        self._stop_seconds = preset.stop_seconds

    def prepare(self) -> None:
        prepare()

    def probe(self) -> Usable:
        preset = self._preset
        if preset.name == NAME:
            return Usable(True, reason=preset.description)
        if preset.module:
            if importlib.util.find_spec(preset.module) is None:
                return Usable(False, f"{preset.module} is not installed", preset.install_hint)
            return Usable(True, reason=preset.description, version=_version(preset.module))
        program = preset.program or preset.command[0]
        if not isinstance(program, str) or _found(program) is None:
            return Usable(False, f"there is no {program} on PATH", preset.install_hint)
        return Usable(True, reason=preset.description)

    def probe_for(self, options: Mapping[str, Any]) -> Usable:
        command = options.get("command", ())
        program = options.get("program", command[0] if command else None)
        if not isinstance(program, str) or names_in([program]):
            return self.probe()
        if shutil.which(program) is None:
            return Usable(False, f"there is no program {program}", self._preset.install_hint)
        return Usable(True)

    def check_each(self, options: Mapping[str, Any]) -> None:
        super().check_each(options)
        folder = options.get("working_directory")
        if folder is not None and not os.path.isabs(folder):
            raise self._bad("working_directory", f"must be an absolute path, not {folder[:200]!r}")
        self._check_http(options)
        try:
            re.compile(options.get("ready_log", ""))
        except re.error as e:
            raise self._bad("ready_log", f"is no regular expression: {e}") from None
        for name in ("api", "paths"):
            unknown = [path for path in options.get(name, ()) if path not in SURFACES]
            if unknown:
                raise self._bad(name, f"has {unknown[0]!r}; there are {', '.join(SURFACES)}")
        for name in ("command", "stop_command"):
            unknown = [n for n in names_in(options.get(name, ())) if n not in self._names]
            if unknown:
                known = ", ".join(sorted(self._names))
                raise self._bad(name, f"names {{{unknown[0]}}}; there are {known}")

    def inspect(self, source: str) -> None:
        self._check_source(source, {})

    def _check_source(self, source: str, options: Mapping[str, Any]) -> None:
        """One that no command names may be anything."""
        commands = (
            options.get("command", self._preset.command),
            options.get("stop_command", self._preset.stop_command),
            options.get("arguments", ()),
        )
        if source.startswith("-") and any("source" in names_in(each) for each in commands):
            text = (
                f"{self.name}: source {source[:200]!r} would be taken for an option by the program"
            )
            raise LoadFailed(text, code="bad_config", param="source", source="engine")

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        preset = self._preset
        self._check_http({name: getattr(preset, name) for name in _HTTP})
        command = options.get("command", self._preset.command)
        if not command:
            raise self._bad("command", "is required")
        if options.get("port") is None and not {"port", "socket"} & {*names_in(command)}:
            text = "must name {port} or {socket}, or the option port must say where it listens"
            raise self._bad("command", text)
        if self._preset.name == "container" and "image" not in options:
            raise self._bad("image", "is required")
        try:
            values = self._values(_SOMETHING, options, 1)
            fill(command, values)
            fill(options.get("stop_command", self._preset.stop_command), values)
        except BadTemplate as e:
            raise self._bad("command", str(e)) from None
        environment = {**preset.environment, **options.get("environment", {})}
        for name, texts in (
            ("model_name", [options.get("model_name", preset.model_name)]),
            ("environment", environment.values()),
        ):
            try:
                for text in texts:
                    fill_text(text, values)
            except BadTemplate as e:
                raise self._bad(name, str(e)) from None

    def stop_seconds(self, options: Mapping[str, Any]) -> float:
        return float(options.get("stop_seconds", self._preset.stop_seconds))

    def serve(self, job: EngineJob, status: Status) -> None:
        self._check_source(job.source, job.options)
        preset, options = self._said(job.options), job.options
        for attempt in range(PORT_TRIES):
            port = options.get("port") or free_port()
            start = self._start(preset, job, port)
            server = self._servers.begin(start)
            try:
                server.until_ready(_Beats(status, job.source).beat)
                break
            except PortTaken:
                server.stop()
                print(f"port {port} was taken by another program", file=sys.stderr, flush=True)
                if "port" in options or attempt == PORT_TRIES - 1:
                    raise LoadFailed(
                        f"port {port} is taken by another program", source="engine"
                    ) from None
            except BaseException:
                server.stop()
                raise
        level = options.get("sleep_level", min(preset.sleep, default=0))
        sleep = preset.sleep.get(level) if options.get("sleep") else None
        status.ready(
            context_length=options.get("context_length"),
            slots=options.get("parallel"),
            serves=preset.api,
            stops_plain=preset.stops_plain,
            has_metrics=preset.has_metrics,
            address=start.address,
            model_name=self._text(preset.model_name, job, port),
            headers=preset.headers,
            paths=preset.paths,
            sleep=sleep,
        )
        end_as(server.wait())

    def shut_down(self) -> None:
        self._servers.stop()

    def _check_http(self, said: Mapping[str, Any]) -> None:
        """What becomes a part of requests must not be able to end one, and begin another."""
        for name in ("ready_path", "paths"):
            given = said.get(name, ())
            for path in [given] if isinstance(given, str) else dict(given).values():
                is_none = name == "ready_path" and not path
                if not is_none and not _PATH.fullmatch(path):
                    text = f"must begin with / and hold no blanks, not {path[:200]!r}"
                    raise self._bad(name, text)
        for field, value in dict(said.get("headers", ())).items():
            if not (_FIELD.fullmatch(field) and _VALUE.fullmatch(value)):
                raise self._bad("headers", f"has {field[:200]!r}, which is no header of HTTP")

    @property
    def _names(self) -> set[str]:
        return {*_ALWAYS, *self.options}

    def _said(self, options: Mapping[str, Any]) -> Preset:
        """The preset as the options want it."""
        import dataclasses

        said = {name: options[name] for name in _SAID if name in options}
        if "api" in said:
            said["api"] = tuple(said["api"])
        return dataclasses.replace(self._preset, **said)

    def _start(self, preset: Preset, job: EngineJob, port: int) -> Start:
        options = job.options
        values = self._values(job, options, port)
        command = options.get("command", preset.command)
        own = {**preset.environment, **options.get("environment", {})}
        given = ((k, fill_text(v, values)) for k, v in own.items())
        more = ((k, v) for k, v in given if v is not None)
        is_socket = "port" not in options and "port" not in names_in(command)
        address: Address = job.socket if is_socket else ("127.0.0.1", port)
        question = None
        if preset.ready_asks and preset.api[0] in QUESTIONS:
            asked = {"model": self._text(preset.model_name, job, port), **QUESTIONS[preset.api[0]]}
            path = preset.paths.get(preset.api[0], preset.api[0])
            question = (path, json.dumps(asked).encode())
        return Start(
            fill(command, values),
            environment_of(os.environ, more),
            address,
            options.get("working_directory"),
            preset.ready_path,
            preset.ready_log,
            question,
            preset.headers,
            options.get("ready_timeout_seconds", DEFAULT_READY_SECONDS),
            fill(preset.stop_command, values),
            preset.stop_signal,
            preset.stop_seconds,
            preset.is_outside,
            os.path.dirname(job.socket),
        )

    def _text(self, template: str, job: EngineJob, port: int) -> str:
        return fill_text(template, self._values(job, job.options, port)) or ""

    def _values(self, job: EngineJob, options: Mapping[str, Any], port: int) -> dict[str, Any]:
        defaults = {name: schema.get("default") for name, schema in self.options.items()}
        program = self._preset.program or sys.executable
        program = _found(program) or program
        return {
            "program": program,
            "stop_seconds": self._preset.stop_seconds,
            **{k: v for k, v in defaults.items() if v is not None},
            **options,
            "port": port,
            "socket": job.socket,
            "source": job.source,
            "model_id": job.model_id,
            "worker_id": job.worker_id,
        }

    def _bad(self, name: str, why: str) -> LoadFailed:
        param = f"options.{name}"
        text = f"{self.name}: {param} {why}"
        return LoadFailed(text, code="bad_config", param=param, source="engine")


def _found(program: str) -> str | None:
    """Where it is: beside the Python of this environment, where pip puts what it installs, or else
    on PATH."""
    beside = os.path.dirname(sys.executable)
    return shutil.which(program, path=beside) or shutil.which(program)


# Against which a command is tried before there is a job.
_SOMETHING = EngineJob(NAME, "model", "source", "socket", worker_id="worker")


class _Beats:
    """Tells how far a load is, no more often than anybody wants to know."""

    def __init__(self, status: Status, source: str) -> None:
        self._status = status
        self._total = source_bytes(parts_of(source))
        self._last = 0.0

    def beat(self, word: str, read: int) -> None:
        """``word`` is what the server said last, ``read`` the bytes that it has read."""
        now = time.monotonic()
        if now - self._last < BEAT_SECONDS:
            return
        self._last, total = now, self._total
        stage = word[:STAGE_CHARACTERS] or "start"
        if total:
            done = min(read, total)
            self._status.progress(
                stage, done / total, bytes_done=done, bytes_total=total, estimated=True
            )
        else:
            self._status.progress(stage, bytes_done=read, estimated=True)


def _reachable(preset: Preset) -> tuple[str, ...]:
    """What a model of it may be asked: what its models can do at most."""
    able = set(preset.capabilities)
    return tuple(p for p, s in SURFACES.items() if p in preset.api or s.needs & able)


def _version(module: str) -> str:
    from importlib import metadata

    for name in (module, module.replace("_", "-")):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return ""
