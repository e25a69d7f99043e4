"""Reading and writing the JSON that commands take and give."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from modelpool_client.cli.session import refuse

STDIO = Path("-")


def read_json(path: Path) -> Any:
    """The document in a file; ``-`` is standard input.

    Raises:
        InvalidRequest: it cannot be read, or is no JSON.
    """
    try:
        text = sys.stdin.read() if path == STDIO else path.read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as e:
        raise refuse(f"cannot read {path}: {e.strerror}") from e
    except ValueError as e:
        raise refuse(f"{path} is not JSON: {e}") from e


def write_json(path: Path, document: Any) -> None:
    """Write a document to a file.

    Raises:
        InvalidRequest: it cannot be written.
    """
    try:
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as e:
        raise refuse(f"cannot write {path}: {e.strerror}") from e


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """``key=value`` texts as a mapping; values are JSON where they read as such, else text."""
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
        values[key] = value
        with suppress(ValueError):
            values[key] = json.loads(value)
    return values
