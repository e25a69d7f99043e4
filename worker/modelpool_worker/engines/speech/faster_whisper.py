"""Transcription and translation by Whisper models of CTranslate2 (package ``faster-whisper``)."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from modelpool_client.errors import InvalidRequest, LoadFailed
from modelpool_client.surfaces.routes import TRANSCRIPTIONS_PATH, TRANSLATIONS_PATH
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.engines.cpu import physical_cores
from modelpool_worker.engines.library import Library
from modelpool_worker.hosting.contract import (
    Heard,
    Hosted,
    Segment,
    TranscriptionRequest,
    Word,
)
from modelpool_worker.leaving import Leaving, leaving

LIBRARY = Library({"faster_whisper": "faster-whisper"}, "whisper")
# CTranslate2, FFmpeg's libraries and what surrounds them, before any weights.
LIBRARY_BYTES = 250_000_000
FILES = ("model.bin", "config.json", "tokenizer.json")
COMPUTE_TYPES = ("default", "auto", "int8", "int8_float16", "int8_float32", "float16", "float32")

OPTIONS: Mapping[str, Schema] = {
    "device": {"type": "string", "enum": ("auto", "cpu", "cuda"), "default": "auto"},
    "compute_type": {
        "type": "string",
        "enum": COMPUTE_TYPES,
        "description": "of the weights once they are loaded; default: as the file has them",
        "default": "default",
    },
    "threads": {
        "type": "integer",
        "minimum": 1,
        "maximum": 512,
        "description": "default: cores",
        "default": physical_cores(),
    },
    "beam_size": {
        "type": "integer",
        "minimum": 1,
        "maximum": 64,
        "description": "ways of saying it that are followed at once",
        "default": 5,
    },
    "language": {
        "type": "string",
        "minLength": 2,
        "description": "for requests that say none; default: found out",
    },
    "vad": {
        "type": "boolean",
        "description": "leave out where nobody speaks",
        "default": False,
    },
}
_HONOURS = ("prompt", "response_format", "temperature")


class FasterWhisper(Engine):
    """See ``OPTIONS``; the source is a folder of CTranslate2: model.bin, config.json,
    tokenizer.json."""

    name = "faster-whisper"
    extra = "whisper"
    formats = ("ctranslate2",)
    capabilities = ("speech_to_text",)
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = (TRANSCRIPTIONS_PATH, TRANSLATIONS_PATH)
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces)
    honours: ClassVar[Mapping[str, Collection[str]]] = {
        TRANSCRIPTIONS_PATH: (*_HONOURS, "language", "timestamp_granularities"),
        TRANSLATIONS_PATH: _HONOURS,
    }

    def probe(self) -> Usable:
        return LIBRARY.probe()

    def inspect(self, source: str) -> None:
        missing = [name for name in FILES if not os.path.isfile(os.path.join(source, name))]
        if missing:
            text = f"{source} is no folder of a CTranslate2 model: {', '.join(missing)} missing"
            raise LoadFailed(text, code="bad_file", param="source", source="engine")

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        weights = os.path.getsize(os.path.join(source, FILES[0]))
        return LIBRARY_BYTES + int(weights * 1.5)

    def prepare(self) -> None:
        import faster_whisper  # noqa: F401

    def serve(self, job: EngineJob, status: Status) -> None:
        from modelpool_worker.hosting.server import serve

        self.inspect(job.source)
        faster_whisper = LIBRARY.load()
        options = job.options
        try:
            model = faster_whisper.WhisperModel(
                job.source,
                device=options.get("device", "auto"),
                compute_type=options.get("compute_type", "default"),
                cpu_threads=options.get("threads") or physical_cores(),
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as e:
            text = f"faster-whisper cannot load {job.source}: {e}"
            raise LoadFailed(text, code="load_failed", source="engine") from e
        serve(job, status, Hosted(transcription=Listener(faster_whisper, model, options)))


class Listener:
    """Listens; a model of the kit."""

    def __init__(self, library: Any, model: Any, options: Mapping[str, Any]) -> None:
        self._library, self._model = library, model
        self._languages = tuple(model.supported_languages)
        self._language = options.get("language")
        self._how = {
            "beam_size": options.get("beam_size", 5),
            "vad_filter": options.get("vad", False),
        }
        self.can_translate = len(self._languages) > 1

    def transcribe(self, request: TranscriptionRequest) -> Iterator[Segment | Heard]:
        """See ``TranscriptionModel``; a client that leaves ends it with the segment under way.

        Raises:
            InvalidRequest: the recording cannot be read, or the language is none of the model's.
        """
        audio = self._decoded(request.audio)
        how = dict(self._how)
        if request.temperature is not None:
            how["temperature"] = request.temperature
        segments, info = self._model.transcribe(
            audio,
            language=self._spoken(request.language),
            task="translate" if request.is_translation else "transcribe",
            initial_prompt=request.prompt or None,
            word_timestamps=request.wants_words,
            **how,
        )
        yield Heard(info.language, info.duration)
        for segment in segments:
            words = [Word(w.word.strip(), w.start, w.end) for w in segment.words or ()]
            yield Segment(segment.text, segment.start, segment.end, words)

    def _decoded(self, data: bytes) -> Any:
        try:
            return self._library.decode_audio(io.BytesIO(data))
        except Exception as e:  # PyAV's have no base that is told anywhere
            text = f"file is no recording that can be read here: {e}"
            raise InvalidRequest(text, param="file", source="engine") from None

    def _spoken(self, asked: str) -> str | None:
        if not asked:
            return self._language
        if asked not in self._languages:
            text = f"language must be one of {', '.join(self._languages)}, not {asked[:50]!r}"
            raise InvalidRequest(text, param="language", source="engine")
        return asked
