"""The commands that stand in the docs, and what is said of them.

A comment before a block says why no test runs it as it stands, ``<!-- needs: etcd -->``, or which
one does, ``<!-- run by tests/e2e/test_plugin.py -->``; before the first heading's text the latter
counts for all blocks of the page. All others are run by ``test_docs_commands``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = ("sh", "console", "python")
# A language by any of these names is one of those; it is to be called so.
OTHERS = ("bash", "shell", "zsh", "shell-session", "py", "py3", "python3", "text", "")
_COMMAND = re.compile(r"\s*(\$ |sudo |export |(poolctl|modelpool|curl|pip|make) [a-z-])")
_FENCE = re.compile(r"^```(\S*)\s*$")
_MARK = re.compile(r"<!-- (needs: |run by )(.+?) -->")


@dataclass(frozen=True)
class Block:
    """Commands of a page.

    Attributes:
        page: from the root of the repository.
        line: of the first command.
        needs: what a test of it would have to have.
        run_by: the file of the test that runs it.
    """

    page: str
    line: int
    kind: str
    text: str
    needs: str = ""
    run_by: str = ""

    @property
    def is_run(self) -> bool:
        """By the test of all that nothing is said of."""
        return not self.needs and not self.run_by

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """The README and all below docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path) -> list[Block]:
    """Those of a page that are commands, or look like such."""
    text = path.read_text(encoding="utf-8")
    head = re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0].split("\n\n")[0]
    whole = _MARK.search(head)
    run_by = whole[2] if whole and whole[1] == "run by " else ""
    found = []
    for line, mark, kind, body in _bodies(text.split("\n")):
        said = _MARK.search(mark)
        if kind not in RUN and not (kind in OTHERS and _COMMAND.match(body)):
            continue
        needs = said[2] if said and said[1] == "needs: " else ""
        own = said[2] if said and said[1] == "run by " else run_by
        page = str(path.relative_to(ROOT))
        found.append(Block(page, line, kind, body, needs, "" if needs else own))
    return found


def _bodies(lines: list[str]) -> Iterator[tuple[int, str, str, str]]:
    """Of each block its first line, what stands before it, its language and its text. An indented
    block of commands is one of a shell."""
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        before = next((line for line in reversed(lines[:at]) if line.strip()), "")
        begin = at
        if fence:
            at += 1
            while at < len(lines) and lines[at].rstrip() != "```":
                at += 1
            yield begin + 2, before, fence[1], "\n".join(lines[begin + 1 : at]) + "\n"
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            while at < len(lines) and lines[at].startswith("    "):
                at += 1
            body = "\n".join(line[4:] for line in lines[begin:at]) + "\n"
            if _COMMAND.match(body):
                yield begin + 1, before, "sh", body
            continue
        at += 1
