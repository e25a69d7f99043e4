"""What is asked, read from answers, compared and layered: the parts that only compute."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from modelpool.catalog.model import Model
from modelpool.catalog.profiles import (
    KEPT,
    Conditions,
    Level,
    Profile,
    compared,
    in_words_of_m2,
    stale_reason,
    with_profile,
)
from modelpool.catalog.tuned import Layers, Tuned, TunedOptions, why_doubtful
from modelpool.jobs.kinds.profile import level_of, levels_of
from modelpool.measure.candidates import Dimension, dimensions, merged, unknown
from modelpool.measure.requests import Workload, check_is_here, form_of
from modelpool.measure.samples import Batch, Sample, read_results, read_stream
from modelpool.measure.statistics import Spread
from modelpool_client.errors import EngineFailed, NotSupported


def test_models_at_providers_are_not_measured() -> None:
    check_is_here(Model("m", "llama.cpp", "/m.gguf"))
    for fields in ({"served_by": "openai"}, {"model_type": "provider"}):
        with pytest.raises(NotSupported, match="provider"):
            check_is_here(Model("openai:gpt", "openai", "gpt", **fields))


def event(**data: Any) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


USAGE = {"prompt_tokens": 20, "completion_tokens": 5}
STREAM = [
    (10.5, b": ping\n\n" + event(choices=[{"delta": {"role": "assistant", "content": None}}])),
    (11.0, event(choices=[{"delta": {"content": "a"}}])),
    (13.0, event(choices=[{"delta": {"content": "b"}}])),
    (13.0, event(choices=[], usage=USAGE) + b"data: [DONE]\n\n"),
]


def test_a_stream_says_how_fast_it_was() -> None:
    assert read_stream(STREAM, 10.0) == Sample(1.0, 3.0, 20, 5, 20.0, 2.0)


def test_pieces_may_end_anywhere() -> None:
    whole = b"".join(piece for _, piece in STREAM)
    torn = [(float(n), whole[n : n + 1]) for n in range(len(whole))]
    assert read_stream(torn, 0.0).output_tokens == 5


def test_what_the_engine_says_of_its_prompt_counts() -> None:
    timings = {"prompt_per_second": 77.0}
    stream = [*STREAM[:3], (13.0, event(choices=[], usage=USAGE, timings=timings))]
    assert read_stream(stream, 10.0).prompt_per_second == 77.0


@pytest.mark.parametrize(
    "stream",
    [
        [],
        [(1.0, event(error={"message": "no"}))],
        [(1.0, event(choices=[{"text": "a"}]))],
        [(1.0, event(choices=[], usage=USAGE))],
        [(1.0, b"data: {\n\n")],
    ],
)
def test_what_is_no_answer_is_no_sample(stream: list[tuple[float, bytes]]) -> None:
    with pytest.raises(EngineFailed):
        read_stream(stream, 0.0)


@pytest.mark.parametrize("rate", [0, -1, None, "fast", float("nan"), float("inf"), True, [1]])
def test_what_is_no_rate_is_counted_anew(rate: Any) -> None:
    stream = [
        *STREAM[:3],
        (13.0, event(choices=[], usage=USAGE, timings={"prompt_per_second": rate})),
    ]
    assert read_stream(stream, 10.0).prompt_per_second == 20.0


@pytest.mark.parametrize(
    "usage", [[1], "many", {"completion_tokens": "5"}, {"completion_tokens": -5}]
)
def test_what_is_no_count_is_no_sample(usage: Any) -> None:
    with pytest.raises(EngineFailed, match="count of its tokens"):
        read_stream([*STREAM[:3], (13.0, event(choices=[], usage=usage))], 10.0)


def results(key: str, count: int, **more: Any) -> list[tuple[float, bytes]]:
    data = json.dumps({key: [{}] * count, **more}).encode()
    return [(11.0, data[:5]), (12.0, data[5:])]


@pytest.mark.parametrize(("form", "key"), [("embeddings", "data"), ("rerank", "results")])
def test_results_say_how_fast_they_were(form: str, key: str) -> None:
    found = read_results(results(key, 3, usage={"prompt_tokens": 60}), 10.0, form, 3)
    assert (found.seconds, found.prompt_tokens) == (2.0, 60)
    assert read_results(results(key, 3), 10.0, form, 3).prompt_tokens == 0


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([], "no JSON"),
        ([(1.0, b"{")], "no JSON"),
        ([(1.0, b"[]")], "no results for 3"),
        (results("data", 2), "2 results for 3"),
        (results("other", 3), "no results for 3"),
        ([(1.0, b'{"data": {"a": 1}}')], "no results for 3"),
    ],
)
def test_what_has_not_one_result_for_each_text_is_no_sample(
    pieces: list[tuple[float, bytes]], said: str
) -> None:
    with pytest.raises(EngineFailed, match=said):
        read_results(pieces, 0.0, "embeddings", 3)


def test_either_the_requests_or_the_texts_are_more() -> None:
    assert list(levels_of([1, 4, 8], [])) == [(1, 0), (4, 0), (8, 0)]
    assert list(levels_of([1, 4], [1, 8])) == [(1, 1), (4, 1), (1, 8)]
    assert list(levels_of([2], [3])) == [(2, 3)]


def test_figures_of_texts() -> None:
    batch = Batch([Sample(0.5, 0.5, 80, 0, 0.0, 0.0)] * 2, 2.0)
    level = level_of((2, 8), [batch])
    assert (level.streams, level.texts, level.first_token_ms) == (2, 8, None)
    assert level.texts_per_second == Spread(8.0, 8.0, 8.0, 1)
    assert level.tokens_per_second == Spread(80.0, 80.0, 80.0, 1)
    assert level.latency_ms == Spread(500.0, 500.0, 500.0, 2)


@pytest.mark.parametrize("form", ["embeddings", "rerank"])
def test_texts_are_as_many_and_as_long_as_asked_for(form: Any) -> None:
    workload = dataclasses.replace(Workload.of(form).fitted(48, 4096), texts=8)
    body = json.loads(workload.body(3))
    texts = body["input"] if form == "embeddings" else body["documents"]
    assert [len(text.split()) for text in texts] == [65] * 8
    assert len({text.split()[0] for text in texts}) == 8


def test_a_batch_counts_all_its_tokens() -> None:
    sample = read_stream(STREAM, 10.0)
    assert Batch([sample, sample], 5.0).output_per_second == 2.0


@pytest.mark.parametrize(
    ("capabilities", "form"),
    [
        (("chat", "completion"), "chat"),
        (("completion",), "completion"),
        (("embeddings",), "embeddings"),
        (("rerank", "embeddings"), "embeddings"),
        (("rerank",), "rerank"),
        ((), "chat"),
    ],
)
def test_how_a_model_is_asked(capabilities: tuple[str, ...], form: str) -> None:
    assert form_of(capabilities) == form


def test_what_makes_neither_text_nor_numbers_is_not_measured() -> None:
    with pytest.raises(NotSupported, match="speech_to_text"):
        form_of(("speech_to_text",))


@pytest.mark.parametrize(
    ("found", "context", "words", "output"),
    [
        (48, 4096, 128, 64),
        (24, None, 256, 64),
        (48, 128, 16, 32),
        (240, 16, 1, 4),
        (0, 4096, 24, 64),
    ],
)
def test_prompts_fit_the_context(found: int, context: int | None, words: int, output: int) -> None:
    workload = Workload("chat", words=24).fitted(found, context)
    assert (workload.words, workload.output_tokens) == (words, output)


def test_no_two_prompts_begin_alike() -> None:
    bodies = [json.loads(Workload("completion").body(n))["prompt"] for n in range(200)]
    assert len({body.split()[0] for body in bodies}) == 200


SCHEMA = {
    "threads": {
        "default": 2,
        "tuning": {"goals": ["a"], "settings": [{"threads": 1}, {"threads": 2}]},
    },
    "kv": {"tuning": {"goals": ["a", "b"], "settings": [{"kv": "q"}, {"kv": "q", "v": "q"}]}},
    "layers": {"tuning": {"goals": ["b"], "fractions": [0, 0.5, 1], "needs": "device"}},
    "seed": {},
}


def tried(goal: Any, **given: Any) -> dict[str, list[dict[str, Any]]]:
    found = dimensions(SCHEMA, goal, **given)
    return {d.name: [dict(s) for s in d.settings] for d in found}


def test_candidates_come_from_the_engines_table() -> None:
    kv = [{"kv": "q"}, {"kv": "q", "v": "q"}]
    assert tried("a") == {"threads": [{"threads": 1}], "kv": kv}
    assert tried("a", declared=["threads", "v"]) == {"kv": kv[:1]}
    assert tried("a", only=["threads"]) == {"threads": [{"threads": 1}]}
    assert tried("b") == {"kv": kv}
    layers = [{"layers": n} for n in (0, 12, 25)]
    assert tried("b", layers=24, has_device=True)["layers"] == layers
    assert unknown(SCHEMA, ["kv", "seed", "none"]) == ["seed", "none"]


def test_what_is_merged_has_the_second_in_place_of_the_first() -> None:
    assert merged((("a", 1), ("b", 1)), (("b", 2),)) == (("a", 1), ("b", 2))
    assert Dimension("a", ()) == Dimension("a", ())


HELD = Conditions({"threads": 2}, "f", "llama.cpp", "1", "0.1", 2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"host_load": 3.0}, ""),
        ({"modelpool": "9"}, ""),
        ({"fingerprint": "g"}, "the model's files were replaced"),
        ({"engine_version": "2"}, "llama.cpp is 2, was 1"),
        ({"engine": "onnx"}, "the engine is onnx, was llama.cpp"),
        ({"options": {}}, "option threads is not set, was 2"),
        ({"cores": 4}, "there are 4 cores, were 2"),
    ],
)
def test_profiles_grow_stale(changed: dict[str, Any], said: str) -> None:
    assert stale_reason(HELD, dataclasses.replace(HELD, **changed)) == said


def profile(speed: float, wide: float = 0.0) -> Profile:
    spread = Spread(speed, speed - wide, speed + wide, 3)
    level = Level(1, output_per_second=spread, latency_ms=Spread(9.0, 8.0, 10.0, 3))
    return Profile(1.0, "chat", (level,), HELD, requests=4, failed=1, memory_bytes={"host": 10**6})


def test_profiles_are_kept_whole() -> None:
    kept = json.loads(json.dumps(profile(5.0).as_dict()))
    assert Profile.from_dict(kept) == profile(5.0)
    history: tuple[Profile, ...] = ()
    for n in range(KEPT + 5):
        history = with_profile(history, profile(float(n)))
    assert len(history) == KEPT
    assert history[0] == profile(KEPT + 4.0)


@pytest.mark.parametrize(
    ("now", "wide", "change", "is_noise"),
    [
        (12.0, 0.0, 0.2, False),
        (12.0, 2.0, 0.2, True),
        (10.1, 0.0, 0.01, True),
        (8.0, 0.5, -0.2, False),
    ],
)
def test_profiles_are_compared(now: float, wide: float, change: float, is_noise: bool) -> None:
    (row, _) = compared(profile(10.0, wide), profile(now, wide))
    assert row["figure"] == "output_per_second"
    assert row["change"] == pytest.approx(change)
    assert row["is_noise"] is is_noise


def test_levels_of_other_texts_are_not_compared() -> None:
    spread = Spread(5.0, 5.0, 5.0, 1)

    def of(*texts: int) -> Profile:
        levels = tuple(Level(1, texts_per_second=spread, texts=n) for n in texts)
        return Profile(1.0, "embeddings", levels, HELD)

    assert [row["texts"] for row in compared(of(1, 8), of(8, 32))] == [8]
    former = of(1).as_dict()
    del former["levels"][0]["texts"]  # of an earlier version
    assert Profile.from_dict(former).level(1) is not None


def test_figures_have_the_names_that_others_know() -> None:
    assert in_words_of_m2(profile(5.0), "then") == {
        "averageLatency": 9.0,
        "tokensPerSecond": 5.0,
        "totalInferences": 4,
        "successRate": 0.75,
        "lastBenchmarked": "then",
        "memoryUsage": 1.0,
    }


TUNED = Tuned({"threads": 1}, "a", 1.1, 1.0, 1.2, "e", "1", "none", "f", {"seed": 3}, 1.0)


@pytest.mark.parametrize(
    ("model", "fingerprint", "options"),
    [
        (Model("m", "e", "none"), "f", {"threads": 1}),
        (Model("m", "e", "none", options={"threads": 4}), "f", {"threads": 4}),
        (Model("m", "e", "none", options={"seed": 4}), "f", {"threads": 1, "seed": 4}),
        (Model("m", "e", "none"), "g", {}),
        (Model("m", "e", "other"), "f", {}),
        (Model("m", "x", "none"), "f", {}),
        (Model("n", "e", "none"), "f", {}),
    ],
)
def test_what_was_tuned_counts_below_what_is_saved(
    model: Model, fingerprint: str, options: dict[str, Any]
) -> None:
    tuned = TunedOptions()
    tuned.put("m", Tuned.from_dict(json.loads(json.dumps(TUNED.as_dict()))))
    assert tuned.applied(model, fingerprint).options == options


def test_what_was_tuned_may_be_out_of_date() -> None:
    model = Model("m", "e", "none", options={"seed": 3})
    assert why_doubtful(TUNED, model, "1") == ""
    assert why_doubtful(TUNED, model, "2") == "e is 2, was 1"
    assert why_doubtful(TUNED, Model("m", "e", "none"), "1") == "the saved options were others"


def test_each_option_says_where_it_comes_from() -> None:
    schema = {"a": {"default": 1}, "b": {"default": 1}, "c": {}, "d": {}}
    effective = {"b": 2, "c": 3, "d": 4}
    layers = Layers(schema, {"b": 2}, {"c": 3}, effective, {"b": 2, "c": 9, "d": 4})
    found = {o.name: (o.effective, o.source, o.running) for o in layers.options()}
    assert found == {
        "a": (1, "default", 1),
        "b": (2, "tuned", 2),
        "c": (3, "saved", 9),
        "d": (4, "memory", 4),
    }
    assert layers.needs_reload
    assert not dataclasses.replace(layers, running=None).needs_reload
