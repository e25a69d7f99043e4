"""The site of docs/, as mkdocs builds it: which page is in which section, and what becomes of links
to files that are no pages. A hook of mkdocs; tests read the sections, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
MORE = "More"
# In their order; a page that is not there yet is left out. A page in no section is in "More", and
# fails a test.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Begin": (
        "index.md",
        "start.md",
        "web-page.md",
        "pull.md",
        "discovery.md",
    ),
    "Use it from": (
        "editors.md",
        "chat-pages.md",
        "agents.md",
        "sdks.md",
        "mcp.md",
        "websocket.md",
    ),
    "Come from": (
        "from-ollama.md",
        "from-llama-swap.md",
        "from-lm-studio.md",
    ),
    "Models": (
        "engines.md",
        "batching.md",
        "devices.md",
        "tuning.md",
        "capabilities.md",
        "environments.md",
        "speech.md",
        "ollama.md",
        "remote.md",
    ),
    "Names and routing": (
        "routing.md",
        "router.md",
        "router/README.md",
        "ensembles.md",
    ),
    "Operate": (
        "operations.md",
        "security.md",
        "usage.md",
        "alerts.md",
        "observability.md",
        "jobs.md",
        "service-discovery.md",
        "proxies.md",
    ),
    "Reference": (
        "config.md",
        "cli.md",
        "api.md",
        "parameters.md",
    ),
    "Inside": (
        "concepts.md",
        "lifecycle.md",
        "protocol.md",
        "plugin.md",
        "benchmarks.md",
        "benchmarks/README.md",
        "testing.md",
        "chaos.md",
    ),
}
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)


def pages(folder: Path = DOCS) -> list[str]:
    """Every page that there is."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.md"))


def navigation(there: Iterable[str]) -> list[dict[str, list[str]]]:
    """PURE. The sections with the pages that there are."""
    found = set(there)
    sections = {name: [page for page in own if page in found] for name, own in SECTIONS.items()}
    sections[MORE] = in_no_section(found)
    return [{name: own} for name, own in sections.items() if own]


def in_no_section(there: Iterable[str]) -> list[str]:
    """PURE. Pages that nobody has put anywhere."""
    known = {page for own in SECTIONS.values() for page in own}
    return sorted(set(there) - known)


def with_links(text: str, page: str) -> str:
    """PURE. The page without links that lead out of docs/: what they say, and the file that they
    name."""
    parts = _FENCE.split(text)
    return "".join(part if i % 2 else _plain_links(part, page) for i, part in enumerate(parts))


def _plain_links(text: str, page: str) -> str:
    def shown(found: re.Match[str]) -> str:
        label, target = found[1], found[2].partition("#")[0]
        if not target or "://" in target or target.startswith(("mailto:", "#")):
            return found[0]
        path = _path(PurePosixPath(page).parent, target)
        if path is not None:
            return found[0]
        outside = str(PurePosixPath(target)).removeprefix("../").removeprefix("../")
        said = label.strip("`")
        is_said = said == outside or (outside.endswith(f"/{said}") and said.count("/") > 0)
        return label if is_said else f"{label} (`{outside}`)"

    return _LINK.sub(shown, text)


def _path(folder: PurePosixPath, target: str) -> PurePosixPath | None:
    """Within docs/; None where it leads out of it."""
    parts: list[str] = []
    for part in (*folder.parts, *PurePosixPath(target).parts):
        if part != "..":
            parts.append(part)
        elif not parts:
            return None
        else:
            parts.pop()
    return PurePosixPath(*parts)


# -- what mkdocs calls ----------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    """The navigation."""
    config.nav = navigation(pages(Path(config.docs_dir)))
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A page's links."""
    return with_links(markdown, page.file.src_uri)
