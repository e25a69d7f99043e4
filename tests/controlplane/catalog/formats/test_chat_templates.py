"""Chat templates as their files have them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from modelpool.catalog.formats.chat_templates import chat_template
from modelpool.catalog.formats.gguf_header import read_header

DEMO = Path(__file__).parents[4] / "configs" / "models" / "pool-demo.gguf"


def test_of_a_file_whatever_it_is_called(tmp_path: Path) -> None:
    text = read_header(DEMO).values["tokenizer.chat_template"]
    assert "{%" in text
    shutil.copy(DEMO, blob := tmp_path / "sha256-abc")
    assert chat_template(str(DEMO)) == chat_template(str(blob)) == text


def test_of_a_folder(tmp_path: Path) -> None:
    assert chat_template(str(tmp_path)) == ""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "within"}))
    assert chat_template(str(tmp_path)) == "within"
    (tmp_path / "chat_template.jinja").write_text("own")
    assert chat_template(str(tmp_path)) == "own"


@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"GGUF" + b"\xff" * 99, b"PK" * 50])
def test_of_what_cannot_be_read(
    tmp_path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "model.gguf").write_bytes(content)
    assert chat_template(str(tmp_path / "model.gguf")) == ""
    (tmp_path / "tokenizer_config.json").write_text("[")
    assert chat_template(str(tmp_path)) == ""
    monkeypatch.chdir(DEMO.parent)
    assert chat_template(DEMO.name) == "", "a name at a provider may be one of a file, too"
