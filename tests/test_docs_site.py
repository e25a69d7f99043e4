"""The site of docs/ is built without a warning, and whoever reads it fetches nothing elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What a browser fetches by itself.
FETCHED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"?(https?:)?//")


@pytest.mark.slow
def test_the_site_is_whole_and_needs_no_internet(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")}
    assert made >= {"index.html", "start.html", "cli.html", "benchmarks/index.html"}
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        assert not FETCHED.search(text), page
        # Material fetches what draws these from elsewhere.
        assert 'class="mermaid"' not in text, page
    words = json.loads((tmp_path / "search" / "search_index.json").read_text())["docs"]
    assert any("llama-swap" in entry["text"] for entry in words)
    navigation = (tmp_path / "index.html").read_text()
    for section in ("Begin", "Come from", "Operate", "Reference"):
        assert section in navigation
