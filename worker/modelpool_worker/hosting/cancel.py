"""Whether whoever asked still wants it: set by the loop that serves, read by what computes."""

from __future__ import annotations

from collections.abc import Callable


class Cancelled(Exception):
    """The work is wanted no more. What computes may raise it; nobody is told of it."""


class Cancel:
    """The token that goes with every request to a model. It is set once and stays set.

    Engines that compute step by step look at ``is_set`` before each step, and between the parts in
    which they read a prompt; engines that take many requests at once have ``then`` call them.
    """

    __slots__ = ("_callbacks", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._callbacks: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return "<Cancel: set>" if self.is_set else "<Cancel>"

    def set(self) -> None:
        """From the thread that serves: nothing more is wanted. A second time changes nothing."""
        if self.is_set:
            return
        self.is_set = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def then(self, callback: Callable[[], object]) -> None:
        """Have it called in the thread that serves when the token is set, or now if it is. To be
        asked in that thread only (``ContinuousText.submit`` runs there); it must be quick."""
        if self.is_set:
            callback()
        else:
            self._callbacks.append(callback)

    def check(self) -> None:
        """Go on only if it is still wanted.

        Raises:
            Cancelled: it is not.
        """
        if self.is_set:
            raise Cancelled
