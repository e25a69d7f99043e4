"""Which files of all that an origin has make the model that is wanted, and why these. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modelpool_client.errors import CannotFit, InvalidRequest, NotSupported

from modelpool.catalog.footprint import LOADERS
from modelpool.catalog.formats.base import Candidate, Entry, Format
from modelpool.catalog.formats.base import Listing as Folder

from .base import Listing, RemoteFile
from .quantizations import quantization_of, rank
from .reference import Reference

BYTES_PER_MB = 1_000_000
# Where the files would lie; formats read names, never these files.
ROOT = Path("/")
# Beside the weights a model needs a cache for its context, buffers, and its engine. How much is in
# its header, which is not here yet: at the least context that `catalog.fitting` goes down to it is
# below a tenth of the weights for models of 1 to 70 billion parameters, and some 100 MB.
OVERHEAD = 1.1
OVERHEAD_BYTES = 100 * BYTES_PER_MB
SHOWN = 12
# More precise projectors are small beside their models, and F16 is what llama.cpp's tools make.
PROJECTORS = ("F16", "BF16", "Q8_0", "F32")


@dataclass(frozen=True)
class Machine:
    """What the choice is held against.

    Attributes:
        memory_bytes: for all models: of the devices where there are any, else of the host.
        engines: names of those that there are; None: it cannot be known.
    """

    memory_bytes: int
    engines: frozenset[str] | None = None


@dataclass(frozen=True)
class Choice:
    """What is fetched.

    Attributes:
        files: all of it, the model's own first.
        main: of ``files``, what the engine is given; ``.`` for their folder.
        quantization: as the name has it.
        projector: of ``files``, what gives the model eyes; empty for none.
        reasons: why these, for people.
        adapters: of ``files``, corrections to its weights (LoRA), in their order.
    """

    files: Sequence[RemoteFile]
    main: str
    engine: str
    quantization: str | None = None
    projector: str = ""
    reasons: Sequence[str] = ()
    adapters: Sequence[str] = ()


@dataclass(frozen=True)
class _Offer:
    """One model of several under one name."""

    candidate: Candidate
    engine: str
    files: Sequence[RemoteFile]

    @property
    def path(self) -> str:
        return _relative(self.candidate.path)

    @property
    def quantization(self) -> str | None:
        return quantization_of(PurePosixPath(self.path).name) or quantization_of(self.path)

    @property
    def label(self) -> str:
        return self.quantization or self.path

    @property
    def size(self) -> int:
        return sum(file.size or 0 for file in self.files)

    @property
    def needed(self) -> int:
        """Bytes of memory that it takes at least, see ``OVERHEAD``."""
        loader = LOADERS.get(self.candidate.format)
        if loader is not None:
            return int(self.size * loader.factor) + loader.worker_bytes
        return int(self.size * OVERHEAD) + OVERHEAD_BYTES


def choose(
    reference: Reference, listing: Listing, formats: Mapping[str, Format], machine: Machine
) -> Choice:
    """The files of the model that is wanted.

    What is named is taken, whether it fits or not. Else, of each quantisation that there is, the
    first in ``quantizations.PREFERENCE`` that fits.

    Raises:
        InvalidRequest: there is nothing of that name; with what there is.
        NotSupported: no engine here runs what there is.
        CannotFit: nothing fits; with the numbers.
    """
    found = list(_candidates(listing.files, formats))
    by_path = {file.path: file for file in listing.files}
    offers, projectors = [], []
    for candidate, engine in found:
        files = [by_path[p] for p in map(_relative, candidate.files) if p in by_path]
        offer = _Offer(candidate, engine, files)
        if _companion(candidate) == "projector":
            projectors.append(offer)
        elif _companion(candidate) is None and not candidate.problem and files:
            offers.append(offer)
    if not offers:
        raise _no_model(reference, [candidate for candidate, _ in found])
    offer, reasons = _offer(reference, _runnable(reference, offers, machine), machine)
    projector = _projector(offer, projectors)
    files = [*offer.files, *([] if projector is None else projector.files)]
    if projector is not None:
        reasons.append(f"its projector {projector.path} comes along, for pictures")
    return Choice(
        files,
        offer.path,
        offer.engine,
        offer.quantization,
        "" if projector is None else projector.path,
        reasons,
    )


def _candidates(
    files: Sequence[RemoteFile], formats: Mapping[str, Format]
) -> Iterator[tuple[Candidate, str]]:
    """What each format sees in each folder; a file belongs to the first that claims it."""
    folders: dict[Path, list[Entry]] = {ROOT: []}
    for file in files:
        path = ROOT / file.path
        folders.setdefault(path.parent, []).append(Entry(path.name, False, file.size or 1))
    taken: set[Path] = set()
    for format in formats.values():
        for folder, entries in folders.items():
            for candidate in format.candidates(Folder(folder, entries)):
                if taken.isdisjoint(candidate.files):
                    taken.update(candidate.files)
                    yield candidate, format.engine


def _companion(candidate: Candidate) -> str | None:
    name = candidate.path.name.casefold()
    return "projector" if "mmproj" in name else candidate.companion


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _no_model(reference: Reference, candidates: Iterable[Candidate]) -> InvalidRequest:
    told = [
        problem if (path := _relative(c.path)) == "." else f"{path} {problem}"
        for c in candidates
        if (problem := c.problem)
    ]
    text = "; ".join(told[:SHOWN]) or "has no model of a format that is known here"
    return InvalidRequest(f"{reference} {text}", param="source", code="no_model")


def _runnable(reference: Reference, offers: Sequence[_Offer], machine: Machine) -> Sequence[_Offer]:
    if machine.engines is None:
        return offers
    runnable = [offer for offer in offers if offer.engine in machine.engines]
    if not runnable:
        wanted = ", ".join(sorted({f"{o.candidate.format} ({o.engine})" for o in offers}))
        text = f"{reference} holds {wanted}, which no engine here runs; pull one as GGUF"
        raise NotSupported(text, param="source", code="no_engine")
    return runnable


def _offer(
    reference: Reference, offers: Sequence[_Offer], machine: Machine
) -> tuple[_Offer, list[str]]:
    limit = machine.memory_bytes
    if reference.scheme == "hf" and reference.variant:
        offer = _named(reference, offers)
        reasons = [f"{offer.label} was asked for"]
        if offer.needed > limit:
            reasons.append(f"it may not fit: {_figures(offer.needed, limit)}")
        return offer, reasons
    ranked = sorted(offers, key=lambda o: (rank(o.quantization), o.path.count("/"), o.path))
    fitting = [offer for offer in ranked if offer.needed <= limit]
    if not fitting:
        least = min(offers, key=lambda o: o.needed)
        text = f"of {reference} not even {least.label} fits: {_figures(least.needed, limit)}"
        raise CannotFit(f"{text}; raise memory_limit_mb, or name one to fetch it nevertheless")
    best = fitting[0]
    reasons = [f"{best.label}: {_figures(best.needed, limit)}"]
    reasons += [f"{o.label} would be better and does not fit" for o in _before(ranked, best)]
    others = ", ".join(dict.fromkeys(o.label for o in ranked if o is not best))
    if others:
        reasons.append(f"there are also {others[:500]}; name one to have it: {reference}:…")
    return best, reasons


def _before(ranked: Sequence[_Offer], best: _Offer) -> Iterable[_Offer]:
    return ranked[: ranked.index(best)]


def _named(reference: Reference, offers: Sequence[_Offer]) -> _Offer:
    wanted = reference.variant.casefold()
    exact = [o for o in offers if any(wanted == file.path.casefold() for file in o.files)]
    quantized = [o for o in offers if (o.quantization or "").casefold() == wanted]
    parts = [o for o in offers if wanted in o.path.casefold()]
    for found in (exact, quantized, parts):
        if found:
            return min(found, key=lambda o: (o.path.count("/"), len(o.path), o.path))
    labels = ", ".join(sorted({o.label for o in offers})[:SHOWN])
    text = f"{reference.name} has nothing called {reference.variant!r}; it has {labels}"
    raise InvalidRequest(text, param="source", code="no_such_variant")


def _projector(offer: _Offer, projectors: Sequence[_Offer]) -> _Offer | None:
    """Beside the model, or in the repository's root; there is one for each precision."""
    folder = PurePosixPath(offer.path).parent
    near = [p for p in projectors if PurePosixPath(p.path).parent in (folder, PurePosixPath("."))]

    def place(projector: _Offer) -> tuple[int, str]:
        named = projector.quantization
        known = named is not None and named in PROJECTORS
        return (PROJECTORS.index(named) if known and named else len(PROJECTORS), projector.path)

    return min(near, key=place, default=None)


def _figures(needed: int, limit: int) -> str:
    return f"it needs about {needed / BYTES_PER_MB:,.0f} MB of {limit / BYTES_PER_MB:,.0f} MB"
