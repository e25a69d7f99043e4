"""The LoRA adapters of the model, and how far each is in force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelpool_client.surfaces import adapters
from modelpool_client.surfaces.openai import Completion
from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH

_WRITING = frozenset({CHAT_PATH, TEXT_PATH, "/completion", "/infill"})


class Adapters:
    """``told``: name and scale of each, by their ids, as ``Status.ready`` has them."""

    def __init__(self, told: Sequence[Mapping[str, Any]] = ()) -> None:
        self.names = [str(adapter["name"]) for adapter in told]
        self._scales = {n: float(adapter["scale"]) for n, adapter in enumerate(told)}

    def __bool__(self) -> bool:
        return bool(self.names)

    def scaled(self, scales: Iterable[Mapping[str, Any]]) -> None:
        """These count from now on; those that are not named are off."""
        self._scales = {each["id"]: each["scale"] for each in scales}

    def told(self, path: str, completion: Completion) -> Completion:
        """The request with a scale for each.

        llama.cpp forgets what it made of a prompt with other scales only for requests that say
        theirs: another one would be answered by what was cached for who asked before.

        Raises:
            InvalidRequest: it scales one that is not there.
        """
        if path not in _WRITING:
            return completion
        body = completion.body
        if body.get(adapters.PARAMETER) is not None:
            return replace(completion, body=adapters.of_request(body, self.names), raw=None)
        if not self.names:
            return completion
        scales = [{"id": n, "scale": scale} for n, scale in self._scales.items()]
        return replace(completion, body={**body, adapters.PARAMETER: scales}, raw=None)
