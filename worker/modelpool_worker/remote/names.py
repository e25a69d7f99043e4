"""PURE. What the models of one worker are called here, and what they are called there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelpool_client.errors import InvalidRequest, ModelNotFound
from modelpool_client.surfaces.names import other_spelling


@dataclass
class Names:
    """The names of a worker's models. Those of a provider change while the worker runs.

    Attributes:
        model_id: of the worker's own catalog entry: a model, or a provider.
        source: the model's name there; of a provider none.
        models: of a provider, the names there; each is ``model_id:NAME`` here.
        is_open: whatever else the provider has may be asked for, too.
    """

    model_id: str
    source: str = ""
    models: Sequence[str] = field(default=())
    is_open: bool = False

    @classmethod
    def of(cls, model_id: str, source: str, options: Mapping[str, Any]) -> Names:
        """Those of a job. It is a provider's where its options have ``models`` or ``discover``."""
        models, discover = options.get("models"), bool(options.get("discover"))
        if models is None and not discover:
            return cls(model_id, source)
        return cls(model_id, "", tuple(models or ()), discover)

    def become(self, models: Sequence[str], *, is_open: bool) -> None:
        """A provider serves these from now on, by their names there."""
        self.models, self.is_open = models, is_open

    @property
    def is_provider(self) -> bool:
        return not self.source

    @property
    def served(self) -> list[str]:
        """Names here of a provider's models."""
        return [f"{self.model_id}:{name}" for name in self.models]

    def there(self, name: object) -> str:
        """What a request's ``model`` is called there.

        Raises:
            ModelNotFound: nobody is called that, with those who are.
            InvalidRequest: a provider has several, and none is named.
        """
        if not self.is_provider:
            return self.source
        if name is None or name == self.model_id:
            if len(self.models) == 1 and not self.is_open:
                return self.models[0]
            text = f"{self.model_id} serves several models: name one as {self.model_id}:NAME"
            raise InvalidRequest(f"{text}; {self._known()}", param="model", source="worker")
        said = str(name)
        plain = said.removeprefix(f"{self.model_id}:")
        for spelling in (plain, other_spelling(plain) or plain):
            if spelling in self.models:
                return spelling
        if self.is_open:
            return plain
        text = f"{self.model_id} serves no model {said[:200]!r}; {self._known()}"
        raise ModelNotFound(text, param="model", source="worker")

    def knows(self, name: str) -> bool:
        """Whether a provider serves a model that is called that here."""
        if not self.is_provider:
            return False
        head, colon, plain = name.partition(":")
        if head != self.model_id or not colon:
            plain = name
        spellings = (plain, other_spelling(plain) or plain)
        return any(s in self.models for s in spellings) or (self.is_open and plain != name)

    def _known(self) -> str:
        shown = ", ".join(self.served[:20]) or "none"
        more = len(self.models) - 20
        return f"there are: {shown}" + (f" and {more} more" if more > 0 else "")
