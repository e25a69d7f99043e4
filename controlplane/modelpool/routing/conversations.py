"""Which model conversations are with, and how much of each it has read. Of those that were quiet
longest nothing is known any more."""

from __future__ import annotations

from collections import OrderedDict

from .decision import Conversation
from .request import RouteRequest

MOST = 10_000


class Conversations:
    """Written by who runs plans; readable at any time from the event loop."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: OrderedDict[tuple[str, str], Conversation] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Conversations {len(self._known)}>"

    def __len__(self) -> int:
        return len(self._known)

    def of(self, request: RouteRequest) -> Conversation | None:
        """That which a request goes on with; None where it begins one, or nothing is known."""
        return self._known.get(_key(request)) if request.conversation else None

    def note(self, request: RouteRequest, model_id: str, tokens: int) -> None:
        """A model has answered; ``tokens`` is what it has read for that."""
        if not request.conversation:
            return
        key = _key(request)
        self._known[key] = Conversation(model_id, tokens)
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)


def _key(request: RouteRequest) -> tuple[str, str]:
    # Keys of others never lead to a conversation, whatever it is called.
    return request.key, request.conversation
