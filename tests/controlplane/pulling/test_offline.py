"""What stores say of models whose origins do not answer: all of one, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelpool.pulling.base import RemoteFile
from modelpool.pulling.offline import held_listing, lacks_parts
from modelpool.pulling.reference import parse_reference


@pytest.mark.parametrize(
    ("paths", "lacks"),
    [
        ([], False),
        (["m.gguf", "config.json"], False),
        (["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"], False),
        (["m-00001-of-00002.gguf"], True),
        (["m-00002-of-00002.gguf", "n-00001-of-00002.gguf"], True),
        (["a/m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"], True),
    ],
)
def test_parts(paths: list[str], lacks: bool) -> None:
    assert lacks_parts([RemoteFile(path, "") for path in paths]) is lacks


def hub(root: Path, ref: str = "c0ffee") -> Path:
    folder = root / "models--o--r"
    for name in ("blobs", "refs", "snapshots/c0ffee/sub"):
        (folder / name).mkdir(parents=True)
    (folder / "refs" / "main").write_text(ref)
    (folder / "blobs" / ("a" * 64)).write_bytes(b"weights")
    for name, blob in (("m.gguf", "a" * 64), ("sub/gone.gguf", "b" * 64), (".x", "a" * 64)):
        (folder / "snapshots" / "c0ffee" / name).symlink_to(folder / "blobs" / blob)
    return root


@pytest.mark.parametrize("reference", ["hf:o/r", "hf:o/r@c0ffee"])
def test_a_hubs_cache_has_what_its_links_lead_to(tmp_path: Path, reference: str) -> None:
    found = held_listing(parse_reference(reference), [tmp_path / "none", hub(tmp_path)])
    assert found is not None
    (file,) = found.files
    assert (found.revision, file.path, file.size) == ("c0ffee", "m.gguf", 7)
    assert file.digest == "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "reference", ["hf:o/other", "hf:o/r@other", "ollama:r", "https://h/m.gguf"]
)
def test_what_no_store_knows(tmp_path: Path, reference: str) -> None:
    assert held_listing(parse_reference(reference), [hub(tmp_path)]) is None


@pytest.mark.parametrize("ref", ["../../elsewhere", "", "/etc", "gone"])
def test_a_reference_of_a_cache_that_leads_nowhere(tmp_path: Path, ref: str) -> None:
    assert held_listing(parse_reference("hf:o/r"), [hub(tmp_path, ref)]) is None
