"""PURE. What was heard, in the formats of OpenAI's transcriptions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .contract import Heard, Segment

JSON, TEXT = b"application/json", b"text/plain; charset=utf-8"


def told(form: str, task: str, segments: Sequence[Segment], heard: Heard) -> tuple[bytes, bytes]:
    """Content-Type and body of an answer: ``form`` is one of ``FORMATS``."""
    return FORMATS[form](task, segments, heard)


def _text(segments: Sequence[Segment]) -> str:
    return "".join(segment.text for segment in segments).strip()


def _json(task: str, segments: Sequence[Segment], heard: Heard) -> tuple[bytes, bytes]:
    usage = {"type": "duration", "seconds": round(heard.duration, 3)}
    return JSON, _dumped({"text": _text(segments), "usage": usage})


def _plain(task: str, segments: Sequence[Segment], heard: Heard) -> tuple[bytes, bytes]:
    return TEXT, f"{_text(segments)}\n".encode()


def _srt(task: str, segments: Sequence[Segment], heard: Heard) -> tuple[bytes, bytes]:
    blocks = [
        f"{i}\n{_clock(s.start, ',')} --> {_clock(s.end, ',')}\n{s.text.strip()}\n"
        for i, s in enumerate(segments, 1)
    ]
    return TEXT, "\n".join(blocks).encode()


def _vtt(task: str, segments: Sequence[Segment], heard: Heard) -> tuple[bytes, bytes]:
    blocks = [f"{_clock(s.start)} --> {_clock(s.end)}\n{s.text.strip()}\n" for s in segments]
    return TEXT, "\n".join(["WEBVTT\n", *blocks]).encode()


def _verbose(task: str, segments: Sequence[Segment], heard: Heard) -> tuple[bytes, bytes]:
    body: dict[str, Any] = {
        "task": task,
        "language": heard.language,
        "duration": heard.duration,
        "text": _text(segments),
        "segments": [
            {"id": i, "start": s.start, "end": s.end, "text": s.text}
            for i, s in enumerate(segments)
        ],
    }
    words = [word for segment in segments for word in segment.words]
    if words:
        body["words"] = [{"word": w.text, "start": w.start, "end": w.end} for w in words]
    return JSON, _dumped(body)


def _clock(seconds: float, point: str = ".") -> str:
    thousandths = round(seconds * 1000)
    rest, milli = divmod(thousandths, 1000)
    minutes, second = divmod(rest, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02}{point}{milli:03}"


def _dumped(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


FORMATS: Mapping[str, Callable[[str, Sequence[Segment], Heard], tuple[bytes, bytes]]] = {
    "json": _json,
    "text": _plain,
    "srt": _srt,
    "vtt": _vtt,
    "verbose_json": _verbose,
}
