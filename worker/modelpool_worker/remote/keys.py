"""The key of a server elsewhere: where it comes from, and how no text ever shows it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from modelpool_client.errors import LoadFailed

MASK = "[key]"
# So many characters of a key in a row are as good as the key.
TELLING = 8
# How providers quote a key that they refuse: sk-ab***********9xyz.
_STARRED = re.compile(r"[A-Za-z0-9_\-]*\*{3,}[A-Za-z0-9_\-]*")


class Key:
    """Read again when its file has changed, so that a key can be renewed while a worker runs.

    Attributes:
        place: where it comes from, for people.
    """

    def __init__(
        self, environment: Mapping[str, str], variables: Sequence[str] = (), file: str = ""
    ) -> None:
        """
        Args:
            variables: of the environment, the first that is set counts.
            file: holds it, and nothing else; counts before any variable.
        """
        self._file = os.path.expanduser(file)
        self._seen: tuple[int, int, int] | None = None
        found = next((name for name in variables if environment.get(name)), "")
        self._value = _checked(environment.get(found, ""), f"environment variable {found}")
        if file:
            self.place = f"file {file}"
        else:
            self.place = f"environment variable {found or ' or '.join(variables)}"

    def __repr__(self) -> str:
        return f"<Key from {self.place}>"

    @property
    def value(self) -> str:
        """Empty where there is none.

        Raises:
            LoadFailed: its file cannot be read, or holds no key (``bad_config``).
        """
        if self._file:
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            found = os.stat(self._file)
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                with open(self._file, encoding="utf-8") as file:
                    self._value = _checked(file.read(), self.place)
                self._seen = seen
        except (OSError, UnicodeDecodeError) as e:
            why = e.strerror if isinstance(e, OSError) else "it is no text"
            text = f"the key's {self.place} cannot be read: {why}"
            raise LoadFailed(text, code="bad_config", param="api_key_file") from None
        if not self._value:
            text = f"the key's {self.place} is empty"
            raise LoadFailed(text, code="bad_config", param="api_key_file")

    def mask(self, text: str) -> str:
        """The text without the key, and without parts of it that would tell it."""
        return mask(text, self._value)


def mask(text: str, key: str) -> str:
    """PURE. ``text`` without ``key``, without any ``TELLING`` characters of it in a row, and
    without what looks like a key that somebody has starred out."""
    text = _STARRED.sub(MASK, text)
    if not key:
        return text
    text = text.replace(key, MASK)
    if len(key) <= TELLING:
        return text
    at = 0
    pieces = {key[i : i + TELLING] for i in range(len(key) - TELLING + 1)}
    while at + TELLING <= len(text):
        end = at
        while text[end : end + TELLING] in pieces:
            end += 1
        if end == at:
            at += 1
            continue
        text = text[:at] + MASK + text[end + TELLING - 1 :]
        at += len(MASK)
    return text


def _checked(text: str, place: str) -> str:
    value = text.strip()
    if not value.isascii() or not value.isprintable() or " " in value:
        text = f"the key from {place} holds characters that no key has"
        raise LoadFailed(text, code="bad_config", param="api_key_variable")
    return value
