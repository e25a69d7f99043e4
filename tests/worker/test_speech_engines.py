"""Engines of speech without their programs and packages: what they decide, and stand-ins that take
only what the real ones do."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import types
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import EngineFailed, InvalidRequest, LoadFailed
from modelpool_worker import engines
from modelpool_worker.engine import EngineJob, Status
from modelpool_worker.engines.speech import (
    espeak,
    faster_whisper,
    jsgf,
    kokoro,
    piper,
    pocketsphinx,
)
from modelpool_worker.engines.speech.voices import chosen
from modelpool_worker.hosting.audio import wav
from modelpool_worker.hosting.cancel import Cancel, Cancelled
from modelpool_worker.hosting.contract import (
    Heard,
    Segment,
    SpeechRequest,
    TranscriptionRequest,
)
from modelpool_worker.hosting.programs import output_of
from modelpool_worker.hosting.sound_files import Tools, encoded, read_recording
from support.speech import GRAMMAR, SENTENCES
from support.speech import espeak as real_espeak

ALL = ("espeak-ng", "faster-whisper", "kokoro", "piper", "pocketsphinx")

# -- voices, grammars ------------------------------------------------------------------------------

LISTING = """Pty Language       Age/Gender VoiceName          File                 Other Languages
 5  de              --/M      German             gmw/de
 2  en-us           --/M      English_(America)  gmw/en-US            (en 3)
"""
VARIANTS = """Pty Language       Age/Gender VoiceName          File                 Other Languages
 5  variant         --/F      female3            !v/f3
"""


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", "en-us"),
        ("de", "de"),
        ("de+f3", "de+f3"),
        ("otto+f3", "de+f3"),
        ("+f3", "en-us+f3"),
        ("English_(America)", "English_(America)"),
        ("anna", "de+f3"),
        ("fr", None),
        ("de+f9", None),
        ("fr+f3", None),
        ("-w/tmp/x", None),
    ],
)
def test_voices_of_espeak(asked: str, found: str | None) -> None:
    voices = espeak.Voices(LISTING, VARIANTS)
    assert voices.languages == ("de", "en-us")
    if found is not None:
        assert voices.chosen(asked, "en-us", {"anna": "de+f3", "otto": "de"}) == found
    else:
        with pytest.raises(InvalidRequest) as error:
            voices.chosen(asked, "en-us", {})
        assert error.value.param == "voice"


def test_a_voice_that_is_nearly_known_is_named() -> None:
    with pytest.raises(InvalidRequest, match="near it are af_nova"):
        chosen("af_nove", "af_nova", ["af_nova", "am_echo"])


def test_espeak_reads_text_as_text() -> None:
    assert espeak.readable("a\x01b\x00 [[h@l]]\n") == "a b  [ [h@l]]\n"
    assert "[[" not in espeak.readable("[[[h@l]]] [[[[a")
    assert espeak.version_of("eSpeak NG text-to-speech: 1.51  Data at: /x") == "espeak-ng 1.51"


words = st.from_regex(r"[a-z]{1,8}('[a-z]{1,3})?", fullmatch=True).filter(
    lambda word: word not in ("public", "grammar", "import")
)


@given(st.lists(st.lists(words, min_size=1, max_size=4), min_size=1, max_size=6))
def test_words_of_a_grammar_are_those_of_its_phrases(phrases: list[list[str]]) -> None:
    text = jsgf.of_phrases([f"  {' '.join(phrase).capitalize()}, please!" for phrase in phrases])
    assert jsgf.is_grammar(text)
    expected = list(dict.fromkeys(itertools.chain(*([*p, "please"] for p in phrases))))
    assert jsgf.words_of(text) == expected


def test_words_of_a_grammar() -> None:
    said = {word for sentence in SENTENCES for word in sentence.split()}
    assert set(jsgf.words_of(GRAMMAR)) == said
    text = "#JSGF V1.0 UTF-8 en;\ngrammar a.b; // no\nimport <x.*>;\n/* not */ public <s> = "
    text += '/0.5/ go {tag} | "do it" [<y>] (now)* ;'
    assert jsgf.words_of(text) == ["go", "do", "it", "now"]


# -- options, sources ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "param"),
    [
        ("espeak-ng", {"pitch": 100}, "options.pitch"),
        ("espeak-ng", {"voices": {"a": 1}}, "options.voices.a"),
        ("pocketsphinx", {"grammar": "open the door"}, "options.grammar"),
        ("pocketsphinx", {"grammar": []}, "options.grammar"),
        ("pocketsphinx", {"grammar": "#JSGF V1.0; import/**/ <a.b>;"}, "options.grammar"),
        ("pocketsphinx", {"grammar": ["?!"]}, "options.grammar"),
        ("pocketsphinx", {"grammar": ["a"], "keyphrases": ["b"]}, "options.keyphrases"),
        ("kokoro", {"voices_file": "voices.bin"}, "options.voices_file"),
        ("piper", {"speed": 2}, "options.speed"),
        ("faster-whisper", {"compute_type": "int3"}, "options.compute_type"),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], param: str) -> None:
    with pytest.raises(LoadFailed) as error:
        engines.get(name).check(options)
    assert (error.value.code, error.value.param) == ("bad_config", param)


@pytest.mark.parametrize("name", ALL)
def test_a_source_that_is_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed) as error:
        engines.get(name).inspect(str(tmp_path / "nothing"))
    assert (error.value.code, error.value.param) == ("bad_file", "source")


@pytest.mark.parametrize("name", ["kokoro", "piper", "faster-whisper", "pocketsphinx"])
def test_an_engine_without_its_package_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    found = engines.get(name).probe()
    assert not found.usable
    assert "not installed" in found.reason
    assert found.install_hint.startswith("pip install 'modelpool[")


def test_espeak_without_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    real_espeak()
    assert espeak.Espeak().probe().usable
    monkeypatch.setenv("PATH", "")
    found = espeak.Espeak().probe()
    assert (found.usable, "apt-get" in found.install_hint) == (False, True)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"grammar": ["open the zorkmid"]}, "'zorkmid'"),
        ({"grammar": "#JSGF V1.0;\ngrammar g;\npublic <s> = open (the;"}, "no grammar"),
        ({"keyphrases": ["hey zorkmid"]}, "'zorkmid'"),
        ({"words": {"zorkmid": "ZZ QQ"}}, "no phones"),
    ],
)
def test_what_pocketsphinx_cannot_know(options: dict[str, Any], why: str) -> None:
    import pocketsphinx as library

    grammar = {} if {"grammar", "keyphrases"} & {*options} else {"grammar": ["a"]}
    with pytest.raises(LoadFailed, match=why) as error:
        pocketsphinx.Listener(library, "builtin", {**grammar, **options})
    assert error.value.code == "bad_config"


def transcript(model: Any, audio: bytes, **more: Any) -> list[Segment | Heard]:
    return list(model.transcribe(TranscriptionRequest(audio, "a.wav", Cancel(), **more)))


def said(text: str, **options: Any) -> bytes:
    """A WAV file of espeak-ng."""
    real_espeak()
    speaker = espeak.Speaker(espeak.Voices.found(), options)
    return wav(b"".join(speaker.speak(SpeechRequest(text, Cancel()))), speaker.sample_rate)


def test_keyphrases_new_words_and_long_recordings_of_pocketsphinx() -> None:
    import pocketsphinx as library

    listener = pocketsphinx.Listener(
        library, "builtin", {"keyphrases": ["open the door"], "keyphrase_threshold": 1e-40}
    )
    _, found = transcript(listener, said("would you please open the door for me"))
    assert isinstance(found, Segment)
    assert found.text == " open the door"
    words = {"words": {"zorkmid": "Z AO R K M IH D"}, "grammar": ["open", "zorkmid"]}
    _, found = transcript(pocketsphinx.Listener(library, "builtin", words), said("open zorkmid"))
    assert isinstance(found, Segment)
    assert found.text == " open zorkmid"
    listener = pocketsphinx.Listener(library, "builtin", {"grammar": GRAMMAR})
    silence = bytes(2 * 22050)
    sentences = SENTENCES[:12]
    long = wav(b"".join(said(s)[44:] + silence for s in sentences), 22050)
    heard, *parts = transcript(listener, long)
    assert isinstance(heard, Heard)
    assert heard.duration > 20
    assert [p.text.strip() for p in parts if isinstance(p, Segment)] == [*sentences]
    starts = [p.start for p in parts if isinstance(p, Segment)]
    assert starts == sorted(starts)
    cancelled = Cancel()
    cancelled.set()
    with pytest.raises(Cancelled):
        list(listener.transcribe(TranscriptionRequest(long, "a.wav", cancelled)))


def test_espeak_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of PulseAudio's library, which it loads where that is installed."""
    real_espeak()
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert espeak.Espeak().probe().usable
    speaker = espeak.Speaker(espeak.Voices.found(), {})
    assert b"".join(speaker.speak(SpeechRequest("hi", Cancel())))
    assert list(tmp_path.iterdir()) == []


# -- programs, formats -----------------------------------------------------------------------------


def test_a_program_is_heard_as_it_writes_and_its_end_is_told() -> None:
    assert b"".join(output_of(("cat",), b"abc" * 100_000, Cancel())) == b"abc" * 100_000
    with pytest.raises(EngineFailed, match="no such thing"):
        list(output_of(("sh", "-c", "echo no such thing >&2; exit 3"), b"", Cancel()))
    with pytest.raises(EngineFailed, match="cannot be run"):
        list(output_of(("/nowhere/at/all",), b"", Cancel()))


def test_a_program_that_says_nothing_is_killed_when_nobody_waits() -> None:
    cancel = Cancel()
    pieces = output_of(("sh", "-c", "echo begun; exec sleep 600"), b"", cancel)
    assert next(pieces) == b"begun\n"
    cancel.set()
    with pytest.raises(Cancelled):
        next(pieces)


@pytest.mark.parametrize(
    ("tools", "formats"),
    [
        (Tools(), {"wav", "pcm"}),
        (Tools(None, True), {"wav", "pcm", "mp3", "opus", "flac"}),
        (Tools("/bin/ffmpeg", False), {"wav", "pcm", "mp3", "opus", "flac", "aac"}),
    ],
)
def test_formats_are_those_of_the_tools(tools: Tools, formats: set[str]) -> None:
    assert {*tools.formats} == formats
    for form in ("wav", "pcm", "mp3", "opus", "flac", "aac"):
        if form in formats:
            tools.check(form)
        else:
            with pytest.raises(InvalidRequest, match="must be wav") as error:
                tools.check(form)
            assert "ffmpeg" in error.value.message


FFMPEG = """#!{python}
import sys
given, arguments = sys.stdin.buffer.read(), sys.argv[1:]
assert arguments[:3] == ["-v", "error", "-nostdin"], arguments
if given.startswith(b"bad"):
    sys.exit("Invalid data found")
print(" ".join(arguments[3:]), len(given), end="")
"""


def test_ffmpeg_is_told_formats_by_arguments(tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(FFMPEG.format(python=sys.executable))
    program.chmod(0o755)
    tools = Tools(str(program), True)
    told = encoded(b"\0\0" * 10, 22050, "aac", tools, Cancel())
    assert told == b"-f s16le -ar 22050 -ac 1 -i pipe:0 -f adts pipe:1 20"
    only = Tools(str(program), False)
    heard = read_recording(b"something", 16000, only, Cancel())
    given = b"-protocol_whitelist pipe -i pipe:0"
    assert heard == given + b" -f s16le -ar 16000 -ac 1 pipe:1 9"
    with pytest.raises(InvalidRequest, match="can be read here"):
        read_recording(b"bad", 16000, tools, Cancel())
    with pytest.raises(InvalidRequest, match="would need ffmpeg"):
        read_recording(b"something", 16000, Tools(), Cancel())


@pytest.mark.parametrize("form", ["flac", "opus", "mp3"])
def test_what_soundfile_writes_it_reads(form: str) -> None:
    tools = Tools(None, True)
    tone = (numpy.sin(numpy.arange(22050) * 0.2) * 20000).astype("<i2").tobytes()
    sound = encoded(tone, 22050, form, tools, Cancel())
    back = numpy.frombuffer(read_recording(sound, 22050, tools, Cancel()), "<i2").astype(float)
    assert abs(len(back) - 22050) < 4000
    assert 12000 < numpy.sqrt((back[5000:15000] ** 2).mean()) < 16000


# -- strict stand-ins ------------------------------------------------------------------------------


@dataclasses.dataclass
class SynthesisConfig:
    """As in piper-tts 1.8."""

    speaker_id: int | None = None
    length_scale: float | None = None
    noise_scale: float | None = None
    noise_w_scale: float | None = None
    normalize_audio: bool = True
    volume: float = 1.0


@dataclasses.dataclass
class PiperVoice:
    config: Any
    asked: list[Any]

    def synthesize(
        self, text: str, syn_config: SynthesisConfig | None = None, include_alignments: bool = False
    ) -> Iterator[Any]:
        self.asked.append((text, syn_config))
        for sentence in text.split("."):
            yield types.SimpleNamespace(audio_int16_bytes=sentence.encode())


def piper_voice(**speakers: int) -> PiperVoice:
    how = {"sample_rate": 22050, "speaker_id_map": speakers, "length_scale": 1.2}
    return PiperVoice(types.SimpleNamespace(**how), [])


PIPER = types.SimpleNamespace(SynthesisConfig=SynthesisConfig)


def test_piper() -> None:
    voice = piper_voice(anna=0, bert=3)
    speaker = piper.Speaker(PIPER, voice, {"voice": "bert", "voices": {"alloy": "anna"}})
    assert speaker.voices == ("alloy", "anna", "bert")
    pieces = list(speaker.speak(SpeechRequest("one.two", Cancel(), speed=2)))
    assert pieces == [b"one", b"two"]
    assert voice.asked == [("one.two", SynthesisConfig(3, 0.6))]
    list(speaker.speak(SpeechRequest("a", Cancel(), voice="alloy")))
    assert voice.asked[1][1].speaker_id == 0
    with pytest.raises(InvalidRequest, match="voice"):
        list(speaker.speak(SpeechRequest("a", Cancel(), voice="carl")))
    with pytest.raises(InvalidRequest, match="voice"):
        piper.Speaker(PIPER, voice, {"voice": "carl"})
    single = piper.Speaker(PIPER, piper_voice(), {})
    assert not single.voices
    assert list(single.speak(SpeechRequest("a", Cancel(), voice="alloy"))) == [b"a"]


class KokoroModel:
    """As in kokoro-onnx 0.6."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def get_voices(self) -> list[str]:
        return ["af_alloy", "af_heart", "ff_siwis"]

    async def create_stream(
        self,
        text: str,
        voice: str,
        speed: float = 1.0,
        lang: str = "en-us",
        is_phonemes: bool = False,
        trim: bool = True,
    ) -> AsyncIterator[tuple[Any, int]]:
        self.asked.append((text, voice, speed, lang))
        for level in (0.5, 2.0):
            yield numpy.array([level, -level], numpy.float32), 24000


def test_kokoro(tmp_path: Path) -> None:
    model = KokoroModel()
    speaker = kokoro.Speaker(model, {})
    assert speaker.voices[0] == "alloy"
    pieces = list(speaker.speak(SpeechRequest("salut", Cancel(), voice="ff_siwis", speed=1.5)))
    assert [*numpy.frombuffer(b"".join(pieces), "<i2")] == [16383, -16383, 32767, -32767]
    assert model.asked == [("salut", "ff_siwis", 1.5, "fr-fr")]
    with pytest.raises(InvalidRequest, match="speed"):
        list(speaker.speak(SpeechRequest("a", Cancel(), speed=3)))
    with pytest.raises(InvalidRequest, match="voice"):
        list(speaker.speak(SpeechRequest("a", Cancel(), voice="shimmer")))
    source = str(tmp_path / "kokoro.onnx")
    with pytest.raises(LoadFailed, match="voices_file"):
        kokoro.voices_beside(source)
    (tmp_path / "voices-v1.0.bin").touch()
    assert kokoro.voices_beside(source).endswith("/voices-v1.0.bin")


class WhisperModel:
    """As in faster-whisper 1.2."""

    supported_languages = ("en", "de")

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def transcribe(
        self,
        audio: Any,
        language: str | None = None,
        task: str = "transcribe",
        *,
        beam_size: int = 5,
        temperature: float | list[float] = 0.0,
        initial_prompt: str | None = None,
        word_timestamps: bool = False,
        vad_filter: bool = False,
    ) -> tuple[Iterator[Any], Any]:
        self.asked.append((audio, language, task, beam_size, temperature, initial_prompt))
        word = types.SimpleNamespace(word=" hi", start=0.0, end=0.5, probability=0.9)
        segment = types.SimpleNamespace(
            text=" hi", start=0.0, end=1.0, words=[word] if word_timestamps else None
        )
        info = types.SimpleNamespace(language=language or "en", duration=1.0)
        return iter([segment]), info


def decode_audio(input_file: Any, sampling_rate: int = 16000, split_stereo: bool = False) -> bytes:
    data = bytes(input_file.read())
    if data == b"noise":
        raise ValueError("Invalid data found when processing input")
    return data


def test_faster_whisper() -> None:
    model, library = WhisperModel(), types.SimpleNamespace(decode_audio=decode_audio)
    listener = faster_whisper.Listener(library, model, {"beam_size": 2})
    assert listener.can_translate
    more = {"language": "de", "prompt": "names", "temperature": 0.5, "is_translation": True}
    heard, segment = transcript(listener, b"sound", wants_words=True, **more)
    assert model.asked == [(b"sound", "de", "translate", 2, 0.5, "names")]
    assert heard == Heard("de", 1.0)
    assert isinstance(segment, Segment)
    assert [word.text for word in segment.words] == ["hi"]
    with pytest.raises(InvalidRequest) as error:
        transcript(listener, b"noise")
    assert error.value.param == "file"
    with pytest.raises(InvalidRequest, match="language"):
        transcript(listener, b"sound", language="xx")


@pytest.mark.parametrize(
    ("name", "module", "files"),
    [
        ("piper", "piper", ("v.onnx", "v.onnx.json")),
        ("kokoro", "kokoro_onnx", ("v.onnx", "voices.bin")),
        ("faster-whisper", "faster_whisper", ("model.bin", "config.json", "tokenizer.json")),
    ],
)
def test_what_its_package_cannot_read_is_told_of_the_file(
    name: str, module: str, files: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in files:
        (tmp_path / file).write_bytes(b"x" * 100)
    source = str(tmp_path if name == "faster-whisper" else tmp_path / files[0])

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("protobuf parsing failed")

    stub: Any = types.ModuleType(module)
    stub.PiperVoice = types.SimpleNamespace(load=fail)
    stub.Kokoro = stub.WhisperModel = fail
    monkeypatch.setitem(sys.modules, module, stub)
    engine = engines.get_child(name)
    assert (engine.memory_bytes(source, {}) or 0) > 100
    told: list[Any] = []
    with pytest.raises(LoadFailed, match="protobuf"):
        engine.serve(EngineJob(name, "m", source, str(tmp_path / "s")), Status(told.append))
    assert not told
