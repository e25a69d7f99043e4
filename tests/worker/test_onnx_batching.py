"""Many texts in one step of a decoder: rows of its cache, and the loop that steps it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_worker.engines.onnx.continuous import _Run, _Sequence
from modelpool_worker.engines.onnx.decoder import Unfit, decoder_names
from modelpool_worker.engines.onnx.rows import Rows
from modelpool_worker.engines.sampling import Sampler
from modelpool_worker.hosting.cancel import Cancel
from modelpool_worker.hosting.contract import Sampling, TextRequest, Token

VOCABULARY, END = 11, 10

# -- rows ------------------------------------------------------------------------------------------

ACTIONS = st.lists(st.tuples(st.sampled_from(["read", "write", "remove"]), st.integers(0, 9)))


@given(ACTIONS)
def test_each_keeps_what_is_in_its_row(actions: list[tuple[str, int]]) -> None:
    rows: Rows[int] = Rows(5)
    cache: list[int | None] = [None] * 5
    count = 0
    for action, number in actions:
        if action == "read" and not rows.reading:
            came = [count + i for i in range(min(number, rows.free))]
            count += len(came)
            rows.read(came)
            for i, item in enumerate(came):
                cache[rows.first_read + i] = item
        elif action == "write":
            rows.write()
        elif action == "remove" and len(rows):
            everybody = [*rows.writing, *rows.reading]
            for source, target in rows.remove(everybody[number % len(everybody)]):
                cache[target] = cache[source]
        assert cache[: len(rows)] == [*rows.writing, *rows.reading]
        assert rows.free + len(rows) == 5


# -- names -----------------------------------------------------------------------------------------

SAID = {
    "num_hidden_layers": 2,
    "inputs": {"past_key_names": "past.%d.key", "past_value_names": "past.%d.value"},
    "outputs": {"present_key_names": "now.%d.key", "present_value_names": "now.%d.value"},
}
TOKENS = ("tensor(int64)", ["b", "s"])
CACHE = ("tensor(float)", ["b", 3, "t", 32])
PAST = {f"past.{i}.{part}": CACHE for i in range(2) for part in ("key", "value")}
INPUTS = {"input_ids": TOKENS, "attention_mask": ("tensor(int64)", ["b", "t"]), **PAST}
NOW = {f"now.{i}.{part}": CACHE for i in range(2) for part in ("key", "value")}
OUTPUTS = {"logits": ("tensor(float)", ["b", "s", 99]), **NOW}


def test_names_of_a_decoder() -> None:
    found = decoder_names(SAID, INPUTS, OUTPUTS)
    assert found.past == ("past.0.key", "past.0.value", "past.1.key", "past.1.value")
    assert (found.shape, found.dtype, found.positions) == ((3, 32), "<f4", "")
    assert found.tells_all
    with_positions = {**INPUTS, "position_ids": TOKENS}
    assert decoder_names(SAID, with_positions, OUTPUTS).positions == "position_ids"
    last_only = {**OUTPUTS, "logits": ("tensor(float)", ["b", 1, 99])}
    assert not decoder_names(SAID, INPUTS, last_only).tells_all


@pytest.mark.parametrize(
    ("said", "inputs", "outputs"),
    [
        ({**SAID, "inputs": {}}, INPUTS, OUTPUTS),
        (SAID, {**INPUTS, "pixels": TOKENS}, OUTPUTS),
        (SAID, {n: v for n, v in INPUTS.items() if n != "past.1.key"}, OUTPUTS),
        (SAID, INPUTS, {n: v for n, v in OUTPUTS.items() if n != "now.0.key"}),
        (SAID, {**INPUTS, "past.0.key": ("tensor(float)", ["b", 2, "t", 32])}, OUTPUTS),
        (SAID, {**INPUTS, **dict.fromkeys(PAST, ("tensor(uint8)", CACHE[1]))}, OUTPUTS),
        ({**SAID, "num_hidden_layers": 0}, INPUTS, OUTPUTS),
    ],
)
def test_what_is_no_decoder_is_left_to_the_library(said: Any, inputs: Any, outputs: Any) -> None:
    with pytest.raises(Unfit):
        decoder_names(said, inputs, outputs)


# -- the loop --------------------------------------------------------------------------------------


class Decoder:
    """Its scores are made of all that a row holds; a row of another's would be seen."""

    def __init__(self, rows: int, *, tells_all: bool = True) -> None:
        self.tells_all = tells_all
        self.cache = np.zeros((rows, 200), dtype=np.int64)
        self.steps = 0
        self.widest = 0
        self.before_step: Any = lambda: None

    def read(self, row: int, prompts: Sequence[Sequence[int]], at: int = 0) -> Any:
        assert len(prompts) == 1 or at == 0
        assert self.tells_all or len({len(tokens) for tokens in prompts}) == 1
        for i, tokens in enumerate(prompts):
            self.cache[row + i, at : at + len(tokens)] = tokens
        return self._step(row, [at + len(tokens) for tokens in prompts])

    def write(self, tokens: Sequence[int], lengths: Sequence[int]) -> Any:
        self.widest = max(self.widest, len(tokens))
        for row, (token, length) in enumerate(zip(tokens, lengths, strict=True)):
            self.cache[row, length - 1] = token
        return self._step(0, lengths)

    def move(self, source: int, target: int, length: int) -> None:
        self.cache[target] = -1
        self.cache[target, :length] = self.cache[source, :length]

    def _step(self, row: int, lengths: Sequence[int]) -> Any:
        self.before_step()
        self.steps += 1
        return np.stack([scores(self.cache[row + i, :n]) for i, n in enumerate(lengths)])


def scores(held: Any) -> Any:
    seed = [int(token) + 1 for token in held]
    return np.random.default_rng(seed).standard_normal(VOCABULARY).astype(np.float32)


def alone(prompt: Sequence[int], most: int) -> list[int]:
    said: list[int] = []
    while len(said) < most and END not in said:
        said.append(int(scores(np.array([*prompt, *said])).argmax()))
    return said


class Sink:
    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.error: BaseException | None = None

    def push(self, *tokens: Token) -> None:
        self.tokens += [token.id for token in tokens]

    def end(self) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        self.error = error


class Loop:
    """The loop of the thread that computes, turn by turn."""

    def __init__(self, rows: int, step: int, *, tells_all: bool = True) -> None:
        self.decoder = Decoder(rows, tells_all=tells_all)
        self.inbox: queue.SimpleQueue[_Sequence | None] = queue.SimpleQueue()
        self.run = _Run(self.decoder, rows, step, self.inbox)  # type: ignore[arg-type]

    def submit(self, prompt: Sequence[int], most: int) -> tuple[TextRequest, Sink]:
        request = TextRequest(prompt, most, Sampling(temperature=0), Cancel())
        sink = Sink()
        sampler = Sampler(request, {}, lambda _: b"")
        self.inbox.put(_Sequence(request, sink, sampler, lambda _: b"", {END}))
        return request, sink

    def turn(self) -> bool:
        """One step; whether there was anything to do."""
        before = self.decoder.steps
        self.inbox.put(None)
        self.run.turn()
        return self.decoder.steps > before

    def finish(self) -> None:
        while self.turn():
            pass


PROMPTS = st.lists(st.integers(0, END - 1), min_size=1, max_size=20)
REQUESTS = st.lists(st.tuples(PROMPTS, st.integers(1, 12), st.integers(0, 6)), max_size=8)


@given(REQUESTS, st.integers(1, 4), st.integers(1, 16), st.booleans(), st.data())
def test_each_writes_what_it_writes_alone(
    requests: list[tuple[list[int], int, int]],
    rows: int,
    step: int,
    tells_all: bool,
    data: st.DataObject,
) -> None:
    """Whenever they come, whoever is beside them, and whoever of those leaves."""
    loop = Loop(rows, step, tells_all=tells_all)
    going = []
    for prompt, most, turns in requests:
        going.append((prompt, most, *loop.submit(prompt, most)))
        for _ in range(turns):
            loop.turn()
        if data.draw(st.booleans()):
            going[data.draw(st.integers(0, len(going) - 1))][2].cancel.set()
    loop.finish()
    assert loop.run.busy == 0
    for prompt, most, request, sink in going:
        expected = alone(prompt, most)
        if request.cancel.is_set:
            expected = expected[: len(sink.tokens)]
        assert sink.tokens == expected
        assert sink.error is None


def test_many_take_as_many_steps_as_the_longest() -> None:
    loop = Loop(16, 64)
    prompts = [[i % 7, 1, 2] for i in range(16)]
    longest = max(len(alone(prompt, 40)) for prompt in prompts)
    sinks = [loop.submit(prompt, 40)[1] for prompt in prompts]
    loop.finish()
    assert [sink.tokens for sink in sinks] == [alone(prompt, 40) for prompt in prompts]
    assert loop.decoder.steps == longest
    assert loop.decoder.widest == sum(len(sink.tokens) > 1 for sink in sinks)


def test_a_long_prompt_keeps_nobody_who_writes_waiting() -> None:
    loop = Loop(4, 8)
    _, writing = loop.submit(ENDLESS, 40)
    loop.turn()
    loop.submit([1] * 80, 1)
    for _ in range(10):
        told = len(writing.tokens)
        loop.turn()
        loop.turn()
        assert len(writing.tokens) == told + 1


# Its answer is long enough for these tests.
ENDLESS = next([1, i, j] for i in range(9) for j in range(9) if len(alone([1, i, j], 30)) == 30)


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 9])
def test_who_leaves_costs_no_further_step(turns: int) -> None:
    """While the prompt is read (its five parts), and while it writes."""
    loop = Loop(2, 4)
    request, sink = loop.submit([*[1] * 17, *ENDLESS], 30)
    for _ in range(turns):
        loop.turn()
    request.cancel.set()
    told = len(sink.tokens)
    assert not loop.turn()
    assert loop.decoder.steps == turns
    assert len(sink.tokens) == told
    assert loop.run.busy == 0


def test_an_error_of_a_step_is_told_to_all_in_it_and_to_nobody_else() -> None:
    loop = Loop(2, 64)
    broken = [loop.submit(ENDLESS, 30)[1] for _ in range(2)]
    _, waiting = loop.submit(ENDLESS, 5)
    loop.turn()

    def fail() -> None:
        loop.decoder.before_step = lambda: None
        raise RuntimeError("no memory")

    loop.decoder.before_step = fail
    loop.turn()
    loop.finish()
    assert [str(sink.error) for sink in broken] == ["no memory"] * 2
    assert waiting.error is None
    assert waiting.tokens == alone(ENDLESS, 5)


def test_it_sleeps_and_is_woken() -> None:
    loop = Loop(2, 64)
    thread = threading.Thread(target=loop.run.forever, daemon=True)
    thread.start()
    came = threading.Event()
    _, sink = loop.submit([1, 2], 1)
    sink.push = lambda *tokens: came.set()  # type: ignore[method-assign]
    assert came.wait(60)
