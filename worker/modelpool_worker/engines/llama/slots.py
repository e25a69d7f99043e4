"""The prompt caches of llama.cpp's slots, written and read by its own HTTP server.

A slot holds one conversation: its tokens and their KV cache. The server saves a slot to a file and
restores one from it; a request then finds the slot by its longest common prefix, as ever. It checks
next to nothing of what it restores and aborts on a truncated file, so that only files come to it
whose checksum and key are right.
"""

from __future__ import annotations

import json
import os
import re
import struct
import sys
import time
from typing import Any

from modelpool_client.wire_base import PromptCacheLimits

from modelpool_worker.engines.local_client import LocalClient
from modelpool_worker.prompt_cache.store import TOKEN_BYTES, Entry, PromptStore
from modelpool_worker.prompt_cache.worth import (
    Throughput,
    is_worth_restoring,
    is_worth_saving,
)

# What a file begins with, in 32 bits each: magic, version, the length of a list; the list, which is
# its mark, its version, the number of tokens, the tokens, and what else a prompt may hold.
_HEAD = struct.Struct("<6I")
_LIST_MARK = 0xFFFF_FFFF
# By which the times of those that were saved together differ, so that their order is known.
_APART_SECONDS = 0.001
_TROUBLE = (OSError, ValueError, KeyError, TypeError)


class SlotServer:
    """llama.cpp's HTTP server on its unix socket, asked from within its own process."""

    def __init__(self, path: str) -> None:
        self._path = path

    def slots(self, timeout: float) -> list[dict[str, Any]]:
        """Every slot, as the server tells it."""
        found: list[dict[str, Any]] = json.loads(self._ask("GET", "/slots", None, timeout))
        return found

    def prefill_rate(self, timeout: float) -> float:
        """Tokens per second of all prompts so far; 0 where there was none."""
        text = self._ask("GET", "/metrics", None, timeout).decode()
        tokens, seconds = (
            float(match[1]) if (match := re.search(rf"^llamacpp:{name} (\S+)$", text, re.M)) else 0
            for name in ("prompt_tokens_total", "prompt_seconds_total")
        )
        return tokens / seconds if seconds > 0 else 0.0

    def act(self, slot: int, action: str, filename: str, timeout: float) -> dict[str, Any]:
        """``save`` a slot to a file of the server's ``slot_save_path``, or ``restore`` it."""
        body = json.dumps({"filename": filename}).encode()
        answer = self._ask("POST", f"/slots/{slot}?action={action}", body, timeout)
        result: dict[str, Any] = json.loads(answer)
        return result

    def _ask(self, method: str, target: str, body: bytes | None, timeout: float) -> bytes:
        """Raises OSError when it refuses, is not done in time, or makes no sense."""
        with LocalClient(self._path) as server:
            status, data = server.ask(method, target, max(timeout, 0.001), body=body)
        if status != 200:
            raise OSError(f"{target}: {status} {data[:200]!r}")
        return data


class _Budget:
    """The seconds that are left until ``end``, by the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._began = time.monotonic()
        self.end = self._began + seconds

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    @property
    def spent(self) -> float:
        return time.monotonic() - self._began


def restore(server: SlotServer, store: PromptStore, slots: int, limits: PromptCacheLimits) -> None:
    """Fill slots with what was held when the model went, the latest first, as far as it is worth
    the time. llama.cpp gives new conversations the last of the empty slots, so the first are
    filled. Whatever goes wrong, the load goes on."""
    budget, reading = _Budget(limits.seconds), Throughput()
    store.make_room(0, limits.max_bytes)  # it may be less than it was
    done: list[Entry] = []
    for entry in store.entries()[:slots]:
        seconds = reading.seconds_for(entry.size)
        if not is_worth_restoring(entry.tokens, entry.prefill_rate, seconds, budget.left):
            continue
        spent = budget.spent
        if _is_restored(server, store, len(done), entry, budget):
            done.append(entry)
            reading.add(entry.size, budget.spent - spent)
    if done:
        _tell("restored", done, budget.spent)


def _is_restored(
    server: SlotServer, store: PromptStore, slot: int, entry: Entry, budget: _Budget
) -> bool:
    name = store.take(entry, budget.end)
    if name is None:
        return False
    try:
        answer = server.act(slot, "restore", name, budget.left)
        if answer["n_restored"] != entry.tokens:
            raise ValueError(f"{answer['n_restored']} of {entry.tokens} tokens")
    except _TROUBLE as e:
        store.drop(name)
        _complain("restored", e)
        return False
    store.put_back(entry, name)
    return True


def save(
    server: SlotServer,
    store: PromptStore,
    slots: int,
    bytes_per_token: float,
    limits: PromptCacheLimits,
) -> None:
    """Write what slots hold, the latest first, as far as it is worth the time. What was restored
    and not used since lies there still.

    Args:
        slots: how many there are: no more are kept, for no more could be restored.
        bytes_per_token: of a cache, as far as that is known before one was written.
    """
    if not store.open():  # it may have been removed since the load
        return
    budget = _Budget(limits.seconds)
    writing, reading = Throughput(), Throughput()
    done: list[Entry] = []
    try:
        latest = time.time()
        rate = _prefill_rate(server, store, budget)
        for slot in _held(server.slots(budget.left)):
            tokens = slot["n_prompt_tokens"]
            size = int(tokens * bytes_per_token)
            seconds = writing.seconds_for(size), reading.seconds_for(size)
            if not is_worth_saving(tokens, rate, *seconds, budget.left):
                continue
            if not store.make_room(size, limits.max_bytes):
                continue
            spent, used = budget.spent, latest - len(done) * _APART_SECONDS
            entry = _saved(server, store, slot["id"], rate, used, budget)
            if entry is not None:
                writing.add(entry.size, budget.spent - spent)
                bytes_per_token = entry.size / entry.tokens
                done.append(entry)
    except _TROUBLE as e:
        _complain("saved", e)
    store.keep_latest(slots)
    store.make_room(0, limits.max_bytes)
    if done:
        _tell("saved", done, budget.spent)


def _prefill_rate(server: SlotServer, store: PromptStore, budget: _Budget) -> float:
    """The best that is known. Where nearly all was cached, a few new tokens at a time say little of
    how fast a whole prompt is read; a former load may have read one."""
    return max(server.prefill_rate(budget.left), *(e.prefill_rate for e in store.entries()), 0)


def _held(slots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that a request has used and that nobody uses, the latest first."""
    idle = [s for s in slots if "id_task" in s and not s["is_processing"]]
    return sorted(idle, key=lambda s: -int(s["id_task"]))


def _saved(
    server: SlotServer, store: PromptStore, slot: int, rate: float, used: float, budget: _Budget
) -> Entry | None:
    name = store.begin(slot)
    if name is None:
        return None
    try:
        answer = server.act(slot, "save", name, budget.left)
        if os.stat(store.path(name)).st_size != answer["n_written"]:
            raise ValueError(f"it was cut short: {answer}")  # by a full disk
    except BaseException:
        store.drop(name)
        raise
    return store.publish(name, rate, used)


def tokens_of(path: str) -> bytes:
    """The tokens that a file begins with.

    Raises:
        OSError: it cannot be read.
        ValueError: it does not look as expected.
    """
    with open(path, "rb") as f:
        head = f.read(_HEAD.size).ljust(_HEAD.size, b"\0")
        *_, length, mark, _, count = _HEAD.unpack(head)
        tokens = f.read(min(count, length) * TOKEN_BYTES)
    if mark != _LIST_MARK or not tokens or len(tokens) != count * TOKEN_BYTES:
        raise ValueError(f"{os.path.basename(path)} has no list of tokens that is known here")
    return tokens


def _tell(what: str, done: list[Entry], seconds: float) -> None:
    tokens, size = sum(e.tokens for e in done), sum(e.size for e in done)
    _print(f"{what} {tokens} tokens of {len(done)} slots, {size} bytes, in {seconds:.3f} s")


def _complain(what: str, error: BaseException) -> None:
    _print(f"a conversation was not {what}: {error!r}")


def _print(text: str) -> None:
    print(f"prompt cache: {text}", file=sys.stderr, flush=True)
