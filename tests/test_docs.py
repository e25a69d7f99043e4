"""The pages made from the code are those that the code makes, and links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import docs_site
import pytest
from support.doc_blocks import RUN, Block, blocks, pages

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_made_pages_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "gen_docs.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_every_page_is_in_a_section_of_the_site() -> None:
    """Else it is found by nobody: name it in SECTIONS of scripts/docs_site.py."""
    assert docs_site.in_no_section(docs_site.pages()) == []


def test_a_page_of_no_section_is_in_the_navigation_all_the_same() -> None:
    there = ["index.md", "start.md", "nobody-knows.md"]
    assert docs_site.navigation(there) == [
        {"Begin": ["index.md", "start.md"]},
        {"More": ["nobody-knows.md"]},
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[a](b.md#c)", "[a](b.md#c)"),
        ("[a](https://x.example)", "[a](https://x.example)"),
        ("[a](#b)", "[a](#b)"),
        ("[`x.py`](../worker/x.py)", "`x.py` (`worker/x.py`)"),
        ("[`pool/x.py`](../worker/pool/x.py)", "`pool/x.py`"),
        ("```\n[a](../b)\n```", "```\n[a](../b)\n```"),
    ],
)
def test_links_out_of_the_docs_name_the_file(text: str, shown: str) -> None:
    assert docs_site.with_links(text, "page.md") == shown
    assert docs_site.with_links("[a](../page.md)", "folder/README.md") == "[a](../page.md)"


COMMANDS = [block for page in pages() for block in blocks(page)]


def test_every_command_is_run_by_a_test_or_says_what_it_needs() -> None:
    """``test_docs_commands`` runs what nothing is said of, if it knows the language."""
    assert len(COMMANDS) > 50
    unrun = [str(b) for b in COMMANDS if b.is_run and b.kind not in RUN]
    assert unrun == [], "write the language as one of sh, console, python"


@pytest.mark.parametrize("block", [b for b in COMMANDS if b.run_by or "tests/" in b.needs], ids=str)
def test_the_test_that_runs_a_command_is_there(block: Block) -> None:
    named = re.findall(r"tests/[\w/]+\.py", f"{block.run_by} {block.needs}")
    assert named
    for test in named:
        assert (ROOT / test).exists(), f"{block} names {test}"
