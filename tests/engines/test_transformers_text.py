"""Text by ``transformers`` in this process: cancellation step by step, and choosing."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from demo_formats import DEMO_FOLDER
from e2e.helpers import until
from modelpool_worker.hosting.cancel import Cancel
from modelpool_worker.hosting.contract import Sampling, TextRequest, Token

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
NO_END = 100_000
ids = itertools.count(1)


class Sink:
    """Collects what is generated."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.error: BaseException | None = None
        self.news = threading.Event()

    def push(self, *tokens: Token) -> None:
        self.tokens += tokens
        self.news.set()

    def end(self) -> None:
        self.news.set()

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.news.set()


class Gate:
    """Lets a model step only when it is told to, and counts."""

    def __init__(self, model: Any) -> None:
        self.steps = 0
        self.is_open = True
        self._allowed = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)
        model.register_forward_pre_hook(self._step)

    def _step(self, *_: object) -> None:
        if self.is_open:
            return
        self._arrived.release()
        assert self._allowed.acquire(timeout=60)
        self.steps += 1

    def close(self) -> None:
        """From now on it waits, and counts anew."""
        self.is_open, self.steps = False, 0

    def arrived(self) -> None:
        """Wait until it is about to step."""
        assert self._arrived.acquire(timeout=60)

    def allow(self) -> None:
        self._allowed.release()

    def open(self) -> None:
        self.is_open = True
        self._allowed.release()


def loaded(**options: Any) -> Any:
    from modelpool_worker.engine import Status
    from modelpool_worker.engines.transformers.hosting import hosted
    from modelpool_worker.engines.transformers.source import read_source

    text = hosted(read_source(str(DEMO_FOLDER)), options, Status(lambda event: None)).text
    assert text is not None
    return text


@pytest.fixture(scope="module")
def text() -> Iterator[Any]:
    """The demo model, two sequences at once, sixteen tokens of prompts in a step."""
    model = loaded(parallel=2, batch_size=16, context_length=512)
    model.gate = Gate(model._manager.model)
    yield model
    model.gate.open()


@pytest.fixture(scope="module")
def stepped() -> Any:
    """The same without continuous batching."""
    model = loaded(parallel=4, continuous_batching=False, context_length=512)
    model.gate = Gate(model._model)
    return model


def request(prompt: list[int], max_tokens: int = 8, **more: Any) -> TextRequest:
    sampling = Sampling(**{"temperature": 0, **more.pop("sampling", {})})
    return TextRequest(prompt, max_tokens, sampling, Cancel(), id=f"r{next(ids)}", **more)


def chat(text: Any, question: str) -> list[int]:
    return list(text.chat_prompt([{"role": "user", "content": question}], [], {}))


async def generated(text: Any, *requests: TextRequest) -> list[Sink]:
    sinks = [Sink() for _ in requests]
    for one, sink in zip(requests, sinks, strict=True):
        text.submit(one, sink)
    for one, sink in zip(requests, sinks, strict=True):
        await asyncio.to_thread(until, partial(is_over, text, one, sink), "the end")
        one.cancel.set()
    return sinks


def is_over(text: Any, one: TextRequest, sink: Sink) -> bool:
    ended = any(token.id in text.end_tokens for token in sink.tokens)
    return sink.error is not None or ended or len(sink.tokens) >= one.max_tokens


def told(sink: Sink) -> str:
    return b"".join(token.data for token in sink.tokens).decode()


# -- cancellation ----------------------------------------------------------------------------------


async def wait(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 60)


async def idle(text: Any) -> None:
    """Until the library works on nothing."""
    scheduler = text._manager.batch_processor.scheduler
    await asyncio.to_thread(until, lambda: not scheduler.has_pending_requests(), "the end")


def test_who_leaves_before_the_first_token_costs_one_step_of_the_prompt(text: Any) -> None:
    async def run() -> None:
        text.gate.close()
        one, sink = request([7, 9] * 100), Sink()
        text.submit(one, sink)
        await asyncio.to_thread(text.gate.arrived)
        one.cancel.set()
        text.gate.allow()
        await idle(text)
        assert text.gate.steps == 1
        assert not sink.tokens

    try:
        asyncio.run(run())
    finally:
        text.gate.open()


def test_who_leaves_while_tokens_come_costs_one_step(text: Any) -> None:
    async def run() -> None:
        text.gate.close()
        one, sink = request([7, 9, 11], NO_END), Sink()
        text.submit(one, sink)
        for _ in range(3):
            await asyncio.to_thread(text.gate.arrived)
            text.gate.allow()
        await asyncio.to_thread(text.gate.arrived)
        one.cancel.set()
        text.gate.allow()
        await idle(text)
        assert text.gate.steps == 4
        assert len(sink.tokens) <= 4
        assert not text._chooser._choices
        assert one.id not in text._manager.output_router.result_handlers

    try:
        asyncio.run(run())
    finally:
        text.gate.open()


def test_who_leaves_while_waiting_is_never_computed(text: Any) -> None:
    async def run() -> None:
        text.gate.close()
        busy = [request([7, 9, 11], 4) for _ in range(2)]
        sinks = [Sink() for _ in range(2)]
        for one, sink in zip(busy, sinks, strict=True):
            text.submit(one, sink)
        await asyncio.to_thread(text.gate.arrived)
        waiting, never = request([5, 6, 7, 8], NO_END), Sink()
        text.submit(waiting, never)
        waiting.cancel.set()
        text.gate.open()
        await idle(text)
        assert [len(sink.tokens) for sink in sinks] == [4, 4]
        assert not never.tokens

    try:
        asyncio.run(run())
    finally:
        text.gate.open()


def test_without_continuous_batching_it_costs_one_step_too(stepped: Any) -> None:
    stepped.gate.close()
    one = request([7, 9, 11], 200)
    steps = stepped.generate_batch([one])
    for _ in range(3):
        stepped.gate.allow()
    assert len([next(steps) for _ in range(3)]) == 3
    one.cancel.set()
    stepped.gate.open()
    rest = list(steps)
    assert not rest
    assert stepped.gate.steps <= 4


# -- choosing --------------------------------------------------------------------------------------


def test_both_ways_of_batching_write_what_the_library_alone_does(text: Any, stepped: Any) -> None:
    import torch

    prompts = [
        chat(text, q) for q in ("Ping", "1+1", "Which port does the pool manager listen on?")
    ]
    sinks = asyncio.run(generated(text, *(request(p, 24) for p in prompts)))
    batch = [request(p, 24) for p in prompts]
    others: list[list[int]] = [[] for _ in prompts]
    for step in stepped.generate_batch(batch):
        for index, token in step:
            others[index].append(token.id)
    for prompt, sink, other in zip(prompts, sinks, others, strict=True):
        given = torch.tensor([prompt])
        plain = stepped._model.generate(given, do_sample=False, max_new_tokens=24, eos_token_id=2)
        expected = plain[0, len(prompt) :].tolist()
        assert [token.id for token in sink.tokens] == expected
        assert other == expected


def test_a_seed_gives_the_same_answer_whoever_is_beside(text: Any) -> None:
    hot: Mapping[str, Any] = {"temperature": 1.5, "seed": 11}
    prompt = [7, 9, 11]
    alone = asyncio.run(generated(text, request(prompt, 20, sampling=hot)))[0]
    beside = asyncio.run(
        generated(
            text,
            request([5, 6], 20, sampling={"temperature": 1.5, "seed": 3}),
            request(prompt, 20, sampling=hot),
            request(prompt, 20, sampling={**hot, "seed": 12}),
        )
    )
    assert [t.id for t in beside[1].tokens] == [t.id for t in alone.tokens]
    assert [t.id for t in beside[2].tokens] != [t.id for t in alone.tokens]


def test_log_probabilities_are_the_model_s(text: Any) -> None:
    import torch

    prompt = chat(text, "Ping")
    sink = asyncio.run(generated(text, request(prompt, 4, alternatives=3)))[0]
    ids = [*prompt, *(token.id for token in sink.tokens)]
    text.gate.open()
    with torch.inference_mode():
        scores = text._manager.model(torch.tensor([ids]), use_cache=False).logits[0]
    expected = torch.log_softmax(scores[len(prompt) - 1 : -1].float(), -1)
    for token, row in zip(sink.tokens, expected, strict=True):
        assert token.logprob == pytest.approx(float(row[token.id]), abs=1e-3)
        best = row.topk(3)
        assert [i for i, _, _ in token.alternatives] == best.indices.tolist()
        told = [value for _, _, value in token.alternatives]
        assert told == pytest.approx(best.values.tolist(), abs=1e-3)


def test_one_that_leaves_its_grammar_fails_alone(text: Any) -> None:
    class Broken:
        def mask(self) -> bytes:
            raise ValueError("broken")

        def accept(self, token: int) -> None:
            raise AssertionError

    requests = [request(chat(text, "Ping"), 8, constraint=c) for c in (Broken(), None)]
    failed, fine = asyncio.run(generated(text, *requests))
    assert isinstance(failed.error, ValueError)
    assert told(fine) == "Pong!"
    asyncio.run(idle(text))
    assert not text._chooser._choices


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        ({"temperature": 0}, {1}),
        ({"top_k": 1}, {1}),
        ({"top_k": 2}, {1, 3}),
        ({"top_p": 0.5}, {1}),
        ({"top_p": 0.85}, {1, 3}),
        ({"min_p": 0.2}, {1, 3}),
        ({"temperature": 1e-5}, {1}),
        ({"temperature": 2.0, "top_k": 3}, {0, 1, 3}),
        ({}, {0, 1, 2, 3}),
    ],
)
def test_how_one_token_is_sampled(sampling: dict[str, Any], allowed: set[int]) -> None:
    import torch
    from modelpool_worker.engines.transformers.choosing import sampled

    scores = torch.tensor([0.05, 0.6, 0.05, 0.3]).log() + torch.tensor([0.001, 0, 0, 0])
    random = torch.Generator().manual_seed(5)
    found = {sampled(scores, Sampling(**sampling), random) for _ in range(400)}
    assert found == allowed


def test_chances_are_those_of_the_scores() -> None:
    import torch
    from modelpool_worker.engines.transformers.choosing import sampled

    scores = torch.tensor([0.1, 0.2, 0.7]).log()
    random = torch.Generator().manual_seed(7)
    drawn = torch.tensor([sampled(scores, Sampling(), random) for _ in range(4000)])
    shares = (torch.bincount(drawn, minlength=3) / 4000).tolist()
    assert shares == pytest.approx([0.1, 0.2, 0.7], abs=0.03)


def test_biases_and_penalties(text: Any) -> None:
    prompt = chat(text, "Ping")
    first = asyncio.run(generated(text, request(prompt, 1)))[0].tokens[0].id
    sampling = {"logit_bias": {first: -100.0}}
    other = asyncio.run(generated(text, request(prompt, 1, sampling=sampling)))[0].tokens[0].id
    assert other != first
    forced = request([5, 6], 6, sampling={"logit_bias": {77: 50.0}, "presence_penalty": 2.0})
    assert [t.id for t in asyncio.run(generated(text, forced))[0].tokens] == [77] * 6
    once = request([5, 6], 6, sampling={"logit_bias": {77: 20.0}, "frequency_penalty": 2.0})
    counts = [t.id for t in asyncio.run(generated(text, once))[0].tokens].count(77)
    assert 1 <= counts <= 6
    repeated = request([5, 77], 3, sampling={"logit_bias": {77: 30.0}, "repeat_penalty": 100.0})
    assert asyncio.run(generated(text, repeated))[0].error is None


def test_texts_of_tokens_are_the_tokenizer_s(text: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEMO_FOLDER)
    for said in ("Hello, world!", "Größe — 東京 🦊", "  two  blanks\n\ttab"):
        piece = text._words.pieces()
        told = [piece(token) for token in tokenizer(said)["input_ids"]]
        assert b"".join(told).decode() == said


def test_an_architecture_without_attention_is_batched_otherwise(tmp_path: Path) -> None:
    from modelpool_worker.engine import Status
    from modelpool_worker.engines.transformers.hosting import hosted
    from modelpool_worker.engines.transformers.source import read_source
    from support.tiny_transformers import causal

    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "state_size": 4,
        "tie_word_embeddings": True,
    }
    causal(tmp_path / "mamba", DEMO_FOLDER, "mamba", **shape)
    source = read_source(str(tmp_path / "mamba"))
    text = hosted(source, {"context_length": 64}, Status(lambda event: None)).text
    assert not hasattr(text, "submit")
    batch = [request([5, 6, 7], 5), request([9, 10, 11], 5)]
    tokens = [item for step in text.generate_batch(batch[: text.slots]) for item in step]
    assert len(tokens) == 5 * min(2, text.slots)


def test_a_model_that_reads_first_and_then_writes(tmp_path: Path) -> None:
    import torch
    import transformers
    from modelpool_worker.engine import Status
    from modelpool_worker.engines.transformers.hosting import hosted
    from modelpool_worker.engines.transformers.source import read_source

    torch.manual_seed(1)
    width = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    ends = {"decoder_start_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}
    shape = transformers.T5Config(vocab_size=1536, **width, **ends)
    model = transformers.T5ForConditionalGeneration(shape).eval()
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(DEMO_FOLDER).save_pretrained(tmp_path)
    text: Any = hosted(read_source(str(tmp_path)), {}, Status(lambda event: None)).text
    never_ends = {"logit_bias": {2: -100.0}}
    batch = [request(p, 6, sampling=never_ends) for p in ([5, 6, 7], [9, 10, 11, 12, 13])]
    found: list[list[int]] = [[], []]
    for step in text.generate_batch(batch):
        for index, token in step:
            found[index].append(token.id)
    for one, tokens in zip(batch, found, strict=True):
        given = torch.tensor([list(one.prompt)])
        plain = model.generate(given, max_new_tokens=6, do_sample=False, suppress_tokens=[2])
        assert tokens == plain[0, 1:].tolist()
