"""The process of a pull: asks its origin, chooses, fetches. ``python -m modelpool.pulling.program``

It reads a request, tells how far it is, and answers what came of it; see ``jobs.process``. It has
the disk, the network and the hub's library to itself, so that the manager hangs on none of them.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelpool_client.errors import CannotFit, InvalidRequest, ModelPoolError

from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.formats.gguf import read_gguf
from modelpool.catalog.formats.registry import formats
from modelpool.jobs import child

from .base import Listing, Origin, OriginSettings, RemoteFile
from .choice import BYTES_PER_MB, Choice, Machine, choose
from .download import Downloader, Fetched
from .go_templates import applied
from .http import new_client
from .offline import held_listing, lacks_parts
from .partial import Names
from .place import Place, check_paths
from .records import PulledFile, PullRecord, read_records
from .reference import Reference, parse_reference
from .registry import origin
from .reuse import reuse
from .throttle import Throttle

TELL_SECONDS = 0.25
SPEED_SECONDS = 5.0
OLLAMA_ENGINE = "llama.cpp"

Tell = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """One request; its ``task`` is ``pull`` or ``outdated``."""
    throttle = Throttle()

    def work(request: Mapping[str, Any], tell: Tell) -> Any:
        return TASKS[request["task"]](request, tell, throttle)

    def hear(message: Mapping[str, Any]) -> None:
        throttle.limit = float(message["speed_limit"])

    child.main(work, hear)


def pull(request: Mapping[str, Any], tell: Tell, throttle: Throttle) -> dict[str, Any]:
    """Fetch a model.

    Raises:
        ModelPoolError: why it cannot be had.
    """
    reference = parse_reference(request["source"])
    models_dir = Path(request["models_dir"])
    throttle.limit = float(request["speed_limit"])

    def log(text: str) -> None:
        tell({"log": text})

    tell({"progress": {"text": f"asking for {reference}"}})
    settings = OriginSettings(**request["origin"])
    source = origin(reference.scheme, settings)
    stores = [Path(store) for store in request.get("stores", ())]
    listing, unreachable = _listing(source, reference, stores)
    choice = _choice_of_held(reference, listing, request, unreachable)
    for reason in (*choice.reasons, *listing.notes):
        log(reason)
    if listing.place is not None:
        return _answer(reference, listing, choice, listing.place, (), choice.reasons)
    files = with_digest(choice.files, request.get("digest"))
    check_paths(files)
    model_id = request.get("model_id") or _model_id(reference, choice)
    place = Place.taken(models_dir, source.folder(reference), reference, files)
    record = PullRecord(str(reference), model_id, listing.revision, place.plan, 0.0)
    record.write(models_dir)
    try:
        present = place.present()
        for file in files:
            if file.path not in present and not place.target(file).exists():
                tell({"progress": {"text": f"looking for {file.path} on this machine"}})
                if found := reuse(file, place.target(file), stores, log):
                    present[file.path] = found
        if unreachable is not None and any(file.path not in present for file in files):
            raise unreachable
        check_room(place.folder, files, present)
    except ModelPoolError:
        place.give_up(record)
        raise
    reasons = [*choice.reasons, *already_here(files, present)]
    tell({"plan": [_planned(file, file.path in present) for file in files]})
    meter = Meter(files, tell)
    public_only = _is_named_by_client(reference) and not settings.private_addresses
    with new_client(public_only=public_only) as client:
        for file in files:
            meter.begin(file)
            downloader = Downloader(client, str(reference), throttle, meter.at, log)
            found = downloader.fetch(file, place.target(file), present.get(file.path))
            meter.end(found.size)
            present[file.path] = found
    pulled = place.pulled(present)
    dataclasses.replace(record, files=pulled, pulled_at=time.time()).write(models_dir)
    now = [file for file in pulled if not file.is_former]
    return _answer(reference, listing, choice, place.folder, now, reasons)


def _listing(
    source: Origin, reference: Reference, stores: Sequence[Path]
) -> tuple[Listing, ModelPoolError | None]:
    """What the origin has; where it does not answer, what other programs' stores have of it, and
    why."""
    try:
        return source.list(reference), None
    except ModelPoolError as e:
        held = held_listing(reference, stores) if e.code == "unreachable" else None
        if held is None:
            raise
        note = f"{e.message}; what is on this machine already is used, and may be older"
        return dataclasses.replace(held, notes=(*held.notes, note)), e


def _choice_of_held(
    reference: Reference,
    listing: Listing,
    request: Mapping[str, Any],
    unreachable: ModelPoolError | None,
) -> Choice:
    """Of what is only held here, nothing but a whole model."""
    if unreachable is None:
        return _choice(reference, listing, request)
    try:
        choice = _choice(reference, listing, request)
    except ModelPoolError:
        raise unreachable from None
    if lacks_parts(choice.files):
        raise unreachable
    return choice


def outdated(request: Mapping[str, Any], tell: Tell, throttle: Throttle) -> list[dict[str, Any]]:
    """For each pull, which of its files are others at their origin now, or why that is unknown."""
    records, found = read_records(Path(request["models_dir"])), []
    settings = OriginSettings(**request["origin"])
    for number, record in enumerate(records):
        if not record.pulled_at:
            continue
        progress = {"done": number, "total": len(records), "unit": "pulls"}
        tell({"progress": {**progress, "text": record.reference}})
        entry: dict[str, Any] = {"reference": record.reference, "model_id": record.model_id}
        try:
            reference = parse_reference(record.reference)
            listing = origin(reference.scheme, settings).list(reference)
        except ModelPoolError as e:
            found.append({**entry, "state": "unknown", "reason": e.message, "files": []})
            continue
        others = changed_files(record, listing)
        state = "outdated" if others else "current"
        reason = f"{len(others)} of its files are others there" if others else ""
        found.append({**entry, "state": state, "reason": reason, "files": others})
    return found


TASKS: Mapping[str, Callable[[Mapping[str, Any], Tell, Throttle], Any]] = {
    "pull": pull,
    "outdated": outdated,
}


def changed_files(record: PullRecord, listing: Listing) -> list[str]:
    """Those of a pull that are others at their origin now, or are not there any more. PURE."""
    now = {file.path: file.identity for file in listing.files}
    return [
        file.remote
        for file in record.files
        if not file.is_former and now.get(file.remote) not in (file.identity, file.sha256, "")
    ]


def with_digest(files: Sequence[RemoteFile], digest: str | None) -> list[RemoteFile]:
    """The files with what the user says of the first of them. PURE.

    Raises:
        InvalidRequest: its origin says otherwise, or there are several.
    """
    if not digest:
        return list(files)
    first = files[0]
    if len(files) > 1:
        text = f"is of one file, and there are {len(files)}: leave it out, or name one file"
        raise InvalidRequest(f"digest {text}", param="digest")
    if first.digest.startswith("sha256:") and first.digest != digest:
        text = f"{first.path} has {first.digest} at its origin, not {digest}"
        raise InvalidRequest(text, param="digest", code="digest_mismatch")
    return [dataclasses.replace(first, digest=digest)]


def check_room(folder: Path, files: Sequence[RemoteFile], present: Mapping[str, Fetched]) -> None:
    """Is there room for what is still to come?

    Raises:
        CannotFit: code ``disk_full``, with the numbers.
    """
    missing = [file for file in files if file.path not in present]
    needed = sum(max(0, (file.size or 0) - _partial_size(folder / file.path)) for file in missing)
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        text = f"{needed / BYTES_PER_MB:,.0f} MB are still to come, and {place} has room for"
        step = "`poolctl prune` and `poolctl rm` make room"
        raise CannotFit(f"{text} {free / BYTES_PER_MB:,.0f} MB: {step}", code="disk_full")


def _partial_size(target: Path) -> int:
    try:
        return Names.of(target).partial.stat().st_size
    except OSError:
        return 0


class Meter:
    """Tells how far all files together are, now and then, and how fast."""

    def __init__(
        self, files: Sequence[RemoteFile], tell: Tell, now: Callable[[], float] = time.monotonic
    ) -> None:
        sizes = [file.size for file in files]
        self._total = None if None in sizes else sum(size or 0 for size in sizes)
        self._tell = tell
        self._now = now
        self._before = 0
        self._name = ""
        self._told_at = -TELL_SECONDS
        self._points: deque[tuple[float, int]] = deque()

    def begin(self, file: RemoteFile) -> None:
        """Its bytes are next."""
        self._name = file.path
        self._points.clear()

    def at(self, size: int) -> None:
        """So many bytes of the file are there."""
        now = self._now()
        if now - self._told_at < TELL_SECONDS:
            return
        self._told_at = now
        self._points.append((now, size))
        while now - self._points[0][0] > SPEED_SECONDS:
            self._points.popleft()
        self._say(size)

    def end(self, size: int) -> None:
        """The file is whole."""
        self._say(size)
        self._before += size

    def _say(self, size: int) -> None:
        speed = self._speed()
        shown = f" at {speed / BYTES_PER_MB:,.1f} MB/s" if speed else ""
        done = self._before + size
        progress = {"done": done, "total": self._total, "unit": "bytes"}
        self._tell({"progress": {**progress, "text": f"{self._name}{shown}"}})

    def _speed(self) -> float:
        if len(self._points) < 2:
            return 0.0
        (begin, first), (end, last) = self._points[0], self._points[-1]
        return max(0.0, (last - first) / (end - begin)) if end > begin else 0.0


def _choice(reference: Reference, listing: Listing, request: Mapping[str, Any]) -> Choice:
    engines = request["engines"]
    machine = Machine(int(request["memory_bytes"]), None if engines is None else frozenset(engines))
    if not listing.is_chosen:
        return choose(reference, listing, formats(), machine)
    main = next(f for f in listing.files if f.path.startswith("model"))
    projector = next((f.path for f in listing.files if f.path.startswith("mmproj")), "")
    files = [main, *(f for f in listing.files if f is not main)]
    adapters = [f.path for f in listing.files if f.path.startswith("adapter")]
    return Choice(files, main.path, OLLAMA_ENGINE, None, projector, adapters=adapters)


def _planned(file: RemoteFile, is_there: bool) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "digest": file.digest, "is_there": is_there}


def _is_named_by_client(reference: Reference) -> bool:
    """Whether the host is, not the configuration."""
    return reference.scheme == "url" or bool(reference.host)


def already_here(files: Sequence[RemoteFile], present: Mapping[str, Fetched]) -> list[str]:
    """What need not be fetched, for people. PURE."""
    return [
        f"{file.path} was already here" + (f": {found.reused}" if found.reused else "")
        for file in files
        if (found := present.get(file.path)) is not None
    ]


def _model_id(reference: Reference, choice: Choice) -> str:
    """``owner/repo:Q4_K_M``: with the quantisation that was chosen, where several stand there."""
    if reference.scheme == "hf" and choice.quantization:
        return f"{reference.name}:{choice.quantization}"
    return reference.model_id


def _answer(
    reference: Reference,
    listing: Listing,
    choice: Choice,
    folder: Path,
    files: Sequence[PulledFile],
    reasons: Sequence[str],
) -> dict[str, Any]:
    metadata: dict[str, Any] = dict(listing.metadata)
    metadata["pulled"] = {"reference": str(reference), "revision": listing.revision}
    if choice.projector:
        metadata["projector"] = str(folder / choice.projector)
    options, notes = dict(listing.options), list(listing.notes)
    if choice.adapters:
        options["lora"] = [{"path": str(folder / adapter)} for adapter in choice.adapters]
    if template := metadata.get("ollama", {}).get("template"):
        given, note = applied(template, has_own=_has_template(folder / choice.main))
        options |= {"chat_template": given} if given else {}
        notes.append(note)
    return {
        "model_id": _model_id(reference, choice),
        "source": str(folder / choice.main) if choice.main != "." else str(folder),
        "engine": choice.engine,
        "options": options,
        "request": dict(listing.request),
        "metadata": metadata,
        "revision": listing.revision,
        "files": [dataclasses.asdict(file) for file in files],
        "reasons": [*reasons, *notes],
    }


def _has_template(path: Path) -> bool:
    """Whether a GGUF file says itself how it hears conversations; one that cannot be read will be
    told of when it is registered."""
    try:
        return read_gguf(path).has_chat_template
    except BadModelFile:
        return True


if __name__ == "__main__":
    main()
