"""The text of a model's chat template, of which ``ModelInfo`` has but a digest."""

from __future__ import annotations

from pathlib import Path

from modelpool.catalog.errors import BadModelFile

from .files import read_object
from .gguf import TEMPLATE
from .gguf_header import read_header
from .transformers_folder import read_templates


def chat_template(source: str) -> str:
    """The one in use of a GGUF file, whatever it is called, or of a folder; empty where there is
    none, or nothing that can be read.

    Takes as long as to read all that a file says: not for the event loop.
    """
    path = Path(source)
    if not path.is_absolute():  # a name at a provider
        return ""
    try:
        if path.is_dir():
            return next(iter(read_templates(path, read_object(path / "tokenizer_config.json"))), "")
        text = read_header(path).values.get(TEMPLATE)
    except (BadModelFile, OSError):
        return ""
    return text if isinstance(text, str) else ""
