"""What other programs have on the disk is used where it lies, and nothing of theirs is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from modelpool.catalog.model import Model
from modelpool.catalog.option_files import file_problems
from modelpool.jobs.kinds.pull import naming
from modelpool.pulling import reuse as module
from modelpool.pulling.base import RemoteFile
from modelpool.pulling.reuse import reuse
from support.hub import git_blob, sha256

DATA = b"GGUF" + bytes(range(256)) * 40
FILE = RemoteFile("m.gguf", "https://h/m.gguf", len(DATA), f"sha256:{sha256(DATA)}")


def put(path: Path, data: bytes = DATA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def blob(store: Path, digest: str = sha256(DATA), data: bytes = DATA) -> Path:
    return put(store / "models--o--r" / "blobs" / digest, data)


@pytest.mark.parametrize("layout", ["models--o--r/blobs/{}", "blobs/sha256-{}"])
def test_a_store_has_it(tmp_path: Path, layout: str) -> None:
    held = put(tmp_path / "store" / layout.format(sha256(DATA)))
    before, target, said = held.stat(), tmp_path / "models" / "m.gguf", []
    found = reuse(FILE, target, [tmp_path / "nowhere", tmp_path / "store"], said.append)
    assert found is not None
    assert (found.size, found.sha256, found.reused) == (len(DATA), FILE.digest, str(held))
    assert target.samefile(held)
    assert not target.is_symlink()
    assert (before.st_mtime_ns, before.st_mode) == (held.stat().st_mtime_ns, held.stat().st_mode)
    assert said == [f"m.gguf is already here: {held} (hard link)"]


def test_gits_own_digests_name_small_files(tmp_path: Path) -> None:
    held = blob(tmp_path, git_blob(DATA))
    file = RemoteFile("config.json", "", len(DATA), f"git:{git_blob(DATA)}")
    assert reuse(file, tmp_path / "config.json", [tmp_path], print) is not None
    assert (tmp_path / "config.json").samefile(held)


def test_where_no_hard_link_can_be_a_symbolic_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuses)
    held, target = blob(tmp_path), tmp_path / "m.gguf"
    target.symlink_to(tmp_path / "gone")  # an earlier link, whose file that program removed
    assert reuse(FILE, target, [tmp_path], print) is not None
    assert target.is_symlink()
    assert target.samefile(held)


@pytest.mark.parametrize("data", [DATA[:-1], DATA[:-1] + b"x", b""])
def test_what_only_has_the_name_is_not_used(tmp_path: Path, data: bytes) -> None:
    blob(tmp_path, data=data)
    said: list[str] = []
    assert reuse(FILE, tmp_path / "m.gguf", [tmp_path], said.append) is None
    assert not (tmp_path / "m.gguf").exists()
    assert "it is not used" in said[0]


@pytest.mark.parametrize("way", ["written to", "replaced"])
def test_what_changes_while_it_is_read_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    held, digests_of = blob(tmp_path), module.digests_of

    def meanwhile(*args: object) -> dict[str, str]:
        found = digests_of(*args)  # type: ignore[arg-type]
        if way == "replaced":
            held.unlink()
        held.write_bytes(DATA[::-1])
        return found

    monkeypatch.setattr(module, "digests_of", meanwhile)
    assert reuse(FILE, tmp_path / "m.gguf", [tmp_path], print) is None
    assert not (tmp_path / "m.gguf").exists()


def test_a_file_without_a_digest_is_looked_for_nowhere(tmp_path: Path) -> None:
    blob(tmp_path)
    file = RemoteFile("m.gguf", "", len(DATA), etag='"x"')
    assert reuse(file, tmp_path / "m.gguf", [tmp_path], print) is None


def test_files_that_were_pulled_may_be_named_though_they_are_links(tmp_path: Path) -> None:
    """To a store on another disk, for one, which no configuration names."""
    store, models = tmp_path / "store", tmp_path / "models"
    store.mkdir()
    models.mkdir()
    for name in ("mmproj.gguf", "other.gguf", "lora.gguf"):
        (store / name).touch()
        (models / name).symlink_to(store / name)
    options = {
        "mmproj": str(models / "mmproj.gguf"),
        "draft_model": str(models / "other.gguf"),
        "lora": [{"path": str(models / "lora.gguf")}, {"path": str(store / "other.gguf")}],
        "parallel": 2,
    }
    pulled = {str(models / name) for name in ("m.gguf", "mmproj.gguf", "lora.gguf")}
    trusted = naming(options, pulled)
    model = Model("m", "llama.cpp", str(models / "m.gguf"), options=options)
    wrong = [p.param for p in file_problems(model, [str(models)], trusted)]
    assert wrong == ["options.draft_model", "options.lora"], "what somebody asked for is not"
