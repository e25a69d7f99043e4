"""What stores of other programs on this machine say of a model whose origin does not answer: their
own metadata name its files and digests, as the origin would."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from modelpool_client.errors import ModelPoolError

from modelpool.catalog.sources import huggingface, ollama

from .base import Listing, RemoteFile, path_problem
from .origins.ollama import MAX_TEXT_BYTES, listing_of
from .reference import Reference

MAIN = "main"
# As hubs' caches call blobs: by SHA-256, or by git's own digest.
_DIGESTS = {64: "sha256", 40: "git"}
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.\w+)")


def held_listing(reference: Reference, stores: Iterable[Path]) -> Listing | None:
    """What the first store that knows the reference has of it; None where none does. Blocks."""
    for store in stores:
        try:
            found = _of_hub(reference, store) if reference.scheme == "hf" else None
            if reference.scheme == "ollama":
                found = _of_ollama(reference, store)
        except (OSError, ValueError, ModelPoolError):  # not there, or no such store
            continue
        if found is not None and found.files:
            return found
    return None


def lacks_parts(files: Sequence[RemoteFile]) -> bool:
    """Whether one of them is a part of something whose other parts are not all among them. PURE."""
    paths = {file.path for file in files}
    parts = filter(None, map(_PART.fullmatch, paths))
    return any(
        f"{part[1]}-{number:05}-of-{part[3]}{part[4]}" not in paths
        for part in parts
        for number in range(1, int(part[3]) + 1)
    )


def _of_hub(reference: Reference, store: Path) -> Listing | None:
    """The revision that was asked for, as far as the cache has it."""
    folder = store / (huggingface.PREFIX + reference.name.replace("/", "--"))
    revision = reference.revision or MAIN
    if path_problem(revision):
        return None
    ref = folder / "refs" / revision
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    if path_problem(commit) or not (folder / "snapshots" / commit).is_dir():
        return None
    return Listing(commit, list(_of_snapshot(folder / "snapshots" / commit)))


def _of_snapshot(snapshot: Path) -> Iterator[RemoteFile]:
    for link in sorted(snapshot.rglob("*")):
        path, blob = link.relative_to(snapshot).as_posix(), link.resolve()
        kind = _DIGESTS.get(len(blob.name))
        if kind is not None and blob.is_file() and not path_problem(path):
            yield RemoteFile(path, "", blob.stat().st_size, f"{kind}:{blob.name}")


def _of_ollama(reference: Reference, store: Path) -> Listing | None:
    place = (reference.host or ollama.REGISTRY, *reference.name.split("/"), reference.variant)
    tops = (store.joinpath(top, *place) for top in ollama.MANIFESTS)
    manifest = next((path for path in tops if path.is_file()), None)
    if manifest is None:
        return None

    def read(digest: str) -> bytes:
        (blob,) = ollama.blobs(store, digest.removeprefix("sha256:"))
        with blob.open("rb") as opened:
            return opened.read(MAX_TEXT_BYTES)

    with manifest.open("rb") as opened:
        return listing_of(opened.read(MAX_TEXT_BYTES), reference, "", read)
