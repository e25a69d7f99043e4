"""Look for models on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelpool_client.errors import InvalidRequest

from modelpool.catalog.model import did_you_mean, printable
from modelpool.catalog.sources.registry import sources
from modelpool.discovery.adopt import summary
from modelpool.discovery.roots import Root, given_path
from modelpool.discovery.watching import look, roots_of
from modelpool.homes import expanded
from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import Lane
from modelpool.providers.discover import discover, providers_to_ask
from modelpool.services import Services

KEYS = ("paths", "restore")
MAX_PATHS = 100


def make(services: Services) -> Discover:
    """For the pool that these are of."""
    return Discover(services)


class Discover:
    """Its subject is what is looked through. It goes on by beginning again: what was read is
    known."""

    name = "discover"
    lane = Lane("discover")
    is_resumable = True
    retries = 0
    model_events = False

    def __init__(self, services: Services) -> None:
        self._services = services

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        """``paths``: folders or files, each a text or {"path", "source"}; all roots where it is
        left out. ``restore``: bring back models that were deleted."""
        for key in data.keys() - set(KEYS):
            raise InvalidRequest(f"{key} is unknown{did_you_mean(str(key), KEYS)}", param=str(key))
        restore = data.get("restore", False)
        if not isinstance(restore, bool):
            raise InvalidRequest("restore must be true or false", param="restore")
        given = data.get("paths")
        params: dict[str, Any] = {"restore": restore}
        if given is None:
            known = {**roots_of(self._services.pool.config), **self._services.discovery.reports}
            if not known and not providers_to_ask(self._services):
                text = "there is nothing to look through: name paths, or set discovery_paths"
                raise InvalidRequest(text, param="paths", code="no_discovery_paths")
            return JobRequest("all", params)
        if not isinstance(given, list) or not 0 < len(given) <= MAX_PATHS:
            raise InvalidRequest(f"paths must be a list of 1 to {MAX_PATHS}", param="paths")
        roots = [_root(each) for each in given]
        params["paths"] = [{"path": r.path, "source": r.source} for r in roots]
        return JobRequest(", ".join(r.path for r in roots), params)

    async def run(self, context: Context) -> Mapping[str, Any]:
        """Look, and bring what is there into the catalog."""
        services, params = self._services, context.job.params
        discovery = services.discovery
        roots = [Root(p["path"], p["source"], is_asked=True) for p in params.get("paths", ())]
        paths = {root.path for root in roots} or None
        await discovery.ask(roots)
        if params["restore"]:
            await discovery.restore(paths or discovery.reports.keys())
        seen: dict[str, Mapping[str, int]] = {}

        def tell(path: str, counts: Mapping[str, int]) -> None:
            seen[path] = counts
            done = sum(c["entries"] for c in seen.values())
            models = sum(c["models"] for c in seen.values())
            context.progress(done, unit="files", text=f"{models} models in {path}")

        adopted = await look(services, paths, tell)
        reports = {p: r for p, r in discovery.reports.items() if paths is None or p in paths}
        findings = [f for f in discovery.findings if f.root in reports]
        for path, report in reports.items():
            context.log(f"{path}: {report.reason or report.state}")
        found = summary(adopted, findings, reports)
        if paths is not None:
            return found
        told = await discover(services)
        for name, about in told.items():
            context.log(f"{name}: {about['error'] or str(about['models']) + ' models'}")
        return {**found, "providers": told} if told else found


def _root(given: Any) -> Root:
    source = ""
    if isinstance(given, Mapping):
        if set(given) - {"path", "source"} or "path" not in given:
            raise InvalidRequest('paths must hold texts or {"path", "source"}', param="paths")
        source, given = given.get("source") or "", given["path"]
    if not isinstance(given, str):
        raise InvalidRequest(f"a path must be a text, not {type(given).__name__}", param="paths")
    if source and source not in sources():
        known = ", ".join(sources())
        raise InvalidRequest(f"there is no layout {source!r}; there are {known}", param="paths")
    try:
        return Root(given_path(expanded(given), str(Path.home())), source)
    except ValueError as e:
        raise InvalidRequest(f"the path {printable(given[:100])!r} {e}", param="paths") from None
