"""PURE: the form of a concern's table: which function decides on which kind of message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelpool.pool.commands import Command
from modelpool.pool.context import Context
from modelpool.pool.replica import Replica

Handler = Callable[[Replica, Any, Context], list[Command]]
Handlers = Mapping[type, Handler]
