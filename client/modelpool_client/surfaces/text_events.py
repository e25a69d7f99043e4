"""PURE. Events of a stream that differ in a text only: all else of them is written once."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii

# A text as JSON, without an encoder that finds out first that it is one.
quoted = encode_basestring_ascii
_NO_TEXT = '""'


class TextEvents:
    """Those like ``told``, in which the text is empty and the last empty one."""

    def __init__(self, told: str) -> None:
        self._before, _, self._after = told.rpartition(_NO_TEXT)

    def of(self, text: str) -> str:
        """The event with that text."""
        return f"{self._before}{quoted(text)}{self._after}"
