"""Speech by Kokoro, one small model with many voices (package ``kokoro-onnx``)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from modelpool_client.errors import InvalidRequest, LoadFailed
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.engines.library import Library
from modelpool_worker.hosting.contract import Hosted, SpeechRequest
from modelpool_worker.leaving import Leaving, leaving

from . import voices

LIBRARY = Library({"kokoro_onnx": "kokoro-onnx"}, "kokoro")
# onnxruntime, a phonemizer and what surrounds them, before any weights.
LIBRARY_BYTES = 150_000_000
RATE = 24000
DEFAULT_VOICE = "af_heart"
DEFAULT_LANGUAGE = "en-us"
# The first letter of a voice's name says which language it is of, as the phonemizer calls them.
LANGUAGES = {
    "a": "en-us",
    "b": "en-gb",
    "e": "es",
    "f": "fr-fr",
    "h": "hi",
    "i": "it",
    "p": "pt-br",
}
SLOWEST, FASTEST = 0.5, 2.0
# OpenAI's voices, where a model has one of that name.
OPENAI_VOICES = {
    "alloy": "af_alloy",
    "echo": "am_echo",
    "fable": "bm_fable",
    "nova": "af_nova",
    "onyx": "am_onyx",
}

OPTIONS: Mapping[str, Schema] = {
    voices.VOICE: voices.voice("for requests that say none", default=DEFAULT_VOICE),
    "voices_file": {
        "type": "string",
        "minLength": 1,
        "description": "absolute path of the file of voices; default: the voices*.bin beside the "
        "model",
    },
    "language": {
        "type": "string",
        "minLength": 1,
        "description": "how texts are read (en-us, fr-fr, …); default: the language of the voice",
    },
    **voices.OPTIONS,
}


class Kokoro(Engine):
    """See ``OPTIONS``; the source is the model's ``.onnx``."""

    name = "kokoro"
    extra = "kokoro"
    formats = ("onnx",)
    capabilities = ("text_to_speech",)
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = voices.SURFACES
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces)
    honours: ClassVar[Mapping[str, Collection[str]]] = voices.HONOURS

    def probe(self) -> Usable:
        return LIBRARY.probe()

    def inspect(self, source: str) -> None:
        if not os.path.isfile(source):
            text = f"there is no file {source}"
            raise LoadFailed(text, code="bad_file", param="source", source="engine")

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        # Weights, and as much again while it speaks.
        return LIBRARY_BYTES + 2 * os.path.getsize(source)

    def check_each(self, options: Mapping[str, Any]) -> None:
        super().check_each(options)
        path = options.get("voices_file")
        if path is not None and not os.path.isabs(path):
            param = "options.voices_file"
            text = f"{self.name}: {param} must be an absolute path, not {path[:200]!r}"
            raise LoadFailed(text, code="bad_config", param=param, source="engine")

    def prepare(self) -> None:
        import kokoro_onnx  # noqa: F401

    def serve(self, job: EngineJob, status: Status) -> None:
        from modelpool_worker.hosting.server import serve

        self.inspect(job.source)
        path = job.options.get("voices_file") or voices_beside(job.source)
        kokoro_onnx = LIBRARY.load()
        # Its phonemizer copies the library of espeak-ng, for each load; this is there anyway, and
        # goes.
        tempfile.tempdir = os.path.dirname(job.socket)
        try:
            kokoro = kokoro_onnx.Kokoro(job.source, path)
        except Exception as e:  # onnxruntime's and numpy's have no common base
            text = f"{job.source} with the voices of {path} is no model of Kokoro: {e}"
            raise LoadFailed(text, code="bad_file", param="source", source="engine") from e
        with voices.of_options(self.name):
            model = Speaker(kokoro, job.options)
        serve(job, status, Hosted(speech=model))


def voices_beside(source: str) -> str:
    """The file of voices in the model's folder.

    Raises:
        LoadFailed: code ``bad_file``: there is none, or there are several.
    """
    folder = os.path.dirname(source)
    names = [n for n in sorted(os.listdir(folder)) if n.startswith("voices") and n.endswith(".bin")]
    if len(names) != 1:
        found = f"there are {', '.join(names)}" if names else "there is no voices*.bin"
        text = f"{found} beside {source}; options.voices_file says which"
        raise LoadFailed(text, code="bad_file", param="options.voices_file", source="engine")
    return os.path.join(folder, names[0])


class Speaker:
    """Speaks; a model of the kit."""

    sample_rate = RATE

    def __init__(self, kokoro: Any, options: Mapping[str, Any]) -> None:
        """
        Raises:
            InvalidRequest: there is no such voice as the options say.
        """
        self._kokoro = kokoro
        self._known = tuple(kokoro.get_voices())
        has_default = DEFAULT_VOICE in self._known
        own = DEFAULT_VOICE if has_default else next(iter(self._known), "")
        self._default = options.get(voices.VOICE, own)
        self._language = options.get("language")
        openai = {name: v for name, v in OPENAI_VOICES.items() if v in self._known}
        self._aliases = {**openai, **options.get(voices.ALIASES, {})}
        self.voices = (*self._aliases, *self._known)
        for name in ("", *self._aliases):
            self._voice(name)

    def speak(self, request: SpeechRequest) -> Iterator[bytes]:
        """See ``SpeechModel``; a piece for each part of the text that is computed at once.

        Raises:
            InvalidRequest: there is no such voice, or it cannot be so slow or fast.
        """
        import asyncio

        import numpy

        voice = self._voice(request.voice)
        if not SLOWEST <= request.speed <= FASTEST:
            text = f"speed must be {SLOWEST} to {FASTEST} with this engine, not {request.speed:g}"
            raise InvalidRequest(text, param="speed", source="engine")
        language = self._language or LANGUAGES.get(voice[:1], DEFAULT_LANGUAGE)
        stream = self._kokoro.create_stream(request.text, voice, request.speed, language)
        # Its generator is asynchronous and computes in a thread; this one has a loop of its own.
        with asyncio.Runner() as runner:
            while True:
                try:
                    samples, _ = runner.run(anext(stream))
                except StopAsyncIteration:
                    return
                except ValueError as e:
                    raise InvalidRequest(str(e), param="input", source="engine") from None
                clipped = numpy.clip(samples, -1.0, 1.0) * 32767
                yield clipped.astype("<i2").tobytes()

    def _voice(self, asked: str) -> str:
        return voices.chosen(asked, self._default, self._known, self._aliases)
