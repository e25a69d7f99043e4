"""Transcription by PocketSphinx: small, without a GPU, best within a grammar."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.routes import TRANSCRIPTIONS_PATH
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.engines.library import Library
from modelpool_worker.hosting.contract import (
    Heard,
    Hosted,
    Segment,
    TranscriptionRequest,
    Word,
)
from modelpool_worker.hosting.sound_files import Tools, read_recording
from modelpool_worker.leaving import Leaving, leaving

from . import builtin, jsgf

LIBRARY = Library({"pocketsphinx": "pocketsphinx"}, "speech")
RATE = 16000
FRAMES_PER_SECOND = 100
# The decoder lets no other thread run: between pieces of a twentieth of a second it does, and a
# client that left is noticed.
PIECE_BYTES = RATE // 20 * 2
# Longer recordings are cut where nobody speaks.
LONGEST_UTTERANCE = 20 * RATE * 2
LANGUAGE = "en"  # of the built-in model
# Measured with the built-in model: 129 MB with its language model, 61 MB with a grammar.
MEMORY_BYTES = {True: 140_000_000, False: 70_000_000}
# Of words that are no words: silence, noises, the ends of a sentence.
NOT_SAID = re.compile(r"<.*>|\[.*\]|\+\+.*\+\+|\(NULL\)")
VARIANT = re.compile(r"\(\d+\)$")

GRAMMAR, KEYPHRASES = "grammar", "keyphrases"
OPTIONS: Mapping[str, Schema] = {
    GRAMMAR: {
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": 1 << 20},
            {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
        ],
        "description": "all that can be said: a grammar (the text of a JSGF file), or a list of "
        "words and phrases, which come in any order; default: any English",
    },
    KEYPHRASES: {
        "type": "array",
        "minItems": 1,
        "items": {"type": "string", "minLength": 1},
        "description": "only these are listened for, in whatever else is said",
    },
    "keyphrase_threshold": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "description": "how likely they must be; lower finds more, wrong ones too",
        "default": 1e-20,
    },
    "words": {
        "type": "object",
        "additionalProperties": {"type": "string", "minLength": 1},
        "description": "more words for the dictionary: word to phones (ARPAbet, as HH AH L OW)",
    },
    "language": {
        "type": "string",
        "minLength": 1,
        "description": "what transcripts say of it; default: en for the built-in model",
    },
}


class PocketSphinx(Engine):
    """See ``OPTIONS``; the source is ``builtin``, English that comes with the package, or a folder
    with an acoustic model, a dictionary (``*.dict``) and perhaps a language model (``*.lm.bin``).
    """

    name = "pocketsphinx"
    extra = "speech"
    formats = ("none",)
    capabilities = ("speech_to_text",)
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = (TRANSCRIPTIONS_PATH,)
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces)
    honours: ClassVar[Mapping[str, Collection[str]]] = {
        TRANSCRIPTIONS_PATH: ("response_format", "timestamp_granularities")
    }

    def probe(self) -> Usable:
        return LIBRARY.probe()

    def inspect(self, source: str) -> None:
        if not os.path.isdir(source):
            builtin.check_source(self.name, source, "a folder")
            return
        parts = parts_of(source)
        for name, what in (("hmm", "no acoustic model (a file mdef)"), ("dict", "no *.dict file")):
            if not parts[name]:
                text = f"{source}: there is {what} in it"
                raise LoadFailed(text, code="bad_file", param="source", source="engine")

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        return MEMORY_BYTES[options.keys().isdisjoint({GRAMMAR, KEYPHRASES})]

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        if {GRAMMAR, KEYPHRASES} <= options.keys():
            raise _bad_option(KEYPHRASES, f"and {GRAMMAR} are given; leave one out")

    def check_each(self, options: Mapping[str, Any]) -> None:
        super().check_each(options)
        grammar = options.get(GRAMMAR)
        if isinstance(grammar, str) and not jsgf.is_grammar(grammar):
            raise _bad_option(GRAMMAR, "must begin with #JSGF, or be a list of phrases")
        if isinstance(grammar, str) and jsgf.imports(grammar):
            raise _bad_option(GRAMMAR, "imports others: it must hold all of its rules itself")
        for name in (GRAMMAR, KEYPHRASES):
            phrases = options.get(name, ())
            for phrase in phrases if not isinstance(phrases, str) else ():
                if not jsgf.phrase_words(phrase):
                    raise _bad_option(name, f"holds {phrase[:50]!r}, in which there is no word")

    def serve(self, job: EngineJob, status: Status) -> None:
        from modelpool_worker.hosting.server import serve

        self.inspect(job.source)
        pocketsphinx = LIBRARY.load()
        model = Listener(pocketsphinx, job.source, job.options)
        serve(job, status, Hosted(transcription=model))


def _bad_option(name: str, why: str) -> LoadFailed:
    text = f"{PocketSphinx.name}: options.{name} {why}"
    return LoadFailed(text, code="bad_config", param=f"options.{name}", source="engine")


def parts_of(folder: str) -> dict[str, str]:
    """Of a folder, or one folder deeper: ``hmm``, ``dict`` and ``lm``; empty for what is not
    there."""
    found = {"hmm": "", "dict": "", "lm": ""}
    for where, folders, files in os.walk(folder):
        folders.sort()
        if os.path.relpath(where, folder).count(os.sep):
            folders.clear()
        endings = {"dict": (".dict", ".dic"), "lm": (".lm.bin", ".lm", ".lm.dmp")}
        for name in sorted(files):
            if name == "mdef" and not found["hmm"]:
                found["hmm"] = where
            for part, ends in endings.items():
                if name.endswith(ends) and "phone" not in name and not found[part]:
                    found[part] = os.path.join(where, name)
    return found


class Listener:
    """Listens; a model of the kit."""

    can_translate = False

    def __init__(self, library: Any, source: str, options: Mapping[str, Any]) -> None:
        """
        Raises:
            LoadFailed: the model cannot be loaded, or the grammar is wrong.
        """
        self._library = library
        self._tools = Tools.found()
        is_builtin = source == builtin.BUILTIN
        self._language = options.get("language", LANGUAGE if is_builtin else "")
        parts = parts_of(library.get_model_path(LANGUAGE + "-us") if is_builtin else source)
        is_free = options.keys().isdisjoint({GRAMMAR, KEYPHRASES})
        if is_free and not parts["lm"]:
            text = f"{source} has no language model (*.lm.bin): options.{GRAMMAR} must say what "
            text += "can be said"
            raise LoadFailed(text, code="bad_config", param=f"options.{GRAMMAR}", source="engine")
        try:
            self._decoder = library.Decoder(
                hmm=parts["hmm"],
                dict=parts["dict"],
                lm=parts["lm"] if is_free else None,
                samprate=float(RATE),
                # The best path through the lattice may leave the grammar: it dropped last words.
                bestpath=is_free,
                loglevel="ERROR",
            )
        except (RuntimeError, ValueError) as e:
            text = f"PocketSphinx cannot load {source}: {e}"
            raise LoadFailed(text, code="bad_file", param="source", source="engine") from e
        self._add_words(options.get("words", {}))
        if GRAMMAR in options:
            self._set_grammar(options[GRAMMAR])
        elif KEYPHRASES in options:
            threshold = options.get("keyphrase_threshold", 1e-20)
            self._set_keyphrases(options[KEYPHRASES], threshold)
        # What it learns of a speaker would change what the next one is told.
        self._means = self._decoder.get_cmn(False)

    def transcribe(self, request: TranscriptionRequest) -> Iterator[Segment | Heard]:
        """See ``TranscriptionModel``; one segment for each utterance.

        Raises:
            InvalidRequest: the recording cannot be read.
            Cancelled: nobody waits for it.
        """
        samples = read_recording(request.audio, RATE, self._tools, request.cancel)
        yield Heard(self._language, len(samples) / 2 / RATE)
        self._decoder.set_cmn(self._means)
        for start, part in self._utterances(samples):
            words = list(self._words(part, start, request))
            if words:
                text = " ".join(word.text for word in words)
                told = words if request.wants_words else ()
                yield Segment(f" {text}", words[0].start, words[-1].end, told)

    def _words(self, samples: bytes, start: float, request: TranscriptionRequest) -> Iterator[Word]:
        decoder = self._decoder
        decoder.start_utt()
        try:
            for i in range(0, len(samples), PIECE_BYTES):
                request.cancel.check()
                decoder.process_raw(samples[i : i + PIECE_BYTES])
        finally:
            decoder.end_utt()
        if decoder.hyp() is None:
            return
        for part in sorted(decoder.seg(), key=lambda part: part.start_frame):
            if not NOT_SAID.fullmatch(part.word):
                begin, end = part.start_frame, part.end_frame + 1
                word = VARIANT.sub("", part.word).strip()
                times = (start + frame / FRAMES_PER_SECOND for frame in (begin, end))
                yield Word(word, *(round(seconds, 2) for seconds in times))

    def _utterances(self, samples: bytes) -> Iterator[tuple[float, bytes]]:
        """With the second in which each begins."""
        if len(samples) <= LONGEST_UTTERANCE:
            yield 0.0, samples
            return
        endpointer = self._library.Endpointer(sample_rate=RATE)
        size, began = endpointer.frame_bytes, 0.0
        parts: list[bytes] = []
        for i in range(0, len(samples), size):
            frame = samples[i : i + size]
            is_last = i + size >= len(samples)
            speech = endpointer.end_stream(frame) if is_last else endpointer.process(frame)
            if speech is None:
                continue
            if not parts:
                began = endpointer.speech_start
            parts.append(speech)
            whole = b"".join(parts)
            if not endpointer.in_speech or len(whole) >= LONGEST_UTTERANCE or is_last:
                yield began, whole
                parts, began = [], began + len(whole) / 2 / RATE
        if parts:
            yield began, b"".join(parts)

    def _add_words(self, words: Mapping[str, str]) -> None:
        for number, (word, phones) in enumerate(words.items(), 1):
            try:
                self._decoder.add_word(word, phones, update=number == len(words))
            except RuntimeError as e:
                raise _bad_option("words", f"{word!r}: {phones!r} are no phones: {e}") from None

    def _set_grammar(self, given: str | Sequence[str]) -> None:
        text = given if isinstance(given, str) else jsgf.of_phrases(given)
        self._check_words(GRAMMAR, jsgf.words_of(text))
        try:
            self._decoder.add_jsgf_string(GRAMMAR, text)
        except (RuntimeError, ValueError) as e:
            raise _bad_option(GRAMMAR, f"is no grammar that PocketSphinx reads: {e}") from None
        self._decoder.activate_search(GRAMMAR)

    def _set_keyphrases(self, phrases: Sequence[str], threshold: float) -> None:
        words = [jsgf.phrase_words(phrase) for phrase in phrases]
        self._check_words(KEYPHRASES, [word for several in words for word in several])
        with tempfile.NamedTemporaryFile("w", suffix=".kws") as file:
            file.writelines(f"{' '.join(several)} /{threshold:g}/\n" for several in words)
            file.flush()
            self._decoder.add_kws(KEYPHRASES, file.name)
        self._decoder.activate_search(KEYPHRASES)

    def _check_words(self, option: str, words: Sequence[str]) -> None:
        unknown = [word for word in words if self._decoder.lookup_word(word) is None]
        if unknown:
            names = ", ".join(repr(word[:50]) for word in unknown[:10])
            why = f"has words that are not in the dictionary: {names}; options.words adds them"
            raise _bad_option(option, why)
