"""Piper, Kokoro and faster-whisper with their real packages, and models of random weights: what is
said and heard is what the package itself says and hears."""

from __future__ import annotations

import io
import json
import socket
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from e2e.helpers import until
from e2e.support import PoolProcess
from engines.test_cancellation import Gate, Gated
from modelpool_worker.engines.cpu import physical_cores
from modelpool_worker.hosting.contract import Hosted
from support.served import served
from support.speech_models import (
    KOKORO_VOICES,
    PIPER_RATE,
    kokoro_model,
    piper_voice,
    whisper_folder,
)

piper = pytest.importorskip("piper")
kokoro_onnx = pytest.importorskip("kokoro_onnx")
faster_whisper = pytest.importorskip("faster_whisper")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
TEXT = "Open the door. Close the window."
SECONDS = 3
# Several sentences, of which each is a step.
LONG = "Open the door. " * 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech-models")
    piper_voice(folder / "one.onnx")
    piper_voice(folder / "two.onnx", "anna", "bert")
    (folder / "kokoro").mkdir()
    kokoro_model(folder / "kokoro" / "kokoro.onnx")
    whisper_folder(folder / "whisper")
    return folder


@pytest.fixture(scope="module")
def pool(folder: Path) -> Iterator[PoolProcess]:
    two = {"voice": "bert", "voices": {"alloy": "anna"}}
    entries = [
        ("one", "piper", "one.onnx", {}),
        ("two", "piper", "two.onnx", two),
        ("kokoro", "kokoro", "kokoro/kokoro.onnx", {}),
        ("whisper", "faster-whisper", "whisper", {"beam_size": 1, "device": "cpu"}),
    ]
    models = [
        {"model_id": name, "engine": engine, "source": str(folder / source), "options": options}
        for name, engine, source, options in entries
    ]
    with PoolProcess(folder, models, ports=6) as pool:
        yield pool
        pool.assert_no_bugs()


@pytest.fixture(params=["gateway", "worker"])
def client_of(request: pytest.FixtureRequest, pool: PoolProcess) -> Callable[[str], openai.OpenAI]:
    def client(model: str) -> openai.OpenAI:
        url = pool.url
        if request.param == "worker":
            url = pool.http.get(f"/models/{model}/endpoint?wait=60").json()["endpoint"]
        return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)

    return client


def said(client: openai.OpenAI, model: str, **more: Any) -> Any:
    """As 16-bit numbers."""
    asked = {"voice": "", "input": TEXT, "response_format": "pcm", **more}
    return np.frombuffer(client.audio.speech.create(model=model, **asked).content, "<i2")


def spoken_by_piper(path: Path, **how: Any) -> Any:
    voice = piper.PiperVoice.load(str(path))
    chunks = voice.synthesize(TEXT, piper.SynthesisConfig(**how))
    return np.frombuffer(b"".join(chunk.audio_int16_bytes for chunk in chunks), "<i2")


def test_piper_says_what_its_package_says(
    client_of: Callable[[str], openai.OpenAI], folder: Path, pool: PoolProcess
) -> None:
    with client_of("one") as client:
        usual = spoken_by_piper(folder / "one.onnx")
        assert (said(client, "one") == usual).all()
        quick = spoken_by_piper(folder / "one.onnx", length_scale=0.5)
        assert (said(client, "one", speed=2) == quick).all()
        assert len(quick) == len(usual) // 2
        file = client.audio.speech.create(model="one", voice="", input=TEXT).content
        with wave.open(io.BytesIO(file)) as sound:
            assert (sound.getframerate(), sound.getnchannels()) == (PIPER_RATE, 1)
            assert (np.frombuffer(sound.readframes(1 << 20), "<i2") == usual).all()
    with client_of("two") as client:
        anna, bert = (spoken_by_piper(folder / "two.onnx", speaker_id=n) for n in (0, 1))
        assert (said(client, "two") == bert).all()
        assert (said(client, "two", voice="alloy") == anna).all()
        with pytest.raises(openai.BadRequestError, match="voice"):
            said(client, "two", voice="carl")
    voices = pool.http.get("/v1/audio/voices", params={"model": "two"}).json()["voices"]
    assert voices == ["alloy", "anna", "bert"]


def test_kokoro_says_what_its_package_says(
    client_of: Callable[[str], openai.OpenAI], folder: Path, pool: PoolProcess
) -> None:
    path = folder / "kokoro" / "kokoro.onnx"
    kokoro = kokoro_onnx.Kokoro(str(path), str(path.with_name("voices.bin")))

    def expected(voice: str, language: str, speed: float = 1.0) -> Any:
        samples, _ = kokoro.create(TEXT, voice, speed, language)
        return np.clip(samples, -1, 1) * 32767

    with client_of("kokoro") as client:
        for voice, own, language in (
            ("", "af_heart", "en-us"),
            ("alloy", "af_alloy", "en-us"),
            ("bm_fable", "bm_fable", "en-gb"),
        ):
            heard, wanted = said(client, "kokoro", voice=voice), expected(own, language)
            assert len(heard) == len(wanted)
            assert np.abs(heard - wanted).max() <= 1
        assert len(said(client, "kokoro", speed=2)) < 0.7 * len(said(client, "kokoro"))
        with pytest.raises(openai.BadRequestError, match="speed"):
            said(client, "kokoro", speed=3)
    voices = pool.http.get("/v1/audio/voices", params={"model": "kokoro"}).json()["voices"]
    assert {"alloy", "fable", *KOKORO_VOICES} == {*voices}


def recording(seconds: float = SECONDS) -> bytes:
    noise = np.random.default_rng(5).standard_normal(int(16000 * seconds)) * 3000
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(noise.astype("<i2").tobytes())
    return file.getvalue()


def test_faster_whisper_hears_what_its_package_hears(
    client_of: Callable[[str], openai.OpenAI], folder: Path
) -> None:
    model = faster_whisper.WhisperModel(
        str(folder / "whisper"), device="cpu", cpu_threads=physical_cores(), local_files_only=True
    )
    segments, info = model.transcribe(io.BytesIO(recording()), beam_size=1, temperature=0.0)
    expected = [(segment.start, segment.end, segment.text) for segment in segments]
    with client_of("whisper") as client:
        file = ("noise.wav", recording())
        told = client.audio.transcriptions.create(
            model="whisper", file=file, temperature=0, response_format="verbose_json"
        )
        heard = [(s.start, s.end, s.text) for s in told.segments or ()]
        assert heard == expected
        assert told.language == info.language == "en"
        assert told.duration == pytest.approx(SECONDS)
        with pytest.raises(openai.BadRequestError, match="language"):
            client.audio.transcriptions.create(model="whisper", file=file, language="de")
        with pytest.raises(openai.BadRequestError, match="file"):
            client.audio.transcriptions.create(model="whisper", file=("a.wav", b"noise"))
        with pytest.raises(openai.APIStatusError, match="translat"):
            client.audio.translations.create(model="whisper", file=file)


def test_what_they_take_is_known_before_they_are_loaded_and_given_back(
    pool: PoolProcess, client_of: Callable[[str], openai.OpenAI]
) -> None:
    for name in ("one", "kokoro", "whisper"):
        pool.load(name)
        memory = pool.model(name)["memory"]
        assert memory["estimated_mb"] > 140
        taken = memory["current_mb"]
        assert taken < memory["estimated_mb"]
        assert pool.http.post(f"/models/{name}/unload", json={}).status_code == 200
        assert not pool.fronts(name)


# -- who leaves ------------------------------------------------------------------------------------


def gated_piper(folder: Path, gate: Gate) -> Hosted:
    from modelpool_worker.engines.speech.piper import Speaker

    voice = piper.PiperVoice.load(str(folder / "one.onnx"))
    voice.session = Gated(voice.session, "run", gate)
    return Hosted(speech=Speaker(piper, voice, {}))


def gated_kokoro(folder: Path, gate: Gate) -> Hosted:
    from modelpool_worker.engines.speech.kokoro import Speaker

    path = folder / "kokoro" / "kokoro.onnx"
    kokoro = kokoro_onnx.Kokoro(str(path), str(path.with_name("voices.bin")))
    kokoro.sess = Gated(kokoro.sess, "run", gate)
    return Hosted(speech=Speaker(kokoro, {}))


def gated_whisper(folder: Path, gate: Gate) -> Hosted:
    from modelpool_worker.engines.speech.faster_whisper import Listener

    model = faster_whisper.WhisperModel(str(folder / "whisper"), device="cpu")
    model.model = Gated(model.model, "generate", gate)
    return Hosted(transcription=Listener(faster_whisper, model, {"beam_size": 1}))


def speech() -> tuple[str, str, bytes]:
    # Longer than Kokoro computes at once.
    return "/v1/audio/speech", "application/json", json.dumps({"input": LONG * 5}).encode()


def transcription() -> tuple[str, str, bytes]:
    # Whisper reads thirty seconds at a time.
    parts = httpx.Request(
        "POST",
        "http://engine",
        files={"file": ("a.wav", recording(95))},
        data={"temperature": "0"},
    )
    return "/v1/audio/transcriptions", parts.headers["content-type"], parts.read()


@pytest.mark.parametrize("done", [0, 1], ids=["before the first step", "after it"])
@pytest.mark.parametrize(
    ("load", "ask"),
    [(gated_piper, speech), (gated_kokoro, speech), (gated_whisper, transcription)],
)
def test_who_leaves_costs_one_step(
    load: Callable[[Path, Gate], Hosted],
    ask: Callable[[], tuple[str, str, bytes]],
    done: int,
    folder: Path,
    tmp_path: Path,
) -> None:
    gate, steps = Gate(), Steps()
    path, kind, data = ask()
    with ExitStack() as stack:
        socket_path = str(tmp_path / "s")
        stack.enter_context(served(load(folder, lambda *a, **k: gate(steps, *a, **k)), socket_path))
        transport = httpx.HTTPTransport(uds=socket_path)
        metrics = stack.enter_context(
            httpx.Client(base_url="http://engine", transport=transport, timeout=60)
        )
        gate.close()
        try:
            client = socket.socket(socket.AF_UNIX)
            client.connect(socket_path)
            head = f"POST {path} HTTP/1.1\r\nhost: engine\r\ncontent-type: {kind}\r\n"
            client.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
            for _ in range(done):
                gate.arrived()
                gate.allow()
            gate.arrived()
            client.close()
            until(lambda: metrics.get("/health").status_code, "its attention")
        finally:
            gate.open()
        until(lambda: busy(metrics) == 0, "the end of the work")
    assert done <= steps.count <= done + 2


class Steps:
    """Counts what went through."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self, step: Callable[..., Any], *given: Any, **more: Any) -> Any:
        with self._lock:
            self.count += 1
        return step(*given, **more)


def busy(metrics: httpx.Client) -> int:
    lines = metrics.get("/metrics").text.splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith("modelpool_engine_busy{"))
