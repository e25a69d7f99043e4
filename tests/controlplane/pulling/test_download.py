"""The downloader against a server that does what servers do: breaks off, lies, forgets."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelpool.pulling import partial as partials
from modelpool.pulling.base import OriginSettings, RemoteFile
from modelpool.pulling.download import Downloader, Fetched
from modelpool.pulling.http import new_client
from modelpool.pulling.origins.url import Url
from modelpool.pulling.reference import parse_reference
from modelpool.pulling.retry import RetryPolicy
from modelpool.pulling.throttle import Throttle
from modelpool_client.errors import BadGateway, Forbidden, NotFound, Unavailable
from support.hub import Fault, Hub, content_md5, running_hub, sha256

DATA = random.Random(7).randbytes(900_000)
OTHER = random.Random(8).randbytes(900_000)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.files["m.gguf"] = DATA
        hub.file_headers["m.gguf"] = {"ETag": '"one"'}
        yield hub


class Fetching:
    """A downloader that does not sleep, and what it said."""

    def __init__(self, hub: Hub, folder: Path, **policy: float) -> None:
        self.hub = hub
        self.target = folder / "m.gguf"
        self.slept: list[float] = []
        self.lines: list[str] = []
        self.seen: list[int] = []
        self.policy = RetryPolicy(**policy)  # type: ignore[arg-type]

    @property
    def part(self) -> Path:
        return partials.Names.of(self.target).partial

    def remote(self) -> RemoteFile:
        reference = parse_reference(f"{self.hub.url}/files/m.gguf")
        (file,) = Url(OriginSettings(private_addresses=True)).list(reference).files
        return file

    def __call__(self, file: RemoteFile | None = None) -> Fetched:
        with new_client() as client:
            downloader = Downloader(
                client,
                "it",
                Throttle(),
                self.seen.append,
                self.lines.append,
                self.policy,
                self.slept.append,
            )
            return downloader.fetch(file or self.remote(), self.target)

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)


@pytest.fixture
def fetch(hub: Hub, tmp_path: Path) -> Fetching:
    return Fetching(hub, tmp_path)


def with_digest(fetch: Fetching) -> RemoteFile:
    url = f"{fetch.hub.url}/files/m.gguf"
    return RemoteFile("m.gguf", url, len(DATA), f"sha256:{sha256(DATA)}")


def test_a_file_comes_whole(fetch: Fetching) -> None:
    found = fetch()
    assert fetch.target.read_bytes() == DATA
    assert (found.size, found.sha256) == (len(DATA), f"sha256:{sha256(DATA)}")
    assert fetch.seen[-1] == len(DATA)
    assert os.listdir(fetch.target.parent) == ["m.gguf"]


@pytest.mark.parametrize("seed", range(5))
def test_broken_off_ten_times_each_byte_comes_once(fetch: Fetching, seed: int) -> None:
    draw = random.Random(seed)
    fetch.hub.faults = [Fault(cut_after=draw.randrange(1, 80_000)) for _ in range(10)]
    fetch(with_digest(fetch))
    assert fetch.target.read_bytes() == DATA
    assert fetch.hub.sent == len(DATA)
    assert len(fetch.slept) == 10


def test_it_is_given_up_when_nothing_comes_any_more(fetch: Fetching) -> None:
    fetch.hub.faults = [Fault(cut_after=1000)] + [Fault(cut_after=0)] * 20
    with pytest.raises(Unavailable, match=r"does not answer|answers"):
        fetch()
    assert fetch.slept == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert fetch.part.stat().st_size == 1000
    assert not fetch.target.exists()
    fetch.hub.faults = []
    before = fetch.hub.sent
    fetch()
    assert fetch.target.read_bytes() == DATA
    assert fetch.hub.sent - before == len(DATA) - 1000


def test_what_another_process_left_is_gone_on_with(fetch: Fetching) -> None:
    fetch.policy = RetryPolicy(attempts=1)
    fetch.hub.faults = [Fault(cut_after=300_000)]
    with pytest.raises(Unavailable):
        fetch(with_digest(fetch))
    fetch(with_digest(fetch))
    assert fetch.hub.sent == len(DATA)


def test_what_was_damaged_meanwhile_is_fetched_anew(fetch: Fetching) -> None:
    fetch.policy = RetryPolicy(attempts=1)
    fetch.hub.faults = [Fault(cut_after=300_000)]
    with pytest.raises(Unavailable):
        fetch(with_digest(fetch))
    with fetch.part.open("r+b") as file:
        file.write(b"\0" * 4096)
    fetch(with_digest(fetch))
    assert fetch.target.read_bytes() == DATA
    assert fetch.said("fetched anew")


def test_a_wrong_digest_leaves_nothing(fetch: Fetching) -> None:
    fetch.hub.files["m.gguf"] = OTHER
    with pytest.raises(BadGateway, match="not what was announced") as failure:
        fetch(with_digest(fetch))
    assert failure.value.code == "digest_mismatch"
    assert not fetch.target.exists()
    assert fetch.part.stat().st_size == 0


def test_content_md5_is_held_against_the_bytes(fetch: Fetching) -> None:
    fetch.hub.file_headers["m.gguf"]["Content-MD5"] = content_md5(OTHER)
    with pytest.raises(BadGateway, match="md5:"):
        fetch()
    fetch.hub.file_headers["m.gguf"]["Content-MD5"] = content_md5(DATA)
    assert fetch().size == len(DATA)


def test_retry_after_is_obeyed(fetch: Fetching) -> None:
    fetch.hub.faults = [Fault(429, {"Retry-After": "7"}), Fault(503), Fault(500)]
    fetch()
    assert fetch.slept == [7.0, 1.0, 2.0]
    assert fetch.said("asks to wait 7 s")


def test_a_server_that_wants_too_long_a_wait_is_not_waited_for(fetch: Fetching) -> None:
    fetch.hub.faults = [Fault(429, {"Retry-After": "4000"})]
    with pytest.raises(Unavailable, match="asks to wait 4000 s") as failure:
        fetch()
    assert (failure.value.retry_after, fetch.slept) == (4000, [])


@pytest.mark.parametrize(
    ("status", "error"), [(403, Forbidden), (404, NotFound), (400, BadGateway)]
)
def test_what_no_repetition_changes_is_told_at_once(
    fetch: Fetching, status: int, error: type[Exception]
) -> None:
    fetch.hub.faults = [Fault(status)]
    with pytest.raises(error, match=f"answers {status}"):
        fetch()
    assert fetch.slept == []


def test_a_file_that_changes_while_it_comes_is_begun_anew(fetch: Fetching) -> None:
    def change() -> None:
        if fetch.hub.sent >= 400_000:
            fetch.hub.files["m.gguf"] = OTHER
            fetch.hub.file_headers["m.gguf"] = {"ETag": '"two"'}

    fetch.hub.slow = change
    fetch.hub.faults = [Fault(cut_after=450_000)]
    fetch()
    assert fetch.target.read_bytes() == OTHER
    assert fetch.said("was published anew")


def test_a_file_that_changed_between_two_attempts_is_begun_anew(fetch: Fetching) -> None:
    fetch.policy = RetryPolicy(attempts=1)
    fetch.hub.faults = [Fault(cut_after=300_000)]
    with pytest.raises(Unavailable):
        fetch()
    fetch.hub.files["m.gguf"] = OTHER
    fetch.hub.file_headers["m.gguf"] = {"ETag": '"two"'}
    fetch()
    assert fetch.target.read_bytes() == OTHER
    assert fetch.said("another version is published")


def test_a_server_that_ignores_ranges_begins_anew(fetch: Fetching) -> None:
    fetch.hub.faults = [Fault(cut_after=300_000), Fault(ignores_range=True)]
    fetch()
    assert fetch.target.read_bytes() == DATA
    assert fetch.said("does not come in parts")


def test_without_any_mark_nothing_is_gone_on_with(fetch: Fetching) -> None:
    fetch.hub.file_headers["m.gguf"] = {}
    fetch.hub.faults = [Fault(cut_after=300_000)]
    fetch()
    assert fetch.target.read_bytes() == DATA
    assert [seen.headers.get("range") for seen in fetch.hub.asked("m.gguf")] == [None] * 3


def test_marks_of_a_server_without_head_are_kept(fetch: Fetching) -> None:
    fetch.hub.has_head = False
    fetch.policy = RetryPolicy(attempts=1)
    fetch.hub.faults = [Fault(cut_after=300_000)]
    with pytest.raises(Unavailable):
        fetch()
    fetch()
    assert fetch.target.read_bytes() == DATA
    assert fetch.hub.sent == len(DATA)


def test_more_bytes_than_were_announced(fetch: Fetching) -> None:
    fetch.hub.files["m.gguf"] = DATA + b"x"
    with pytest.raises(BadGateway, match="more than the 900000 bytes"):
        fetch(with_digest(fetch))
    assert not fetch.target.exists()


@pytest.mark.parametrize("length", [100, len(DATA) + 100])
def test_a_length_that_lies_is_not_believed(fetch: Fetching, length: int) -> None:
    fetch.hub.faults = [Fault(length=length)]
    fetch(with_digest(fetch))
    assert fetch.target.read_bytes() == DATA


def test_what_is_there_is_not_fetched_again(fetch: Fetching) -> None:
    fetch(with_digest(fetch))
    sent = fetch.hub.sent
    assert fetch(with_digest(fetch)).sha256 == f"sha256:{sha256(DATA)}"
    assert fetch.hub.sent == sent


def test_a_limit_on_speed_holds_and_changes() -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    throttle = Throttle(1000.0, lambda: clock[0], sleep)
    for _ in range(10):
        throttle.take(500)
    assert 4.5 < clock[0] < 5.1
    throttle.limit = 0
    throttle.take(10**9)
    assert clock[0] < 5.1
