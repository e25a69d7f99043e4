"""The fake engine's prompt cache: the words of each prompt, which it claims to have read before."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from typing import Any

from modelpool_client.wire_base import PromptCacheLimits

from modelpool_worker.engine import EngineJob
from modelpool_worker.prompt_cache.store import (
    TOKEN_BYTES,
    PromptStore,
    clear,
    key_of,
    shared_tokens,
)

# It reads as many words in a second.
PREFILL_RATE = 100.0


class FakePrompts:
    """Every prompt so far, also those of a former load that were kept."""

    def __init__(self, store: PromptStore, options: Mapping[str, Any]) -> None:
        self._store = store
        self._options = options
        self._prompts: dict[bytes, None] = {}
        self._kept: set[bytes] = set()
        for entry in store.entries():
            if (name := store.take(entry)) is not None:
                self._kept.add(_words_of(store.path(name)))
                store.put_back(entry, name)
        self._prompts.update(dict.fromkeys(self._kept))

    @classmethod
    def of(cls, job: EngineJob) -> FakePrompts | None:
        """None where none are to be kept; former ones are removed then."""
        if not job.prompt_cache_dir:
            return None
        if not (job.options.get("keep_prompts") and job.prompt_cache_limits.max_bytes):
            clear(job.prompt_cache_dir)
            return None
        key = key_of({"model": job.model_id, "source": job.source, "options": job.options})
        store = PromptStore(job.prompt_cache_dir, job.worker_id, key, _words_of)
        return cls(store, job.options) if store.open() else None

    def take(self, prompt: str) -> int:
        """How many of its first words were in a prompt before; from now on all are."""
        tokens = b"".join(zlib.crc32(w.encode()).to_bytes(TOKEN_BYTES) for w in prompt.split())
        found = max((shared_tokens(tokens, known) for known in self._prompts), default=0)
        self._prompts[tokens] = None
        return found

    def save(self, limits: PromptCacheLimits) -> None:
        """Keep those that are not kept yet, each in a file that holds nothing but its words."""
        self._store.open()  # it may have been removed since the load
        for number, tokens in enumerate(t for t in self._prompts if t not in self._kept):
            if not self._store.make_room(len(tokens), limits.max_bytes):
                continue
            if (name := self._store.begin(number)) is not None:
                with open(self._store.path(name), "wb") as f:
                    f.write(tokens)
                time.sleep(self._options.get("save_seconds", 0))
                self._store.publish(name, PREFILL_RATE, time.time())


def _words_of(path: str) -> bytes:
    with open(path, "rb") as f:
        return f.read()
