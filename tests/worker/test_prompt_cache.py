"""Prompts that a worker keeps for the next one of its model: the front's part, with the fake
engine, and llama.cpp's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.long]

LIMITS = {"max_bytes": 10**9, "seconds": 20.0}
ENDLESS = 3600
PROMPT = "one two three four"
MAKE = Path(__file__).parents[2] / "scripts" / "make_bench_gguf.py"
DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
# Slow enough at reading a prompt that a file is quicker by far on any machine.
SHAPE = "--layers=12 --hidden=512 --ffn=1536 --heads=8 --kv=2 --vocab=1024 --ctx=2048"
LONG = "port pool " * 80
OPTIONS = {"threads": 1, "parallel": 2, "context_length": 1200}

Make = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prompts" / "demo"


@pytest.fixture
def fake(worker: Make, folder: Path) -> Make:
    def make(options: dict[str, Any] | None = None, **assignment: Any) -> Any:
        kept = {"prompt_cache_dir": str(folder), "prompt_cache_limits": LIMITS, **assignment}
        return worker({"keep_prompts": True, **(options or {})}, **kept)

    return make


def kept(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def cached(answer: Any) -> int:
    assert answer.status_code == 200, answer.text
    return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])


def end(one: Any) -> None:
    """As a manager does that finds it idle."""
    assert one.internal("POST", "drain", json={"if_idle_for": 0}).json()["drained"] is True
    assert one.wait_exit() == 0


def test_a_conversation_goes_on_where_it_was(fake: Make, folder: Path) -> None:
    first = fake().ready()
    assert cached(first.chat(PROMPT)) == 0
    end(first)
    assert len(kept(folder)) == 1
    second = fake().ready()
    assert cached(second.chat(f"{PROMPT} five")) == 4


@pytest.mark.parametrize("change", [{"reply": "x"}, {"context_length": 100}])
def test_other_options_refuse_and_remove_it(
    fake: Make, folder: Path, change: dict[str, Any]
) -> None:
    first = fake().ready()
    first.chat(PROMPT)
    end(first)
    second = fake(change).ready()
    assert kept(folder) == []
    assert cached(second.chat(PROMPT)) == 0


@pytest.mark.parametrize("off", [{"options": {"keep_prompts": False}}, {"limits": 0}])
def test_switched_off_it_is_removed(fake: Make, folder: Path, off: dict[str, Any]) -> None:
    first = fake().ready()
    first.chat(PROMPT)
    end(first)
    assert kept(folder)
    none = {"max_bytes": 0, "seconds": 20.0} if "limits" in off else LIMITS
    second = fake(off.get("options"), prompt_cache_limits=none).ready()
    assert not folder.exists()
    second.chat(PROMPT)
    end(second)
    assert not folder.exists()


def test_a_sigterm_saves_it_too(fake: Make, folder: Path) -> None:
    one = fake().ready()
    one.chat(PROMPT)
    one.process.terminate()
    assert one.wait_exit() == 0
    assert len(kept(folder)) == 1


def test_what_the_manager_says_of_it_later_counts(
    fake: Make, folder: Path, own_manager: Any, until: Make
) -> None:
    one = fake(manager=own_manager, beat_seconds=0.05).ready()
    one.chat(PROMPT)
    own_manager.reply["prompt_cache_limits"] = {"max_bytes": 0, "seconds": 20.0}
    heard = len(own_manager.facts(one.id))
    until(lambda: len(own_manager.facts(one.id)) > heard + 1)
    end(one)
    assert kept(folder) == []


def test_a_save_that_takes_too_long_is_given_up(fake: Make, folder: Path) -> None:
    limits = {"max_bytes": 10**9, "seconds": 0.2}
    one = fake({"save_seconds": ENDLESS}, prompt_cache_limits=limits).ready()
    one.chat(PROMPT)
    end(one)
    assert kept(folder) == []


def test_it_gets_no_more_than_what_is_left_of_the_drain(fake: Make, folder: Path) -> None:
    limits = {"max_bytes": 10**9, "seconds": float(ENDLESS)}
    options = {"save_seconds": ENDLESS}
    one = fake(options, prompt_cache_limits=limits, drain_seconds=0.3).ready()
    one.chat(PROMPT)
    end(one)
    assert kept(folder) == []


def test_a_second_sigterm_ends_a_save(fake: Make, folder: Path, until: Make) -> None:
    limits = {"max_bytes": 10**9, "seconds": float(ENDLESS)}
    options = {"save_seconds": ENDLESS}
    one = fake(options, prompt_cache_limits=limits, drain_seconds=ENDLESS).ready()
    one.chat(PROMPT)
    one.process.terminate()
    until(lambda: kept(folder) == [f"{one.id}.0"])
    one.process.send_signal(signal.SIGTERM)
    assert one.wait_exit() == 0
    assert kept(folder) == []


def test_work_that_was_cut_saves_nothing(fake: Make, folder: Path) -> None:
    one = fake({"tokens": 10_000, "tokens_per_second": 20}, drain_seconds=0.2).ready()
    assert one.chat(PROMPT, max_tokens=1).status_code == 200
    body = {"messages": [{"role": "user", "content": PROMPT}], "stream": True}
    with one.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        one.process.terminate()
        assert any("cut: the worker stopped" in line for line in lines)
        assert one.wait_exit() == 0
    assert kept(folder) == []


def test_the_disk_is_bounded_the_oldest_go(fake: Make, folder: Path) -> None:
    for number in range(3):
        one = fake(prompt_cache_limits={"max_bytes": 40, "seconds": 20.0}).ready()
        one.chat(f"{number} {PROMPT}")  # twenty bytes
        end(one)
    later = fake().ready()
    assert [cached(later.chat(f"{number} {PROMPT}")) for number in range(3)] == [0, 5, 5]


# -- llama.cpp --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "slow.gguf"
    subprocess.run(
        [sys.executable, MAKE, path, *SHAPE.split()], check=True, stdout=subprocess.DEVNULL
    )
    return path


@pytest.fixture
def llama(worker: Make, folder: Path, model: Path) -> Make:
    def make(options: dict[str, Any] | None = None, **assignment: Any) -> Any:
        told = {"engine": "llama.cpp", "source": str(model), "prompt_cache_dir": str(folder)}
        told |= {"prompt_cache_limits": LIMITS, **assignment}
        return worker({**OPTIONS, **(options or {})}, **told).ready()

    return make


def say(one: Any, text: str, **more: Any) -> Any:
    exactly = {"ignore_eos": True, "grammar": "root ::= [a-z]*", "temperature": 0}
    return one.chat(text, max_tokens=8, **exactly, **more)


def words(answer: Any) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


def test_llama_goes_on_where_it_was_and_says_the_same(llama: Make, folder: Path) -> None:
    stays = llama(prompt_cache_dir="")
    say(stays, LONG)
    warm = say(stays, f"{LONG} and then")
    end(stays)

    first = llama()
    fresh = say(first, LONG)
    assert cached(fresh) == 0
    end(first)
    assert len(kept(folder)) == 1
    second = llama()
    again = say(second, f"{LONG} and then")
    assert cached(again) == cached(warm) > 0.9 * fresh.json()["usage"]["prompt_tokens"]
    assert again.json()["timings"]["cache_n"] == cached(again)
    assert words(again) == words(warm)
    assert len(kept(folder)) == 1


@pytest.mark.slow
def test_llama_keeps_several_conversations_and_what_nobody_used_meanwhile(
    llama: Make, folder: Path
) -> None:
    texts = [LONG, "model worker " * 80]
    first = llama()
    for text in texts:
        say(first, text)
    end(first)
    assert len(kept(folder)) == 2
    second = llama()
    assert cached(say(second, texts[1])) > 100
    end(second)  # nobody has asked for the other one
    third = llama()
    assert all(cached(say(third, text)) > 100 for text in texts)


@pytest.mark.slow
def test_llama_leaves_out_what_it_reads_again_sooner(llama: Make, folder: Path) -> None:
    one = llama(source=str(DEMO))
    for number in range(20):  # or it may have been held up just when it read one
        say(one, f"hi {number}")
    end(one)
    assert kept(folder) == []


@pytest.mark.parametrize(
    "change",
    [
        {"context_length": 1100},
        {"parallel": 3},
        {"cache_type_k": "bf16"},
        {"batch_size": 64},
        {"prompt_cache": False},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.slow
def test_llama_refuses_what_other_options_made(
    llama: Make, folder: Path, change: dict[str, Any]
) -> None:
    first = llama()
    say(first, LONG)
    end(first)
    assert len(kept(folder)) == 1
    second = llama(change)
    assert kept(folder) == []
    assert cached(say(second, LONG)) == 0


@pytest.mark.slow
def test_llama_refuses_what_another_file_made(llama: Make, folder: Path, model: Path) -> None:
    first = llama()
    say(first, LONG)
    end(first)
    before = model.stat()
    try:
        os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        second = llama()
        assert kept(folder) == []
        assert cached(say(second, LONG)) == 0
    finally:
        os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


@pytest.mark.parametrize("damage", [cut, flip, replace], ids=lambda each: each.__name__)
@pytest.mark.slow
def test_llama_loads_whatever_was_done_to_the_file(
    llama: Make, folder: Path, damage: Callable[[Path], None]
) -> None:
    first = llama()
    say(first, LONG)
    end(first)
    damage(next(folder.iterdir()))
    second = llama()
    assert kept(folder) == []
    assert cached(say(second, LONG)) == 0


@pytest.mark.slow
def test_llama_loads_where_nothing_can_be_kept(llama: Make, tmp_path: Path) -> None:
    (tmp_path / "prompts").write_text("in the way")
    one = llama()
    assert cached(say(one, LONG)) == 0
    end(one)
