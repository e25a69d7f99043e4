"""What is kept of prompts between two loads: the files, and whether one is worth its time."""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelpool_worker.engine import EngineJob
from modelpool_worker.engines.gguf_identity import SAMPLE_BYTES, identity
from modelpool_worker.engines.llama.llama_cpp import LlamaCpp, what_a_cache_depends_on
from modelpool_worker.prompt_cache.store import (
    PromptStore,
    clear,
    key_of,
    make_room,
    remove_unfinished,
    shared_tokens,
)
from modelpool_worker.prompt_cache.worth import (
    DISK_RATE,
    FILE_SECONDS,
    MEASURED_BYTES,
    RETURNS,
    Throughput,
    is_worth_restoring,
    is_worth_saving,
)

MODEL = "a-model"
TOKENS = bytes(range(40))  # ten of four bytes
NO_LIMIT = 10**9


def first_forty(path: str) -> bytes:
    return Path(path).read_bytes()[:40]


def store_in(root: Path, model: str = MODEL, worker: str = "w1", key: str = "k") -> PromptStore:
    store = PromptStore(str(root / model), worker, key_of({"key": key}), first_forty)
    assert store.open()
    return store


_numbers = itertools.count()


def written(store: PromptStore, data: bytes, used: float = 0.0) -> Path:
    """A file that was written and published; where it is."""
    before = files(store)
    name = store.begin(next(_numbers))
    assert name is not None
    Path(store.path(name)).write_bytes(data)
    entry = store.publish(name, 100.0, used)
    assert entry is not None
    assert {p.name for p in files(store) - before} == {entry.name}
    return Path(store.path(entry.name))


def files(store: PromptStore) -> set[Path]:
    return set(Path(store.folder).iterdir())


@pytest.fixture
def store(tmp_path: Path) -> PromptStore:
    return store_in(tmp_path / "prompts")


# -- files ------------------------------------------------------------------------------------


def test_what_was_kept_is_there_for_the_next_worker(store: PromptStore, tmp_path: Path) -> None:
    path = written(store, TOKENS + b"state")
    later = store_in(tmp_path / "prompts", worker="w2")
    (entry,) = later.entries()
    assert (entry.tokens, entry.size, entry.prefill_rate) == (10, 45, 100)
    name = later.take(entry)
    assert name is not None
    assert Path(later.path(name)).read_bytes() == TOKENS + b"state"
    assert not path.exists()  # nobody else takes it, nor does a load after one that died of it
    assert later.entries() == []
    later.put_back(entry, name)
    assert later.entries() == [entry]


def test_only_the_owner_may_read_it(store: PromptStore) -> None:
    path = written(store, TOKENS)
    for folder in (path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_key_is_refused_and_removed(store: PromptStore, tmp_path: Path) -> None:
    written(store, TOKENS)
    other = store_in(tmp_path / "prompts", key="another version")
    assert other.entries() == []
    assert files(store) == set()


@pytest.mark.parametrize("length", [0, 20, 44])
def test_a_truncated_file_is_ignored_and_removed(store: PromptStore, length: int) -> None:
    path = written(store, TOKENS + b"state")
    os.truncate(path, length)
    assert store.entries() == []
    assert files(store) == set()


def test_a_damaged_file_is_ignored_and_removed(store: PromptStore) -> None:
    path = written(store, TOKENS + b"state")
    path.write_bytes(TOKENS + b"stale")
    (entry,) = store.entries()
    assert store.take(entry) is None
    assert files(store) == set()


def test_a_file_that_is_looked_through_for_too_long_stays(store: PromptStore) -> None:
    path = written(store, TOKENS)
    (entry,) = store.entries()
    assert store.take(entry, until=time.monotonic() - 1) is None
    assert files(store) == {path}


def test_what_goes_on_in_a_later_one_is_removed(store: PromptStore) -> None:
    first = written(store, TOKENS)
    # All but the last of its tokens: nine of ten.
    second = written(store, TOKENS[:36] + b"else")
    assert files(store) == {second}
    # Another conversation that begins alike.
    third = written(store, TOKENS[:32] + b"otherone")
    assert files(store) == {second, third}
    assert first not in files(store)


def test_a_file_that_tells_no_tokens_is_not_kept(tmp_path: Path, capfd: Any) -> None:
    def tells_nothing(path: str) -> bytes:
        raise ValueError("no list of tokens")

    store = PromptStore(str(tmp_path / "prompts" / "m"), "w", "k" * 32, tells_nothing)
    assert store.open()
    name = store.begin(0)
    assert name is not None
    assert store.publish(name, 1.0, 0.0) is None
    assert files(store) == set()
    assert "no list of tokens" in capfd.readouterr().err


def test_the_latest_come_first_and_no_more_than_can_be_used_stay(store: PromptStore) -> None:
    paths = [written(store, bytes([n]) * 40, used=1000.0 + n) for n in range(3)]
    assert [store.path(e.name) for e in store.entries()] == [str(p) for p in reversed(paths)]
    store.keep_latest(2)
    assert files(store) == set(paths[1:])


def test_the_oldest_of_all_models_go_for_a_new_one(tmp_path: Path) -> None:
    stores = [store_in(tmp_path / "prompts", model) for model in ("a", "b")]
    oldest, old = written(stores[1], b"1" * 100, used=1.0), written(stores[0], b"2" * 100, used=2.0)
    young = written(stores[1], b"3" * 100, used=3.0)
    assert stores[0].make_room(90, limit=300)
    assert [p.exists() for p in (oldest, old, young)] == [False, True, True]
    assert not stores[0].make_room(301, limit=300)  # nothing goes for what can never be there
    assert old.exists()
    make_room(str(tmp_path / "prompts"), 0)
    assert not old.exists()
    assert not young.exists()


def test_what_is_being_written_counts_but_is_not_removed(store: PromptStore) -> None:
    path = written(store, b"1" * 100)
    name = store.begin(0)
    assert name is not None
    Path(store.path(name)).write_bytes(b"2" * 100)
    assert store.make_room(0, limit=150)
    assert files(store) == {Path(store.path(name))}
    assert not path.exists()


def test_a_disk_without_room_takes_none(
    store: PromptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nearly:
        free = 100

    monkeypatch.setattr("shutil.disk_usage", lambda _: Nearly)
    assert store.make_room(50, NO_LIMIT)
    assert not store.make_room(51, NO_LIMIT)


def test_what_a_dead_worker_was_at_is_removed_and_nothing_else(store: PromptStore) -> None:
    path = written(store, TOKENS)
    theirs = PromptStore(store.folder, "w2", "k" * 32, first_forty)
    for each in (store, theirs):
        assert each.begin(1) is not None
    remove_unfinished(store.folder, "w1")
    assert {p.name for p in files(store)} == {path.name, "w2.1"}
    remove_unfinished(str(Path(store.folder) / "nowhere"), "w1")


def test_a_folder_that_cannot_be_made(tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "prompts").write_text("in the way")
    store = PromptStore(str(tmp_path / "prompts" / "m"), "w", "k" * 32, first_forty)
    assert not store.open()
    assert "no prompt cache" in capfd.readouterr().err
    assert store.entries() == []
    assert store.begin(0) is None
    clear(store.folder)


def test_strangers_in_the_folder_are_left_alone(store: PromptStore) -> None:
    stranger = Path(store.folder) / "notes.txt"
    stranger.write_text("mine")
    assert store.entries() == []
    assert stranger.exists()


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (b"", b"", 0),
        (TOKENS, TOKENS, 10),
        (TOKENS, TOKENS[:12], 3),
        (TOKENS, TOKENS[:14], 3),
        (TOKENS, b"x" + TOKENS[1:], 0),
        (TOKENS, TOKENS[:20] + b"x" * 20, 5),
        (TOKENS[:4], TOKENS, 1),
    ],
)
def test_shared_tokens(one: bytes, other: bytes, shared: int) -> None:
    assert shared_tokens(one, other) == shared_tokens(other, one) == shared


# -- what it depends on -----------------------------------------------------------------------


class Library:
    """What is asked of llama.cpp's package."""

    __version__ = "1"
    BUILD_INFO = "b1"

    def get_device_info(self) -> list[dict[str, str]]:
        return [{"name": "CPU", "description": "a processor"}]


class Params:
    n_ctx, n_parallel, kv_unified = 4096, 4, False
    cache_type_k = cache_type_v = "f16"


def changes() -> Iterator[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    yield "version", {"__version__": "2"}, {}, {}
    yield "build", {"BUILD_INFO": "b2"}, {}, {}
    yield "context", {}, {"n_ctx": 8192}, {}
    yield "slots", {}, {"n_parallel": 8}, {}
    yield "unified", {}, {"kv_unified": True}, {}
    yield "keys", {}, {"cache_type_k": "q8_0"}, {}
    yield "values", {}, {"cache_type_v": "q8_0"}, {}
    yield "options", {}, {}, {"options": {"batch_size": 64}}
    yield "model", {}, {}, {"model_id": "another"}


def key_with(
    source: Path, library: dict[str, Any], params: dict[str, Any], job: dict[str, Any]
) -> str:
    mine, yours = Library(), Params()
    for target, changed in ((mine, library), (yours, params)):
        for name, value in changed.items():
            setattr(target, name, value)
    told = EngineJob(
        **{"engine": "llama.cpp", "model_id": MODEL, "source": str(source)} | job, socket=""
    )
    return key_of(what_a_cache_depends_on(mine, told, yours))


@pytest.mark.parametrize("change", [pytest.param(c[1:], id=c[0]) for c in changes()])
def test_whatever_a_cache_depends_on_changes_the_key(
    tmp_path: Path, change: tuple[dict[str, Any], ...]
) -> None:
    source = tmp_path / "m.gguf"
    source.write_bytes(b"weights")
    same = key_with(source, {}, {}, {})
    assert key_with(source, {}, {}, {}) == same
    assert key_with(source, *change) != same
    # Whether caches are kept at all changes none.
    assert key_with(source, {}, {}, {"options": {"prompt_cache": True}}) == same


def test_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"a" * 3 * SAMPLE_BYTES)
    os.utime(path, (1, 1))
    first = identity(str(path))
    assert identity(str(path)) == first
    path.write_bytes(b"b" * 3 * SAMPLE_BYTES)
    os.utime(path, (1, 1))
    assert identity(str(path)) != first  # as large, and as old
    path.write_bytes(b"a" * 3 * SAMPLE_BYTES)
    os.utime(path, (2, 2))
    assert identity(str(path)) != first


def test_every_part_of_a_model_counts(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-{n:05}-of-00002.gguf" for n in (1, 2)]
    for part in parts:
        part.write_bytes(b"weights")
    first = identity(str(parts[0]))
    parts[1].write_bytes(b"other weights")
    assert identity(str(parts[0])) != first


def test_the_option_is_one_of_the_engines() -> None:
    LlamaCpp().check({"prompt_cache": False})


# -- what it is worth -------------------------------------------------------------------------


def test_it_is_worth_it_where_reading_a_prompt_again_takes_much_longer() -> None:
    # 2,000 tokens at 100/s: twenty seconds, for a hundredth of one.
    assert is_worth_saving(2000, 100, 0.01, 0.01, left=2)
    assert is_worth_restoring(2000, 100, 0.01, left=2)


def test_a_fast_engine_reads_a_short_prompt_again() -> None:
    assert not is_worth_saving(100, 10_000, 0.01, 0.01, left=2)
    assert not is_worth_restoring(100, 10_000, 0.01, left=2)


def test_the_threshold() -> None:
    tokens, rate, seconds = 1000, 1000.0, 0.1
    gain = RETURNS * tokens / rate
    assert is_worth_saving(tokens, rate, seconds, gain - seconds - 1e-6, left=2)
    assert not is_worth_saving(tokens, rate, seconds, gain - seconds + 1e-6, left=2)
    assert is_worth_restoring(tokens, rate, gain - 1e-6, left=2)
    assert not is_worth_restoring(tokens, rate, gain + 1e-6, left=2)


def test_nothing_is_worth_more_time_than_there_is() -> None:
    assert not is_worth_saving(10**6, 1, 1.1, 0, left=1)
    assert not is_worth_restoring(10**6, 1, 1.1, left=1)


def test_without_a_measurement_of_the_engine_nothing_is() -> None:
    assert not is_worth_saving(10**6, 0, 0, 0, left=1)


def test_the_disk_is_as_fast_as_it_was_measured() -> None:
    disk = Throughput()
    assert disk.seconds_for(int(DISK_RATE)) == FILE_SECONDS + 1
    disk.add(MEASURED_BYTES - 1, 100.0)  # tells of the call, not of the disk
    assert disk.rate == DISK_RATE
    disk.add(MEASURED_BYTES, 2.0)
    disk.add(MEASURED_BYTES, 2.0)
    assert disk.rate == MEASURED_BYTES / 2
