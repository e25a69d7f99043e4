"""What ``auto`` may know: the table of models as they are now, tags, and conversations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .conversations import Conversations
from .decision import Conversation
from .pool_table import PoolTable
from .request import RouteRequest
from .table import Table


class Router:
    """See ``kinds.auto.Facts``. Looking is cheap; what changes is taken in when it is looked at."""

    def __init__(
        self,
        table: PoolTable,
        conversations: Conversations,
        refused: Callable[[], Mapping[str, str]] = dict,
        keep_up: Callable[[], object] = lambda: None,
    ) -> None:
        """``refused`` gives the entries whose workers or servers fail now, with the reason;
        ``keep_up`` has the table told what was learned."""
        self._keep_up = keep_up
        self._refused = refused
        self._table = table
        self._conversations = conversations

    def __repr__(self) -> str:
        return f"<Router {self._table!r} {self._conversations!r}>"

    def table(self) -> Table:
        """All models that requests can be for."""
        self._keep_up()
        return self._table.current()

    @property
    def tagged(self) -> Mapping[str, frozenset[str]]:
        """Ids by tag."""
        return self._table.tagged

    def refused(self) -> Mapping[str, str]:
        """Why others had better be asked, by entry: a model, or who serves several."""
        return self._refused()

    def conversation(self, request: RouteRequest) -> Conversation | None:
        """That which a request goes on with."""
        return self._conversations.of(request)
