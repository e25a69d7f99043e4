"""PURE. What the OpenAPI page says of ``/mcp``; the tools describe themselves by ``tools/list``."""

from __future__ import annotations

from typing import Any

from modelpool.mcp_server.endpoint import PATH

_JSON_RPC = {"type": "object", "required": ["jsonrpc"], "properties": {"jsonrpc": {"const": "2.0"}}}
_ANSWER = {"application/json": {"schema": _JSON_RPC}}
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}
_VERSION = {
    "name": "mcp-protocol-version",
    "in": "header",
    "schema": {"type": "string"},
    "description": "Revision of the protocol, for example 2026-07-28",
}
_RESPONSES = {
    "200": {
        "description": "A result or an error of the call, after notifications if it is a stream",
        "content": {**_ANSWER, **_STREAM},
    },
    "202": {"description": "A notification was taken"},
    "400": {"description": "It is no message of the protocol", "content": _ANSWER},
    "404": {"description": "There is no such method", "content": _ANSWER},
    "406": {
        "description": "Accept must name application/json and text/event-stream",
        "content": {"application/json": {}},
    },
}
# By path, as OpenAPI has it.
PATHS: dict[str, Any] = {
    PATH: {
        "post": {
            "tags": ["mcp"],
            "summary": "Model Context Protocol (streamable HTTP): the pool as tools",
            "parameters": [_VERSION],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _JSON_RPC}},
            },
            "responses": _RESPONSES,
        }
    }
}
