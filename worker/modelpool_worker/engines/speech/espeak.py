"""Speech by the program ``espeak-ng``, run once for each request."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from modelpool_client.errors import EngineFailed, InvalidRequest, LoadFailed
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.hosting.cancel import Cancel
from modelpool_worker.hosting.contract import Hosted, SpeechRequest
from modelpool_worker.hosting.programs import output_of
from modelpool_worker.leaving import Leaving, leaving

from . import builtin, voices

PROGRAM = "espeak-ng"
INSTALL_HINT = "apt-get install espeak-ng (on macOS: brew install espeak-ng)"
DEFAULT_VOICE = "en-us"
# Words a minute.
DEFAULT_RATE, LOWEST_RATE, HIGHEST_RATE = 175, 80, 900
# A head of RIFF, fmt and data; the program cannot know how long what it writes will be.
HEAD_BYTES = 44
ASK_SECONDS = 20.0
# Or its library for sound, which is not asked for any, leaves folders of PulseAudio's behind: in
# the user's own ``.config`` and where temporary files are.
ENVIRONMENT: Mapping[str, str] = {"PULSE_SERVER": "none"}
_OPENING = re.compile(r"\[(?=\[)")
# The child and the program; measured 29 MB and 6 MB.
MEMORY_BYTES = 40_000_000

# OpenAI's voices as variants of the model's own.
OPENAI_VOICES: Mapping[str, str] = {
    "alloy": "f2",
    "ash": "m2",
    "ballad": "m4",
    "cedar": "m5",
    "coral": "f4",
    "echo": "m3",
    "fable": "m6",
    "marin": "f3",
    "nova": "f1",
    "onyx": "m7",
    "sage": "f5",
    "shimmer": "f3",
    "verse": "m1",
}

OPTIONS: Mapping[str, Schema] = {
    voices.VOICE: voices.voice(
        "for requests that say none: a language (de, en-gb) or a name of espeak-ng --voices, "
        "perhaps with + and a variant (en-us+f3)",
        default=DEFAULT_VOICE,
    ),
    "words_per_minute": {
        "type": "integer",
        "minimum": LOWEST_RATE,
        "maximum": 450,
        "description": "how fast speed 1 is",
        "default": DEFAULT_RATE,
    },
    "pitch": {"type": "integer", "minimum": 0, "maximum": 99, "default": 50},
    "volume": {
        "type": "integer",
        "minimum": 0,
        "maximum": 200,
        "description": "amplitude",
        "default": 100,
    },
    "word_gap_ms": {
        "type": "integer",
        "minimum": 0,
        "maximum": 10_000,
        "description": "pause between words, at the usual speed",
        "default": 0,
    },
    **voices.OPTIONS,
}


class Espeak(Engine):
    """See ``OPTIONS``; the source is ``builtin``: voices come with the program."""

    name = "espeak-ng"
    formats = ("none",)
    capabilities = ("text_to_speech",)
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = voices.SURFACES
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces)
    honours: ClassVar[Mapping[str, Collection[str]]] = voices.HONOURS

    def probe(self) -> Usable:
        if shutil.which(PROGRAM) is None:
            return Usable(False, f"the program {PROGRAM} is not installed", INSTALL_HINT)
        try:
            told = _ask("--version")
        except EngineFailed as e:
            return Usable(False, e.message, INSTALL_HINT)
        return Usable(True, version=version_of(told))

    def inspect(self, source: str) -> None:
        builtin.check_source(self.name, source)

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        return MEMORY_BYTES

    def serve(self, job: EngineJob, status: Status) -> None:
        from modelpool_worker.hosting.server import serve

        self.inspect(job.source)
        if shutil.which(PROGRAM) is None:
            text = f"the program {PROGRAM} is not installed: {INSTALL_HINT}"
            raise LoadFailed(text, code="missing_dependency", source="engine")
        try:
            model = Speaker(Voices.found(), job.options)
        except InvalidRequest as e:
            text = f"{self.name}: options.{voices.VOICE}: {e.message}"
            raise LoadFailed(text, code="bad_config", source="engine") from None
        except EngineFailed as e:
            raise LoadFailed(e.message, source="engine") from None
        serve(job, status, Hosted(speech=model))


class Voices:
    """The voices of an installation, told apart from their variants."""

    def __init__(self, listing: str, variants: str) -> None:
        rows = [line.split() for line in listing.splitlines()[1:]]
        rows = [row for row in rows if len(row) >= 5]
        self.languages = tuple(dict.fromkeys(row[1] for row in rows))
        # Names of the same voice: its language, its own, and a file that some programs say.
        self._names = {name for row in rows for name in (row[1], row[3], row[4])}
        files = [line.split()[4] for line in variants.splitlines()[1:] if len(line.split()) >= 5]
        self.variants = tuple(name.removeprefix("!v/") for name in files)

    @classmethod
    def found(cls) -> Voices:
        """Those of this machine.

        Raises:
            EngineFailed: the program does not tell them.
        """
        return cls(_ask("--voices"), _ask("--voices=variant"))

    def chosen(self, asked: str, default: str, aliases: Mapping[str, str]) -> str:
        """See ``voices.chosen``; any voice may have any variant."""
        name = aliases.get(asked, asked) or default
        base, plus, variant = name.partition("+")
        if plus and variant not in self.variants:
            names = {f"{base}+{v}" for v in self.variants}
            return voices.chosen(name, default, names, aliases)
        # A name beside a variant may be another name, too, which the program does not know.
        own = base or default.partition("+")[0]
        return voices.chosen(own, default, self._names, aliases) + plus + variant


class Speaker:
    """Speaks; a model of the kit."""

    def __init__(self, found: Voices, options: Mapping[str, Any]) -> None:
        """Say something to learn the sample rate.

        Raises:
            InvalidRequest: there is no such voice as the options say.
            EngineFailed: the program fails.
        """
        self._found = found
        self._default = options.get(voices.VOICE, DEFAULT_VOICE)
        base = self._default.partition("+")[0]
        openai = {name: f"{base}+{v}" for name, v in OPENAI_VOICES.items() if v in found.variants}
        self._aliases = {**openai, **options.get(voices.ALIASES, {})}
        for name in ("", *options.get(voices.ALIASES, {})):
            found.chosen(name, self._default, self._aliases)
        self._rate = options.get("words_per_minute", DEFAULT_RATE)
        self._how = (
            *("-p", str(options.get("pitch", 50)), "-a", str(options.get("volume", 100))),
            *("-g", str(options.get("word_gap_ms", 0) // 10)),
        )
        self.voices = (*self._aliases, *found.languages)
        self.sample_rate = 0
        for _ in self.speak(SpeechRequest("a", Cancel())):
            pass

    def speak(self, request: SpeechRequest) -> Iterator[bytes]:
        """See ``SpeechModel``.

        Raises:
            InvalidRequest: there is no such voice, or it cannot be so slow or fast.
            EngineFailed: the program fails.
            Cancelled: nobody waits for it.
        """
        voice = self._found.chosen(request.voice, self._default, self._aliases)
        how = ("-v", voice, "-s", str(self._words_per_minute(request.speed)), *self._how)
        command = (PROGRAM, *how, "-b", "1", "--stdin", "--stdout")
        head, is_head = b"", True
        text = readable(request.text).encode()
        for piece in output_of(command, text, request.cancel, ENVIRONMENT):
            if is_head:
                head += piece
                if len(head) < HEAD_BYTES:
                    continue
                self._read_head(head[:HEAD_BYTES])
                piece, is_head = head[HEAD_BYTES:], False
            yield piece

    def _words_per_minute(self, speed: float) -> int:
        words: int = round(self._rate * speed)
        if LOWEST_RATE <= words <= HIGHEST_RATE:
            return words
        least, most = LOWEST_RATE / self._rate, HIGHEST_RATE / self._rate
        text = f"speed must be {least:.2f} to {most:.2f} with this model, not {speed:g}"
        raise InvalidRequest(text, param="speed", source="engine")

    def _read_head(self, head: bytes) -> None:
        if head[:4] != b"RIFF" or head[36:40] != b"data":
            raise EngineFailed(f"{PROGRAM} writes no WAV of the usual kind", source="engine")
        rate = int.from_bytes(head[24:28], "little")
        if self.sample_rate not in (0, rate):
            text = f"this voice has {rate} samples a second, others {self.sample_rate}"
            raise InvalidRequest(text, param=voices.VOICE, source="engine")
        self.sample_rate = rate


def version_of(told: str) -> str:
    """What ``--version`` tells, without the folder."""
    return f"{PROGRAM} {told.partition(': ')[2].split(' ')[0]}"


def readable(text: str) -> str:
    """Without control characters, some of which are commands, and without the brackets between
    which the program reads phonemes."""
    kept = "".join(c if c.isprintable() or c.isspace() else " " for c in text)
    return _OPENING.sub("[ ", kept)


def _ask(*arguments: str) -> str:
    try:
        done = subprocess.run(
            [PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, **ENVIRONMENT},
            timeout=ASK_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as e:
        raise EngineFailed(f"{PROGRAM} says nothing of itself: {e}", source="engine") from None
    return done.stdout.decode(errors="replace")
