"""What is known to be on the disk: the only writer of it. See ``adopt`` for the catalog."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from modelpool_client.errors import ModelPoolError

from modelpool.catalog.errors import StoreError
from modelpool.catalog.estimator import Reading, described
from modelpool.catalog.model import Model
from modelpool.catalog.source_files import WHERE
from modelpool.discovery.findings import Finding, Findings, edition
from modelpool.discovery.merge import ORIGIN, Wishes
from modelpool.discovery.roots import Root, RootReport, RootState
from modelpool.discovery.scan import Same, updated
from modelpool.jobs.process import run_process

log = logging.getLogger(__name__)

SCANNER = "modelpool.discovery.scanner"
FINDINGS, ROOTS, DELETED, DEPARTED = (
    "discovery",
    "discovery-root",
    "discovery-deleted",
    "discovery-departed",
)
# Roots that are looked through at the same time: one that hangs takes its place until it is given
# up.
AT_ONCE = 4
# Of models that went, whose entries wait for them to come back.
MAX_DEPARTED = 2000


class DocumentStore(Protocol):
    """Where it outlives the manager."""

    async def documents(self, kind: str) -> dict[str, Any]: ...
    async def document_texts(self, kind: str) -> dict[str, str]: ...
    async def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()
    ) -> None: ...


@dataclasses.dataclass(frozen=True)
class Looking:
    """How roots are looked through.

    Attributes:
        calm_seconds: see ``ScanRequest``.
        stall_seconds: without a word from the process it is given up.
        left_out: names of formats.
    """

    calm_seconds: float
    stall_seconds: float
    left_out: Collection[str] = ()


# What is told of everywhere.
MODELS = ("model", "companion")
NO_MODEL = (
    "holds no model that the pool can read. What else is there is told of"
    f" {WHERE} only: name it in one of them"
)

# Told of the root, and of folders, files and models so far.
Tell = Callable[[str, Mapping[str, int]], object]


class Hung(Exception):
    """The process said nothing for too long."""


class Discovery:
    """Roots, and what was found in them.

    ``publish`` is told of roots that cannot be looked through; ``wall`` gives seconds since 1970.
    """

    def __init__(
        self, store: DocumentStore, publish: Callable[..., object], wall: Callable[[], float]
    ) -> None:
        self._store = store
        self._publish = publish
        self._wall = wall
        self._found = Findings()
        self._reports: dict[str, RootReport] = {}
        self._deleted: dict[str, Mapping[str, Any]] = {}
        self._departed: dict[str, Mapping[str, Any]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self.is_scanning = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Discovery {len(self._reports)} roots, {len(self._found)} findings>"

    async def open(self) -> None:
        """Read what former managers found."""
        self._found = Findings(await self._store.document_texts(FINDINGS))
        roots = await self._store.documents(ROOTS)
        self._reports = {path: RootReport.from_dict(data) for path, data in roots.items()}
        self._deleted = await self._store.documents(DELETED)
        self._departed = await self._store.documents(DEPARTED)

    @property
    def reports(self) -> Mapping[str, RootReport]:
        """How every root is, by its path."""
        return self._reports

    @property
    def findings(self) -> list[Finding]:
        """All that was found, by roots in their order, then by path."""
        order = {path: i for i, path in enumerate(self._reports)}
        return sorted(self._found.values(), key=lambda f: (order.get(f.root, -1), f.path))

    def reading(self, model: Model) -> Reading | None:
        """What the files of a model that was found said when they were last read, for estimates:
        nothing is read at a start. None for another, and where they could not be read."""
        finding = self._found.get(model.source) if model.origin == ORIGIN else None
        info = finding.info if finding is not None else None
        if finding is None or info is None:
            return None
        return Reading(described(model, info), finding.fingerprint, info)

    @property
    def wishes(self) -> Wishes:
        """What users decided about models that were found."""
        deleted = {
            each
            for said in self._deleted.values()
            for each in (said["identity"], *said["places"])
            if each
        }
        departed = {identity: Model.from_dict(data) for identity, data in self._departed.items()}
        return Wishes(deleted, departed)

    async def want(self, roots: Mapping[str, Root], open_folders: Collection[str]) -> bool:
        """These are the roots of the configuration, in its order; those that clients named stay
        behind them. What was found in others is forgotten, and what is no model outside
        ``open_folders``. Whether anything is new."""
        asked = {p: r.root for p, r in self._reports.items() if r.root.is_asked}
        wanted = {**roots, **{p: r for p, r in asked.items() if p not in roots}}
        wanted = {path: root.told_by(open_folders) for path, root in wanted.items()}
        known = {path: report.root for path, report in self._reports.items()}
        if list(known.items()) == list(wanted.items()):
            return False
        gone = known.keys() - wanted.keys()
        now = {path: self._report(root) for path, root in wanted.items()}
        changed = {p: r.as_dict() for p, r in now.items() if self._reports.get(p) != r}
        await self._store.write_documents(ROOTS, changed, gone)
        self._reports = now
        closed = {p for p, r in now.items() if r.root.only_models and p in changed}
        untold = (p for p, f in self._found.items() if f.root in closed and f.kind not in MODELS)
        await self._take({}, [*untold, *(p for p, f in self._found.items() if f.root in gone)])
        return True

    def _report(self, root: Root) -> RootReport:
        known = self._reports.get(root.path)
        if known is None or _looked(known.root) != _looked(root):
            return RootReport(root)
        return dataclasses.replace(known, root=root)

    async def ask(self, roots: Iterable[Root]) -> None:
        """Clients named these; those of the configuration are roots already."""
        for root in roots:
            if root.path not in self._reports:
                await self._put(RootReport(root))

    async def forget(self, path: str) -> bool:
        """A root that a client named is none any more; whether it was one."""
        report = self._reports.get(path)
        if report is None or not report.root.is_asked:
            return False
        await self._store.write_documents(ROOTS, {}, (path,))
        del self._reports[path]
        await self._take({}, [p for p, f in self._found.items() if f.root == path])
        return True

    async def deleted(self, model: Model) -> None:
        """A user does not want a model that was found: it stays away until it is asked for."""
        said = {"identity": model.identity, "places": list(model.places)}
        await self._store.write_documents(DELETED, {model.model_id: said})
        self._deleted[model.model_id] = said

    async def restore(self, roots: Collection[str]) -> None:
        """Models that were deleted are wanted again, as far as they are in these roots."""
        below = tuple(f"{root}/" for root in roots)
        ids = [
            model_id
            for model_id, said in self._deleted.items()
            if any(p in roots or p.startswith(below) for p in said["places"])
        ]
        if ids:
            await self._store.write_documents(DELETED, {}, ids)
            self._deleted = {k: v for k, v in self._deleted.items() if k not in ids}

    async def departed(self, models: Iterable[Model]) -> None:
        """Their files are gone; if they come back, the entries do."""
        put = {m.identity: m.as_dict() for m in models if m.identity}
        departed = {**{k: v for k, v in self._departed.items() if k not in put}, **put}
        drop = list(departed)[: max(0, len(departed) - MAX_DEPARTED)]
        await self._store.write_documents(DEPARTED, put, drop)
        self._departed = {k: v for k, v in departed.items() if k not in drop}

    async def scan(self, paths: Sequence[str], how: Looking, tell: Tell) -> None:
        """Look through some of the roots, side by side; each says itself how that went."""
        tasks = [asyncio.ensure_future(self._scan(path, how, tell)) for path in paths]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _scan(self, path: str, how: Looking, tell: Tell) -> None:
        async with self._room:
            before = self._reports.get(path)
            if before is None:
                return
            began = self._wall()
            await self._put(dataclasses.replace(before, state="scanning", reason=""))
            known = before.edition == edition()
            looked = _Look(self._found if known else {}, before.root, how)
            state: RootState = "unreadable"
            reason = ""
            result: Mapping[str, Any] = {}
            try:
                result = await looked.run(tell)
                state, reason = _judged(before, result, any(self._of(path)))
            except Hung as e:
                state, reason = "hung", str(e)
            except ModelPoolError as e:
                reason = e.message
            except asyncio.CancelledError:
                await asyncio.shield(self._put(before))
                raise
            await self._ended(before, looked, state, reason, began, result)

    def _of(self, root: str) -> Iterable[str]:
        return (path for path, finding in self._found.items() if finding.root == root)

    async def _ended(
        self,
        before: RootReport,
        looked: _Look,
        state: RootState,
        reason: str,
        began: float,
        result: Mapping[str, Any],
    ) -> None:
        now, path = self._wall(), before.root.path
        if path not in self._reports:  # forgotten meanwhile
            return
        is_whole = state == "ready"
        told = {p: f for p, f in looked.found.items() if self._is_told(f, before.root)}
        found = {p: f for p, f in told.items() if self._is_of(p, path)}
        gone = [p for p in self._of(path) if is_whole and looked.is_gone(p)]
        await self._take(found, gone)
        counts = {k: result.get(k, 0) for k in ("folders", "entries", "files_read")}
        report = dataclasses.replace(
            before,
            state=state,
            reason=reason,
            source=result.get("source", before.source),
            tried_at=now,
            seconds=round(now - began, 3),
            looked_at=now if is_whole else before.looked_at,
            device=result["device"] if is_whole else before.device,
            edition=edition() if is_whole else before.edition,
            **counts,
        )
        if before.root.only_models:
            report = without_the_rest(report, has_models=bool(told))
            state, reason = report.state, report.reason
        await self._put(report)
        if reason and (before.state, before.reason) != (state, reason):
            log.warning("%s cannot be looked through: %s", path, reason)
            self._publish("discovery-failed", path=path, state=state, reason=reason)

    def _is_told(self, finding: Finding, root: Root) -> bool:
        """What was told of once is, when it breaks: its model stays, with the reason."""
        return not root.only_models or finding.kind in MODELS or finding.path in self._found

    def _is_of(self, path: str, root: str) -> bool:
        """Of roots within each other the first has what is in both."""
        known = self._found.get(path)
        if known is None or known.root == root or known.root not in self._reports:
            return True
        order = list(self._reports)
        return order.index(root) < order.index(known.root)

    async def _put(self, report: RootReport) -> None:
        self._reports[report.root.path] = report
        if report.state != "scanning":
            await self._write(ROOTS, {report.root.path: report.as_dict()})

    async def _take(self, found: Mapping[str, Finding], gone: Collection[str]) -> None:
        new = {p: f for p, f in found.items() if self._found.get(p) != f}
        drop = [p for p in gone if p in self._found and p not in new]
        if new or drop:
            await self._write(FINDINGS, {p: f.as_dict() for p, f in new.items()}, drop)
        self._found.put(new)
        for path in drop:
            self._found.drop(path)

    async def _write(self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()) -> None:
        """What is not written down is found anew by the next manager."""
        try:
            await self._store.write_documents(kind, put, drop)
        except StoreError as e:
            log.warning("what was found is not written down: %s", e)


class _Look:
    """One look through one root, in a process of its own."""

    def __init__(self, known: Mapping[str, Finding], root: Root, how: Looking) -> None:
        self._known = {p: f for p, f in known.items() if f.root == root.path}
        self._root = root
        self._how = how
        self._heard = 0.0
        self.found: dict[str, Finding] = {}

    async def run(self, tell: Tell) -> Mapping[str, Any]:
        """What the process counted.

        Raises:
            Hung: it said nothing for too long.
            ModelPoolError: the root cannot be read, or the process died.
        """
        request = {
            "root": self._root.path,
            "source": self._root.source,
            "known": {p: f.stamp for p, f in self._known.items() if f.stamp},
            "calm_seconds": self._how.calm_seconds,
            "left_out": sorted(self._how.left_out),
        }
        loop = asyncio.get_running_loop()
        self._heard = loop.time()

        def on_message(message: Mapping[str, Any]) -> None:
            self._heard = loop.time()
            self._take(message)
            if "progress" in message and not self._root.only_models:
                tell(self._root.path, message["progress"])

        running = asyncio.ensure_future(run_process(SCANNER, request, on_message))
        try:
            while not running.done():
                left = self._heard + self._how.stall_seconds - loop.time()
                if left <= 0:
                    raise Hung(f"did not answer for {self._how.stall_seconds:g} s")
                await asyncio.wait({running}, timeout=left)
            result: Mapping[str, Any] = running.result()
            return result
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _take(self, message: Mapping[str, Any]) -> None:
        for data in message.get("found", ()):
            finding = Finding.from_dict(data)
            self.found[finding.path] = finding
        for same in message.get("same", ()):
            known = self._known[same["path"]]
            self.found[known.path] = updated(known, Same(**same))

    def is_gone(self, path: str) -> bool:
        """What lies in a folder that could not be read is not gone by that."""
        if path in self.found:
            return False
        unread = [p for p, f in self.found.items() if f.kind == "broken" and not f.format]
        return not any(path.startswith(f"{p}/") for p in unread)


def _looked(root: Root) -> tuple[str, bool]:
    """What a look depends on. PURE."""
    return root.source, root.only_models


def without_the_rest(report: RootReport, *, has_models: bool) -> RootReport:
    """Without what tells whether a folder is there, and what in it is no model. One that hangs
    tells so by hanging. PURE."""
    told = dataclasses.replace(report, folders=0, entries=0, files_read=0)
    if has_models or report.state == "hung":
        return told
    source = report.root.source
    told = dataclasses.replace(told, looked_at=None, device=0, source=source)
    return dataclasses.replace(told, state="unreadable", reason=NO_MODEL)


def _judged(
    before: RootReport, result: Mapping[str, Any], has_known: bool
) -> tuple[RootState, str]:
    """Whether a look tells what is there. PURE."""
    is_other = before.device not in (0, result["device"])
    if has_known and not result["entries"] and is_other:
        return "unreadable", "is empty and on another file system than before: is it mounted?"
    return "ready", ""
