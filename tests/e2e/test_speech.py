"""espeak-ng speaks and pocketsphinx reads it back, by OpenAI's own package."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import psutil
import pytest
from support.speech import GRAMMAR, SENTENCES, espeak, seconds

from e2e.conftest import MakePool
from e2e.helpers import alive, until
from e2e.support import PoolProcess

MOUTH = {"model_id": "mouth", "engine": "espeak-ng", "source": "builtin"}
EARS = {
    "model_id": "ears",
    "engine": "pocketsphinx",
    "source": "builtin",
    "options": {"grammar": GRAMMAR},
}
SECOND = 1 / 60

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    espeak()
    free = {"model_id": "free", "engine": "pocketsphinx", "source": "builtin"}
    with PoolProcess(tmp_path_factory.mktemp("speech"), [MOUTH, EARS, free]) as pool:
        yield pool
        pool.assert_no_bugs()


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def endpoint(pool: PoolProcess, model: str) -> str:
    return str(pool.http.get(f"/models/{model}/endpoint?wait=60").json()["endpoint"])


def say(client: openai.OpenAI, text: str, **more: Any) -> bytes:
    return bytes(
        client.audio.speech.create(**{"model": "mouth", "voice": "", "input": text, **more}).content
    )


@pytest.mark.parametrize("way", ["gateway", "worker"])
def test_every_sentence_of_a_grammar_is_read_back(pool: PoolProcess, way: str) -> None:
    urls = [pool.url if way == "gateway" else endpoint(pool, model) for model in ("mouth", "ears")]
    with client_of(urls[0]) as mouth, client_of(urls[1]) as ears:
        heard = []
        for sentence in SENTENCES:
            file = ("said.wav", say(mouth, sentence), "audio/wav")
            heard.append(ears.audio.transcriptions.create(model="ears", file=file).text)
    assert heard == list(SENTENCES)


def test_voices_speeds_and_formats(pool: PoolProcess) -> None:
    with client_of(pool.url) as client:
        text = SENTENCES[0]
        usual = say(client, text)
        assert seconds(say(client, text, speed=2)) < 0.7 * seconds(usual)
        assert seconds(say(client, text, speed=0.5)) > 1.4 * seconds(usual)
        said = {voice: say(client, text, voice=voice) for voice in ("de", "alloy", "en-us+m3")}
        assert len({usual, *said.values()}) == 4
        for form, start in (("mp3", b"\xff"), ("flac", b"fLaC"), ("opus", b"OggS")):
            sound = say(client, text, response_format=form)
            assert sound.startswith((start, b"ID3"))
            file = (f"said.{form}", sound)
            assert client.audio.transcriptions.create(model="ears", file=file).text == text
        assert usual.endswith(say(client, text, response_format="pcm"))
        for wrong in ({"voice": "klingon"}, {"speed": 0.25}):
            with pytest.raises(openai.BadRequestError, match=next(iter(wrong))):
                say(client, text, **wrong)
        raw = client.audio.speech.with_raw_response.create(
            model="mouth", voice="", input="hi", instructions="softly"
        )
        assert raw.headers["x-modelpool-ignored"] == "instructions"
    told = pool.http.get("/v1/audio/voices", params={"model": "mouth"}).json()["voices"]
    assert {"alloy", "en-us", "de", "fr-fr"} <= {*told}


def test_transcripts_have_times(pool: PoolProcess) -> None:
    with client_of(pool.url) as client:
        sound = say(client, SENTENCES[1])
        told = client.audio.transcriptions.create(
            model="ears",
            file=("said.wav", sound),
            response_format="verbose_json",
            timestamp_granularities=["word"],
        )
        words = told.words or []
        assert [word.word for word in words] == SENTENCES[1].split()
        assert all(a.end <= b.start + 0.02 for a, b in itertools.pairwise(words))
        assert 0 <= words[0].start < words[-1].end <= told.duration + 0.02
        assert told.language == "en"
        srt: Any = client.audio.transcriptions.create(
            model="ears", file=("said.wav", sound), response_format="srt"
        )
        assert SENTENCES[1] in srt
        with pytest.raises(openai.BadRequestError, match="file"):
            client.audio.transcriptions.create(model="ears", file=("a.wav", b"noise"))


def test_models_say_what_they_can_before_they_are_loaded(make_pool: MakePool) -> None:
    pool = make_pool(MOUTH, EARS)
    assert pool.model("mouth")["capabilities"] == ["text_to_speech"]
    assert pool.model("ears")["capabilities"] == ["speech_to_text"]
    answer = pool.http.post("/v1/audio/speech", json={"model": "ears", "input": "hi"})
    assert answer.status_code == 400, answer.text
    assert {pool.state_of("ears"), pool.state_of("mouth")} == {"COLD"}


def test_speech_models_idle_out_and_leave_nothing(make_pool: MakePool) -> None:
    pool = make_pool(MOUTH, EARS, default_ttl_minutes=SECOND, grace_minutes=SECOND)
    with client_of(pool.url) as client:
        file = ("said.wav", say(client, SENTENCES[0]))
        assert client.audio.transcriptions.create(model="ears", file=file).text == SENTENCES[0]
    pids = [pool.model(name)["worker_pid"] for name in ("mouth", "ears")]
    for name in ("mouth", "ears"):
        pool.wait_for(name, "COLD")
    until(lambda: not any(pid and alive(pid) for pid in pids), "the end of the workers")


def speakers(pid: int) -> list[psutil.Process]:
    """Programs that speak for a worker now."""
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if child.name() == "espeak-ng"]


@pytest.mark.parametrize("way", ["gateway", "worker"])
def test_a_client_that_leaves_ends_the_program(pool: PoolProcess, way: str) -> None:
    url = pool.url if way == "gateway" else endpoint(pool, "mouth")
    pid = pool.load("mouth")["worker_pid"]
    long = {"model": "mouth", "input": "one two three four five six seven. " * 1800}
    data = json.dumps(long).encode()
    at = httpx.URL(url)
    head = f"POST /v1/audio/speech HTTP/1.1\r\nhost: {at.host}\r\n"
    with socket.create_connection((at.host, at.port), timeout=60) as client:
        client.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        (program,) = until(lambda: speakers(pid), "a program that speaks")
        program.suspend()  # from now on it does not end by itself
    until(lambda: not speakers(pid), "its end")
    with client_of(url) as client:
        assert seconds(say(client, SENTENCES[0])) > 0.5


@pytest.mark.slow
def test_free_speech_is_heard_roughly_and_a_client_that_leaves_ends_it(pool: PoolProcess) -> None:
    with client_of(pool.url) as client:
        file = ("said.wav", say(client, "go forward and start the engine"))
        text = client.audio.transcriptions.create(model="free", file=file).text
        assert {"go", "forward", "start", "the", "engine"} & {*text.split()}
        long = ("long.wav", say(client, "please go forward and stop the engine. " * 10))
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=1).audio.transcriptions.create(model="free", file=long)
        child = psutil.Process(pool.model("free")["worker_pid"]).children(recursive=True)[-1]

        def is_still() -> bool:
            return child.cpu_percent(0.3) < 20

        until(is_still, "its end")
