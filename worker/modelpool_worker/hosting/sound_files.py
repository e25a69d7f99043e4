"""Sound files: what is said in the formats of OpenAI's speech, and recordings in any format.

WAV needs nothing; the others need the program ``ffmpeg`` or the package ``soundfile``, whichever is
there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from modelpool_client.errors import EngineFailed, InvalidRequest

from .audio import check_length, read_wav, resampled, wav
from .cancel import Cancel
from .programs import output_of

ALWAYS = ("wav", "pcm")
TYPES: Mapping[str, bytes] = {
    "mp3": b"audio/mpeg",
    "opus": b"audio/ogg",
    "aac": b"audio/aac",
    "flac": b"audio/flac",
    "wav": b"audio/wav",
}
# What tells ffmpeg the format.
_FFMPEG: Mapping[str, Sequence[str]] = {
    "mp3": ("-f", "mp3"),
    "opus": ("-c:a", "libopus", "-f", "ogg"),
    "aac": ("-f", "adts"),
    "flac": ("-f", "flac"),
}
# Names of format and encoding for soundfile; AAC it does not know.
_SOUNDFILE: Mapping[str, tuple[str, str]] = {
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "opus": ("OGG", "OPUS"),
    "flac": ("FLAC", "PCM_16"),
}
# Samples a second that Opus knows.
_OPUS_RATE = 24000
INSTALL_HINT = "ffmpeg (a program) or soundfile (pip install 'modelpool[speech]')"


@dataclass(frozen=True)
class Tools:
    """What there is for other formats than WAV.

    Attributes:
        ffmpeg: where the program is; None for none.
        has_soundfile: the package can be imported.
    """

    ffmpeg: str | None = None
    has_soundfile: bool = False

    @classmethod
    def found(cls) -> Tools:
        """What is on this machine, in this environment."""
        has_soundfile = importlib.util.find_spec("soundfile") is not None
        return cls(shutil.which("ffmpeg"), has_soundfile)

    @property
    def formats(self) -> tuple[str, ...]:
        """That can be written."""
        more = {*(_FFMPEG if self.ffmpeg else ()), *(_SOUNDFILE if self.has_soundfile else ())}
        return (*ALWAYS, *(name for name in TYPES if name in more))

    def check(self, form: str) -> None:
        """Whether it can be written.

        Raises:
            InvalidRequest: it cannot; the text names what can, and what would help.
        """
        if form in self.formats:
            return
        text = f"response_format must be {_either(self.formats)} here, not {form}: that would need "
        text += "ffmpeg (a program)" if form not in _SOUNDFILE else INSTALL_HINT
        raise InvalidRequest(text, param="response_format", source="engine")


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]])


def encoded(samples: bytes, rate: int, form: str, tools: Tools, cancel: Cancel) -> bytes:
    """Samples as a file of that format, which ``Tools.check`` has passed.

    Raises:
        EngineFailed: what writes it failed.
        Cancelled: nobody waits for it.
    """
    if form == "pcm":
        return samples
    if form == "wav":
        return wav(samples, rate)
    if tools.ffmpeg is not None:
        given = ("-f", "s16le", "-ar", str(rate), "-ac", "1", "-i", "pipe:0")
        command = (*_quiet(tools.ffmpeg), *given, *_FFMPEG[form], "pipe:1")
        return b"".join(output_of(command, samples, cancel))
    return _by_soundfile(samples, rate, form)


def _by_soundfile(samples: bytes, rate: int, form: str) -> bytes:
    import soundfile

    kind, subtype = _SOUNDFILE[form]
    if form == "opus":
        samples, rate = resampled(samples, rate, _OPUS_RATE), _OPUS_RATE
    out = io.BytesIO()
    try:
        with soundfile.SoundFile(out, "w", rate, 1, subtype, format=kind) as file:
            file.buffer_write(samples, "int16")
    except (RuntimeError, ValueError) as e:
        raise EngineFailed(f"soundfile cannot write {form}: {e}", source="engine") from None
    return out.getvalue()


def read_recording(data: bytes, rate: int, tools: Tools, cancel: Cancel) -> bytes:
    """The samples of a recording at ``rate`` a second, its channels mixed into one: a WAV file, or
    whatever the tools read.

    Raises:
        InvalidRequest: it cannot be read.
        Cancelled: nobody waits for it.
    """
    try:
        return read_wav(data, rate)
    except InvalidRequest as e:
        error = e
    readers: list[Callable[[], bytes]] = []
    if tools.has_soundfile:
        readers.append(lambda: _read_by_soundfile(data, rate))
    if (ffmpeg := tools.ffmpeg) is not None:
        readers.append(lambda: _read_by_ffmpeg(ffmpeg, data, rate, cancel))
    for read in readers:
        with contextlib.suppress(EngineFailed):
            return read()
    if not readers:
        text = f"{error.message}; others would need {INSTALL_HINT}"
    else:
        text = "file is no recording that can be read here"
    raise InvalidRequest(text, param="file", source="engine")


def _read_by_soundfile(data: bytes, rate: int) -> bytes:
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            own, channels = file.samplerate, file.channels
            check_length(file.frames, own)
            frames = bytes(file.buffer_read(dtype="int16"))
    except (RuntimeError, ValueError) as e:
        raise EngineFailed(f"soundfile cannot read it: {e}") from None
    return resampled(frames, own, rate, channels)


def _read_by_ffmpeg(ffmpeg: str, data: bytes, rate: int, cancel: Cancel) -> bytes:
    wanted = ("-f", "s16le", "-ar", str(rate), "-ac", "1", "pipe:1")
    # Nothing but the recording itself may be opened, whatever it names.
    given = ("-protocol_whitelist", "pipe", "-i", "pipe:0")
    pieces, size = [], 0
    for piece in output_of((*_quiet(ffmpeg), *given, *wanted), data, cancel):
        pieces.append(piece)
        size += len(piece)
        check_length(size // 2, rate)
    samples = b"".join(pieces)
    if not samples:
        raise EngineFailed("ffmpeg finds no sound in it")
    return samples


def _quiet(ffmpeg: str) -> tuple[str, ...]:
    return (ffmpeg, "-v", "error", "-nostdin")
