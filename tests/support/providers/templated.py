"""An API of its own kind, as somebody's own server may have one."""

from __future__ import annotations

import json

from .server import KEY, Answer, Asked


class OwnApi:
    """``POST /generate/MODEL`` with ``{"q", "limit"?, "turns"?, "live"}``, a key in ``token``."""

    def answer(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer(body={"ok": True})
        if asked.headers.get("token") != KEY:
            return Answer(403, {"fault": f"token {asked.headers.get('token')} is not known"})
        body = asked.json
        unknown = sorted(body.keys() - {"q", "limit", "turns", "live", "warmth"})
        if unknown or not isinstance(body.get("q"), str):
            return Answer(400, {"message": f"bad fields: {unknown}"})
        if body["q"] == "fail":
            return Answer(body={"fault": {"why": "it was told to"}})
        if not body.get("live"):
            return Answer(body={"results": [{"text": body["q"]}], "used": {"in": 2, "out": 3}})
        lines = [{"t": word} for word in body["q"].split(" ")]
        pieces = [json.dumps(line).encode() + b"\n" for line in [*lines, {"end": True}]]
        return Answer(pieces=pieces, headers={"content-type": "application/x-ndjson"})
