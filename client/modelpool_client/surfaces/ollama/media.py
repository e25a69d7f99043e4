"""PURE. What Ollama's clients call images, as parts of one of OpenAI's messages."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from modelpool_client.errors import InvalidRequest

# By their first bytes, (offset, bytes) each; libmagic's table says the same.
_IMAGES: tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...] = (
    ("image/png", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("image/jpeg", ((0, b"\xff\xd8\xff"),)),
    ("image/gif", ((0, b"GIF8"),)),
    ("image/webp", ((0, b"RIFF"), (8, b"WEBP"))),
    ("image/bmp", ((0, b"BM"),)),
)
# Of base64, enough for the first bytes.
_HEAD_CHARACTERS = 32


def media_part(text: str, where: str) -> dict[str, Any]:
    """An ``image_url`` with a data URL, or ``input_audio``: Ollama sends sound as an image, too.

    Raises:
        InvalidRequest: ``text`` is not base64, or of nothing that is known; ``param`` is ``where``.
    """
    plain = "".join(text.split()) if any(c in text for c in "\r\n \t") else text
    try:
        data = base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError) as e:
        raise InvalidRequest(f"{where} is not base64: {e}", param=where) from None
    if sound := _audio_format(data):
        return {"type": "input_audio", "input_audio": {"data": plain, "format": sound}}
    for kind, signs in _IMAGES:
        if all(data.startswith(sign, at) for at, sign in signs):
            url = f"data:{kind};base64,{plain}"
            return {"type": "image_url", "image_url": {"url": url}}
    text = f"{where} is no PNG, JPEG, GIF, WebP or BMP image, nor WAV or MP3"
    raise InvalidRequest(text, param=where)


def is_sound(text: str) -> bool:
    """Whether what is sent as an image is one; of what is no base64, nobody can tell."""
    start = text[:_HEAD_CHARACTERS]
    try:
        return _audio_format(base64.b64decode(start[: len(start) // 4 * 4])) is not None
    except ValueError:
        return False


def _audio_format(data: bytes) -> str | None:
    if data.startswith(b"RIFF") and data.startswith(b"WAVE", 8):
        return "wav"
    has_frame = len(data) >= 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0
    return "mp3" if has_frame or data.startswith(b"ID3") else None
