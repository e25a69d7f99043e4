"""What a hub, a registry, a web server or a client with bad intentions can do: nothing."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelpool.pulling import addresses
from modelpool.pulling.base import OriginSettings, RemoteFile, path_problem
from modelpool.pulling.http import Http, refuse, shown
from modelpool.pulling.origins.local import Local
from modelpool.pulling.origins.ollama import Ollama
from modelpool.pulling.origins.url import Url
from modelpool.pulling.place import Place, check_paths, folder_name
from modelpool.pulling.pulls import _prune
from modelpool.pulling.records import PulledFile, PullRecord, read_records
from modelpool.pulling.reference import parse_reference
from modelpool.pulling.retry import retry_after
from modelpool_client.errors import BadGateway, Conflict, Forbidden, InvalidRequest
from support.hub import Fault, Hub, running_hub, sha256

DATA = b"GGUF" + bytes(2000)
DIGEST = f"sha256:{sha256(DATA)}"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


# -- names -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path",
    [
        "../m.gguf",
        "/etc/m.gguf",
        "a/../../m",
        "a//m",
        "a/./m",
        ".pulled/x.json",
        ".m.gguf.part",
        "a\\..\\m",
        "C:\\m",
        "C:m",
        "a/ /m",
        "a/.. /m",
        "m\x00",
        "m\n",
        "m" * 300,
        "a/" * 2000 + "m",
        "",
    ],
)
def test_paths_that_leave_their_folder_are_refused(path: str) -> None:
    assert path_problem(path)
    with pytest.raises(BadGateway) as caught:
        check_paths([RemoteFile(path, "https://h/m")])
    assert caught.value.code == "bad_path"


@pytest.mark.parametrize("path", ["m.gguf", "BF16/m-00001-of-00002.gguf", "a b/ü.gguf", "a..b"])
def test_other_paths_are_fine(path: str) -> None:
    assert path_problem(path) == ""


@pytest.mark.parametrize(
    "url",
    [
        "https://../m.gguf",
        "https://./m",
        "https://a b/m",
        "https://a\\b/m",
        "https://a%2fb/m",
        "https://h:99999/m",
        "https://h:0/m",
    ],
)
def test_hosts_that_are_none(url: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_reference(url)


@pytest.mark.parametrize("name", ["%2e%2e", ".hidden", "a%0ab", "a%5cb", "x" * 300])
def test_names_of_urls(name: str) -> None:
    with pytest.raises(InvalidRequest):
        Url(OriginSettings()).list(parse_reference(f"https://h.example/{name}"))


# -- whose files -----------------------------------------------------------------------------------
def record(reference: str, path: str, sha: str = DIGEST, **more: Any) -> PullRecord:
    return PullRecord(reference, "m", "", (PulledFile(path, "m.gguf", 1, sha, sha, **more),), 1.0)


FILES = [RemoteFile("m.gguf", "https://h/m.gguf", len(DATA), DIGEST)]


@pytest.mark.parametrize(
    ("reference", "other", "sha", "is_beside"),
    [
        ("https://h/b/m.gguf", "https://h/a/m.gguf", "sha256:1", True),
        ("https://h/b/m.gguf", "https://h/a/m.gguf", "", True),  # one that is under way
        ("https://h/b/m.gguf", "https://h/a/m.gguf", DIGEST, False),
        ("hf:o/r:Q4_0", "hf:o/r", "sha256:1", False),  # another version of the same
        ("hf:o/r@a/b", "hf:o/r@a-b", "sha256:1", True),
        ("hf:ollama/library", "ollama:tiny", "sha256:1", True),
    ],
)
def test_no_pull_overwrites_what_another_has(
    reference: str, other: str, sha: str, is_beside: bool
) -> None:
    wanted = parse_reference(reference)
    name = folder_name("f/m", wanted, FILES, [record(other, "f/m/m.gguf", sha)])
    assert (name != "f/m") is is_beside
    assert name == folder_name("f/m", wanted, FILES, [record(other, "f/m/m.gguf", sha)])


def taken(tmp_path: Path) -> Place:
    return Place.taken(tmp_path, "o/r", parse_reference("hf:o/r"), FILES)


def put(path: Path, data: bytes = DATA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_users_own_file_is_neither_overwritten_nor_removed(tmp_path: Path) -> None:
    own = put(tmp_path / "o/r/m.gguf", b"mine")
    with pytest.raises(Conflict) as caught:
        taken(tmp_path).present()
    assert caught.value.code == "file_in_the_way"
    own.write_bytes(DATA)
    place = taken(tmp_path)
    pulled = place.pulled(place.present())
    assert [file.is_ours for file in pulled] == [False]
    PullRecord("hf:o/r", "m", "", pulled, 1.0).write(tmp_path)
    assert _prune(tmp_path, set(), set(), dry_run=False).files == ()
    assert own.exists()


def test_what_a_new_version_lacks_goes_with_the_model(tmp_path: Path) -> None:
    put(tmp_path / "o/r/old.gguf")
    record("hf:o/r", "o/r/old.gguf").write(tmp_path)
    place = taken(tmp_path)
    put(tmp_path / "o/r/m.gguf")
    files = place.pulled(place.present())
    assert [(f.path, f.is_former) for f in files] == [("o/r/m.gguf", False), ("o/r/old.gguf", True)]


def test_nothing_of_another_program_is_pruned(tmp_path: Path) -> None:
    theirs = put(tmp_path / "o" / ".m.gguf.part", b"somebody else's")
    (tmp_path / ".pulled").mkdir()
    outside = put(tmp_path.parent / "outside.gguf")
    for number, path in enumerate(("../outside.gguf", str(outside), "a/../../outside.gguf", 7)):
        data = dataclasses.asdict(record("hf:o/r", "x"))
        data["files"][0]["path"] = path
        (tmp_path / ".pulled" / f"{number}.json").write_text(json.dumps(data))
    assert read_records(tmp_path) == []
    assert _prune(tmp_path, set(), set(), dry_run=False).files == ()
    assert theirs.exists()
    assert outside.exists()


@pytest.mark.parametrize("way", ["by a link of the folder", "by a link to the file", "in a list"])
def test_what_is_used_by_another_name_is_not_pruned(tmp_path: Path, way: str) -> None:
    real, link = tmp_path / "real", tmp_path / "models"
    real.mkdir()
    link.symlink_to(real)
    path = put(real / "o/r/m.gguf")
    record("hf:o/r", "o/r/m.gguf").write(link)
    (tmp_path / "mine.gguf").symlink_to(path)
    used = {
        "by a link of the folder": str(path),
        "by a link to the file": str(tmp_path / "mine.gguf"),
        "in a list": str(link / "o/r/m.gguf"),
    }[way]
    assert _prune(link, {used}, set(), dry_run=False).files == ()
    assert _prune(link, set(), set(), dry_run=False).files == (str(link / "o/r/m.gguf"),)
    assert not path.exists()


def test_a_link_goes_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    models = tmp_path / "models"
    theirs, gone = put(tmp_path / "blob"), models / "o/r/gone.gguf"
    (models / "o/r").mkdir(parents=True)
    (models / "o/r/m.gguf").symlink_to(theirs)
    gone.symlink_to(tmp_path / "nothing")
    os.link(theirs, models / "o/r/hard.gguf")
    for name in ("m", "gone", "hard"):
        record(f"hf:o/{name}", f"o/r/{name}.gguf", reused=str(theirs)).write(models)
    removal = _prune(models, set(), set(), dry_run=False)
    assert (len(removal.files), removal.size) == (3, 0)
    assert theirs.read_bytes() == DATA
    assert not models.joinpath("o").exists()


# -- addresses -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("172.16.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("100.64.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("224.0.0.1", False),
        ("x", False),
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("64:ff9b::808:808", True),
    ],
)
def test_addresses_of_the_internet(address: str, is_public: bool) -> None:
    assert addresses.is_public(address) is is_public


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "127.1", "[::1]"])
def test_clients_reach_nothing_of_this_machine(hub: Hub, host: str) -> None:
    port = hub.url.rpartition(":")[2]
    for reference in (f"http://{host}:{port}/files/m.gguf", f"https://{host}:{port}/m.gguf"):
        with pytest.raises(Forbidden, match="pull_private_addresses") as caught:
            Url(OriginSettings()).list(parse_reference(reference))
        assert caught.value.code == "private_address"
    if host == "localhost":
        with pytest.raises(Forbidden):
            Ollama(OriginSettings()).list(parse_reference(f"ollama:{host}:{port}/library/tiny"))
    assert hub.seen == []


def test_nor_by_a_redirect_or_a_name_that_changes(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files["m.gguf"] = DATA
    monkeypatch.setenv("NO_PROXY", "*")
    proxies = {"no": "*", "http": "http://proxy.example"}  # which is not asked, then
    monkeypatch.setattr(addresses, "getproxies", lambda: proxies)
    monkeypatch.setattr(addresses, "is_public", lambda text: text != "127.0.0.1")
    monkeypatch.setattr(addresses, "refuse_host", lambda _: None)
    monkeypatch.setattr("modelpool.pulling.http.refuse_host", lambda _: None)  # it was another then
    with pytest.raises(Forbidden):
        Http(public_only=True).get(f"{hub.url}/files/m.gguf", 10_000)
    assert Http().get(f"{hub.url}/files/m.gguf", 10_000) == DATA


# -- answers ---------------------------------------------------------------------------------------
def test_a_hop_in_the_clear_is_refused_though_the_last_is_not() -> None:
    urls = ("https://a/x", "http://b/x", "https://c/x")
    hops = [httpx.Response(302, request=httpx.Request("GET", url)) for url in urls[:2]]
    last = httpx.Response(200, request=httpx.Request("GET", urls[2]), history=hops)
    with pytest.raises(BadGateway) as caught:
        refuse(last)
    assert caught.value.code == "unsafe_redirect"


def test_a_server_that_sends_in_circles_is_told(hub: Hub) -> None:
    hub.files["m.gguf"] = DATA
    hub.faults = [Fault(302, {"Location": f"{hub.url}/files/m.gguf?key=s3cret"})] * 30
    with pytest.raises(BadGateway, match="redirects") as caught:
        Http().get(f"{hub.url}/files/m.gguf", 10_000)
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100000,
        '{"layers": ' + "[" * 100000,
        '{"layers": [{"mediaType": 1}]}',
        "7",
        "{}",
        '{"layers": [{"mediaType": "m", "digest": "sha256:../..", "size": 1}]}',
        '{"layers": [{"mediaType": "m", "digest": "x", "size": 1e999}]}',
        '{"layers": {"a": 1}}',
    ],
)
def test_manifests_that_are_none(hub: Hub, body: str) -> None:
    hub.manifests["library/tiny:latest"] = body.encode()
    with pytest.raises(BadGateway) as caught:
        Ollama(OriginSettings(ollama_registry_url=hub.url)).list(parse_reference("ollama:tiny"))
    assert caught.value.code == "bad_manifest"


def test_parameters_that_are_none_are_left_out(hub: Hub) -> None:
    odd = {"num_ctx": {"a": 1}, "temperature": "hot", "seed": True, "num_gpu": 3}
    layers = [("model", DATA), ("params", json.dumps(odd).encode()), ("params", b"[" * 100_000)]
    hub.publish("library/tiny", "latest", layers)
    found = Ollama(OriginSettings(ollama_registry_url=hub.url)).list(parse_reference("ollama:tiny"))
    assert found.options == {"gpu_layers": 3}


def test_lengths_that_are_no_numbers(hub: Hub) -> None:
    hub.files["m.gguf"] = DATA
    hub.file_headers["m.gguf"] = {"ETag": '"x"'}
    assert retry_after({"retry-after": "9" * 400}, 0.0) == 1e9
    url = parse_reference(f"{hub.url}/files/m.gguf")
    (file,) = Url(OriginSettings(private_addresses=True)).list(url).files
    assert file.size == len(DATA)


# -- secrets ---------------------------------------------------------------------------------------
def test_the_query_of_a_url_is_told_nowhere() -> None:
    reference = parse_reference("https://h/m.gguf?X-Amz-Signature=s3cret#frag")
    assert "s3cret" not in str(reference)
    assert reference.url == "https://h/m.gguf?X-Amz-Signature=s3cret"
    again = parse_reference(str(reference))
    assert str(again) == str(reference)
    with pytest.raises(InvalidRequest, match="had a query"):
        Url(OriginSettings()).list(again)
    assert shown("https://user:s3cret@h/m?k=s3cret") == "https://h/m"


def test_the_home_of_nobody() -> None:
    with pytest.raises(InvalidRequest, match="a user that there is not") as caught:
        Local(OriginSettings()).list(parse_reference("~no-such-user/m.gguf"))
    assert caught.value.param == "source"
