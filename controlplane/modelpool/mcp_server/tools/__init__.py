"""The tools, in the order in which they are listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelpool.mcp_server.tools import catalog, inference, lifecycle, pulls
from modelpool.mcp_server.tools.contract import Tool

_ALL: tuple[Tool[Any, Any], ...] = (
    *catalog.TOOLS,
    *lifecycle.TOOLS,
    *pulls.TOOLS,
    *inference.TOOLS,
)
# By name.
TOOLS: Mapping[str, Tool[Any, Any]] = {tool.name: tool for tool in _ALL}
