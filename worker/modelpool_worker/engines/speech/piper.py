"""Speech by Piper's neural voices, files of ONNX (package ``piper-tts``)."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.engines.library import Library
from modelpool_worker.hosting.contract import Hosted, SpeechRequest
from modelpool_worker.leaving import Leaving, leaving

from . import voices

LIBRARY = Library({"piper": "piper-tts"}, "piper")
# onnxruntime and what surrounds it, before any weights.
LIBRARY_BYTES = 120_000_000

OPTIONS: Mapping[str, Schema] = {
    voices.VOICE: voices.voice(
        "of a file with several speakers, for requests that say none; default: its first"
    ),
    "noise_scale": {
        "type": "number",
        "minimum": 0,
        "maximum": 2,
        "description": "how much the sound varies; default: as the voice says",
    },
    "noise_w_scale": {
        "type": "number",
        "minimum": 0,
        "maximum": 2,
        "description": "how much the length of sounds varies; default: as the voice says",
    },
    **voices.OPTIONS,
}


class Piper(Engine):
    """See ``OPTIONS``; the source is a voice's ``.onnx``, beside which lies its ``.onnx.json``."""

    name = "piper"
    extra = "piper"
    formats = ("onnx",)
    capabilities = ("text_to_speech",)
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = voices.SURFACES
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces)
    honours: ClassVar[Mapping[str, Collection[str]]] = voices.HONOURS

    def probe(self) -> Usable:
        return LIBRARY.probe()

    def inspect(self, source: str) -> None:
        for path in (source, f"{source}.json"):
            if not os.path.isfile(path):
                text = f"there is no file {path}"
                raise LoadFailed(text, code="bad_file", param="source", source="engine")

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        # Weights, and as much again while it speaks.
        return LIBRARY_BYTES + 2 * os.path.getsize(source)

    def prepare(self) -> None:
        import piper  # noqa: F401

    def serve(self, job: EngineJob, status: Status) -> None:
        from modelpool_worker.hosting.server import serve

        self.inspect(job.source)
        piper = LIBRARY.load()
        try:
            voice = piper.PiperVoice.load(job.source)
        except Exception as e:  # onnxruntime's have no common base, and JSON may hold anything
            text = f"{job.source} is no voice of Piper: {e}"
            raise LoadFailed(text, code="bad_file", param="source", source="engine") from e
        with voices.of_options(self.name):
            model = Speaker(piper, voice, job.options)
        unable = {} if model.voices else {voices.VOICE: "this model has one voice"}
        serve(job, status, Hosted(speech=model, unable=unable))


class Speaker:
    """Speaks; a model of the kit."""

    def __init__(self, library: Any, voice: Any, options: Mapping[str, Any]) -> None:
        """
        Raises:
            InvalidRequest: there is no such speaker as the options say.
        """
        self._library, self._voice = library, voice
        self._speakers: Mapping[str, int] = dict(voice.config.speaker_id_map or {})
        self._aliases = options.get(voices.ALIASES, {})
        own = next(iter(self._speakers), "")
        self._default = options.get(voices.VOICE, own)
        self._noise = {name: options.get(name) for name in ("noise_scale", "noise_w_scale")}
        self.sample_rate = int(voice.config.sample_rate)
        self.voices = (*self._aliases, *self._speakers) if self._speakers else ()
        if self._default:
            self._speaker("")
        for name in self._aliases if self._speakers else ():
            self._speaker(name)

    def speak(self, request: SpeechRequest) -> Iterator[bytes]:
        """See ``SpeechModel``; a piece for each sentence.

        Raises:
            InvalidRequest: there is no such voice.
        """
        how = self._library.SynthesisConfig(
            speaker_id=self._speaker(request.voice),
            length_scale=self._voice.config.length_scale / request.speed,
            **self._noise,
        )
        for chunk in self._voice.synthesize(request.text, how):
            yield chunk.audio_int16_bytes

    def _speaker(self, asked: str) -> int | None:
        if not self._speakers and not self._default:
            return None
        name = voices.chosen(asked, self._default, self._speakers, self._aliases)
        return self._speakers[name]
