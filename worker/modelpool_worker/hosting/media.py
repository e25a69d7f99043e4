"""Speech, transcription and pictures of hosted models, one request after the other."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.http1.exchange import Exchange
from modelpool_client.surfaces import media
from modelpool_client.surfaces.routes import (
    IMAGE_EDITS_PATH,
    IMAGES_PATH,
    SPEECH_PATH,
    TRANSCRIPTIONS_PATH,
    TRANSLATIONS_PATH,
    VOICES_PATH,
)

from . import transcripts
from .cancel import Cancel
from .contract import (
    Heard,
    ImageModel,
    ImageRequest,
    Segment,
    SpeechModel,
    SpeechRequest,
    TranscriptionModel,
    TranscriptionRequest,
)
from .form_files import read_form
from .sound_files import TYPES, Tools, encoded
from .surface import Compute


class SpeechSurface:
    """``/v1/audio/speech``: WAV, the samples alone (``pcm``), or what the tools at hand can write;
    ``/v1/audio/voices``."""

    work = "speech"

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self._compute = self.meter = Compute("speak")
        self.routes = {SPEECH_PATH: self.speak}
        self.raw_routes = {VOICES_PATH: self.voices}

    async def voices(self, exchange: Exchange, body: bytes) -> None:
        """Tell by which names voices can be asked for."""
        exchange.send_json(200, {"voices": list(getattr(self._model, "voices", ()))})

    async def speak(self, exchange: Exchange, body: Mapping[str, Any]) -> None:
        """Answer a request."""
        form = body.get("response_format") or "wav"
        tools = Tools.found()
        tools.check(form)
        voice = body.get("voice") or ""
        voice = voice if isinstance(voice, str) else str(voice.get("id", ""))

        rate = self._model.sample_rate

        def compute(cancel: Cancel) -> bytes:
            request = SpeechRequest(
                text=body["input"],
                cancel=cancel,
                voice=voice,
                speed=float(body.get("speed") or 1),
                instructions=body.get("instructions") or "",
            )
            pieces = []
            for piece in self._model.speak(request):
                self._compute.steps += 1
                cancel.check()
                pieces.append(piece)
            return encoded(b"".join(pieces), rate, form, tools, cancel)

        sound = await self._compute.run(compute)
        kind = TYPES.get(form, b"audio/pcm; rate=%d; channels=1" % rate)
        exchange.send(200, [(b"content-type", kind)], sound)


class TranscriptionSurface:
    """``/v1/audio/transcriptions`` and ``/v1/audio/translations``."""

    work = "transcription"

    def __init__(self, model: TranscriptionModel) -> None:
        self._model = model
        self._compute = self.meter = Compute("transcribe")
        self.raw_routes = {
            TRANSCRIPTIONS_PATH: self.transcribe,
        }
        if getattr(model, "can_translate", True):
            self.raw_routes[TRANSLATIONS_PATH] = self.translate

    async def transcribe(self, exchange: Exchange, body: bytes) -> None:
        """Answer a request for the words as they were said."""
        await self._answer(exchange, body, TRANSCRIPTIONS_PATH)

    async def translate(self, exchange: Exchange, body: bytes) -> None:
        """Answer a request for them in English."""
        await self._answer(exchange, body, TRANSLATIONS_PATH)

    async def _answer(self, exchange: Exchange, body: bytes, path: str) -> None:
        fields, files = _form(exchange, body, path)
        form = fields.get("response_format") or "json"
        if form not in transcripts.FORMATS:
            text = f"response_format must be one of {', '.join(transcripts.FORMATS)} with this "
            text += f"engine, not {form}"
            raise InvalidRequest(text, param="response_format", source="engine")
        is_translation = path == TRANSLATIONS_PATH

        def compute(cancel: Cancel) -> tuple[list[Segment], Heard]:
            request = TranscriptionRequest(
                audio=files["file"][0],
                filename=fields["file"]["filename"],
                cancel=cancel,
                language=fields.get("language") or "",
                prompt=fields.get("prompt") or "",
                temperature=fields.get("temperature"),
                is_translation=is_translation,
                wants_words="word" in (fields.get("timestamp_granularities") or ()),
            )
            segments, heard = [], Heard()
            for part in self._model.transcribe(request):
                self._compute.steps += 1
                cancel.check()
                if isinstance(part, Heard):
                    heard = part
                else:
                    segments.append(part)
            return segments, heard

        segments, heard = await self._compute.run(compute)
        task = "translate" if is_translation else "transcribe"
        kind, told = transcripts.told(form, task, segments, heard)
        exchange.send(200, [(b"content-type", kind)], told)


class ImageSurface:
    """``/v1/images/generations`` and, of models that can, ``/v1/images/edits``."""

    work = "images"

    def __init__(self, model: ImageModel) -> None:
        self._model = model
        self._compute = self.meter = Compute("draw")
        self.routes = {IMAGES_PATH: self.draw}
        self.raw_routes = {IMAGE_EDITS_PATH: self.edit} if model.can_edit else {}

    async def draw(self, exchange: Exchange, body: Mapping[str, Any]) -> None:
        """Answer a request for a new one."""
        await self._answer(exchange, body, {})

    async def edit(self, exchange: Exchange, body: bytes) -> None:
        """Answer a request for a change."""
        fields, files = _form(exchange, body, IMAGE_EDITS_PATH)
        await self._answer(exchange, fields, {name: f[0] for name, f in files.items()})

    async def _answer(
        self, exchange: Exchange, body: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> None:
        width, height = _size(body.get("size"))

        def compute(cancel: Cancel) -> list[bytes]:
            request = ImageRequest(
                prompt=body["prompt"],
                cancel=cancel,
                width=width,
                height=height,
                image=files.get("image", b""),
                mask=files.get("mask", b""),
            )
            pictures = []
            for _ in range(body.get("n") or 1):
                cancel.check()
                self._compute.steps += 1
                pictures.append(self._model.draw(request))
            return pictures

        pictures = await self._compute.run(compute)
        data = [{"b64_json": base64.b64encode(picture).decode()} for picture in pictures]
        exchange.send_json(200, {"created": int(time.time()), "data": data})


def _form(
    exchange: Exchange, body: bytes, path: str
) -> tuple[dict[str, Any], dict[str, list[bytes]]]:
    kind = exchange.request.fields.get(b"content-type", b"")
    return read_form(kind, body, media.BODIES[path])


def _size(given: str | None) -> tuple[int, int]:
    if given is None or given == "auto":
        return 0, 0
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", given)
    if found is None:
        text = f"size must be WIDTHxHEIGHT in pixels, or auto, not {given[:40]!r}"
        raise InvalidRequest(text, param="size", source="engine")
    return int(found[1]), int(found[2])
