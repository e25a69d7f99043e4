"""Answers of several models made one: what is read of them, how they are counted, what is told."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.routing import answers, votes
from modelpool.routing.kinds.ensemble import Ensemble, verdict_in
from modelpool.routing.kinds.registry import kind
from modelpool.routing.plan import Ask, Collect, FirstOf, InOrder, Outcome, Reply, Step
from modelpool.routing.request import RouteRequest
from modelpool.routing.virtual_model import read_virtual_model
from modelpool.routing.votes import Vote
from modelpool_client.errors import InvalidRequest

# None of these kinds looks at the catalog.
NOTHING_KNOWN: Any = None
CHAT = {"messages": [{"role": "user", "content": "6 times 7?"}]}


def chat(text: str, **choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    first = {"index": 0, "message": message, "finish_reason": "stop", **choice}
    return {"id": "x", "choices": [first], "usage": usage}


def outcome(said: Any, status: int = 200, error: str = "", **more: Any) -> Outcome:
    said = chat(said) if isinstance(said, str) else said
    body = b"" if status >= 400 else json.dumps(said).encode()
    return Outcome(Ask("m"), status, body, error=error, message=error, **more)


FAILED = outcome("", 502, "worker_failed")


def step_of(entry: dict[str, Any], request: RouteRequest | None = None) -> Step:
    model = read_virtual_model("v", entry, kind)
    request = request or RouteRequest("v", data=CHAT)
    return kind(model.kind).plan(model.spec, request, NOTHING_KNOWN).step


def joined(step: Step, *outcomes: Outcome) -> Any:
    assert isinstance(step, Collect)
    assert len(outcomes) == len(step.steps)
    return step.then([replace(o, position=i) for i, o in enumerate(outcomes)])


def text_of(made: Any) -> str:
    assert isinstance(made, Reply), made
    return answers.text_of(made.body)


# -- what is read of answers ----------------------------------------------------------------------

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1.0}'}}
WITH_CALL = {"choices": [{"message": {"content": None, "tool_calls": [CALL]}}]}
ANTHROPIC = {
    "type": "message",
    "content": [{"type": "text", "text": "hi"}, {"type": "tool_use", "name": "f", "input": {}}],
    "stop_reason": "max_tokens",
    "usage": {"input_tokens": 4, "output_tokens": 5},
}
RESPONSES = {
    "output": [
        {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
        {"type": "function_call", "name": "g", "arguments": "{"},
    ],
    "incomplete_details": {"reason": "max_output_tokens"},
}


@pytest.mark.parametrize(
    ("said", "text", "calls", "tokens", "is_cut_off"),
    [
        (chat("hi"), "hi", [], (3, 2), False),
        (chat("hi", finish_reason="length"), "hi", [], (3, 2), True),
        ({"choices": [{"text": "hi"}]}, "hi", [], (0, 0), False),
        (WITH_CALL, "", [("f", {"x": 1.0})], (0, 0), False),
        (ANTHROPIC, "hi", [("f", {})], (4, 5), True),
        (RESPONSES, "hi", [("g", None)], (0, 0), True),
        ({"message": {"content": "hi"}, "eval_count": 7}, "hi", [], (0, 7), False),
        ({"response": "hi", "done_reason": "length"}, "hi", [], (0, 0), True),
        ({}, "", [], (0, 0), False),
        ({"choices": 7, "content": 8, "output": [9], "usage": []}, "", [], (0, 0), False),
    ],
)
def test_every_api_s_answers_are_read(
    said: Any, text: str, calls: Any, tokens: tuple[int, int], is_cut_off: bool
) -> None:
    assert answers.text_of(said) == text
    assert [(c.name, c.arguments) for c in answers.calls_of(said)] == calls
    found = answers.tokens_of(said)
    assert (found.prompt, found.completion) == tokens
    assert answers.is_cut_off(said) is is_cut_off


@pytest.mark.parametrize(
    ("said", "is_one"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I\u2019m sorry, I cannot assist with this.", True),
        ("Unfortunately, I am unable to do so", True),
        ("As an AI language model, I", True),
        ("I cannot provide that.", True),
        ("Es tut mir leid, das geht nicht.", True),
        ("Sorry to hear that! Try this:", False),
        ("The assistant said: I'm sorry, I can't.", False),
        ("I can help you with that", False),
        ("Unfortunately it rains.", False),
        ({"choices": [{"message": {"content": "", "refusal": "no"}}]}, True),
        (chat("", finish_reason="content_filter"), True),
        ({"stop_reason": "refusal"}, True),
        ({"output": [{"content": [{"type": "refusal", "refusal": "no"}]}]}, True),
    ],
)
def test_refusals(said: Any, is_one: bool) -> None:
    assert answers.is_refusal(chat(said) if isinstance(said, str) else said) is is_one


def logprobs(*values: float) -> dict[str, Any]:
    return {"logprobs": {"content": [{"token": "x", "logprob": v} for v in values]}}


def test_how_sure_a_model_is() -> None:
    half = math.log(0.5)
    for said in (
        chat("x", **logprobs(half, half)),
        {"choices": [{"text": "x", "logprobs": {"token_logprobs": [None, half]}}]},
        {"response": "x", "logprobs": [{"logprob": half}]},
    ):
        assert answers.confidence_of(said) == pytest.approx(0.5)
    assert answers.confidence_of(chat("x")) is None
    assert answers.confidence_of(chat("x", **logprobs(math.nan))) is None


# -- votes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "compare", "are_equal"),
    [
        ("42", " 42.0.", "auto", True),
        ("**Paris**", "paris", "auto", True),
        ("Paris", "Rome", "auto", False),
        ('{"a": 1, "b": 2.0}', '```json\n{"b": 2, "a": 1}\n```', "auto", True),
        ('{"a": 1}', '{"a": 2}', "json", False),
        ("It is 1,234 in all", "so: 1234", "number", True),
        ("First 7, then 8", "8", "number", True),
        ("we think\n\nAnswer: B", "no\nanswer: b.", "line", True),
        ("a  b\nc", "A b c", "text", True),
        (WITH_CALL, {"content": [{"type": "tool_use", "name": "f", "input": {"x": 1}}]}, "auto", 1),
    ],
)
def test_what_is_the_same(one: Any, other: Any, compare: Any, are_equal: bool) -> None:
    a, b = (chat(x) if isinstance(x, str) else x for x in (one, other))
    keys = votes.key_of(a, compare), votes.key_of(b, compare)
    assert None not in keys
    assert (keys[0] == keys[1]) is bool(are_equal)


@pytest.mark.parametrize(
    ("text", "compare"), [("none", "number"), ("no json", "json"), ("", "auto"), (" . ", "line")]
)
def test_what_says_nothing_of_the_sort(text: str, compare: Any) -> None:
    assert votes.key_of(chat(text), compare) is None


VOTES = st.lists(
    st.tuples(st.sampled_from([None, "a", "b", "c"]), st.floats(0.001, 1000)), max_size=12
)


@given(VOTES, st.randoms())
def test_the_order_of_votes_makes_no_difference(said: Any, random: Any) -> None:
    cast = [Vote(i, key, weight) for i, (key, weight) in enumerate(said)]
    other = list(cast)
    random.shuffle(other)
    assert votes.decide(cast) == votes.decide(other)


@given(VOTES)
def test_who_wins_has_most_and_says_it(said: Any) -> None:
    cast = [Vote(i, key, weight) for i, (key, weight) in enumerate(said)]
    verdict = votes.decide(cast)
    counts = votes.tally(cast)
    if verdict is None:
        assert not counts
        return
    assert counts[verdict.key] == max(counts.values())
    assert cast[verdict.member].key == verdict.key
    assert 0 < verdict.share <= 1
    # One more vote for who has won changes nothing; a settled vote is changed by nobody.
    more = votes.decide([*cast, Vote(len(cast), verdict.key)])
    assert more is not None
    assert more.key == verdict.key


@given(VOTES, st.sampled_from(["a", "b", "c"]), st.floats(0.001, 1000))
def test_a_settled_vote_is_changed_by_nobody(said: Any, key: str, weight: float) -> None:
    cast = [Vote(i, k, w) for i, (k, w) in enumerate(said)]
    before = votes.decide(cast)
    if votes.is_settled(cast, weight):
        after = votes.decide([*cast, Vote(99, key, weight)])
        assert before is not None
        assert after is not None
        assert after.key == before.key


@given(st.dictionaries(st.integers(0, 9), st.text(max_size=30), min_size=1), st.randoms())
def test_who_is_most_like_the_others(texts: dict[int, str], random: Any) -> None:
    items = list(texts.items())
    random.shuffle(items)
    best, share = votes.most_alike(texts)
    assert votes.most_alike(dict(items)) == (best, pytest.approx(share))
    assert 0 <= share <= 1


ROWS = st.integers(1, 5).flatmap(
    lambda n: st.lists(
        st.lists(st.floats(-100, 100), min_size=n, max_size=n), min_size=1, max_size=5
    )
)


@given(ROWS, st.randoms())
def test_a_mean_is_between_and_in_any_order(rows: list[list[float]], random: Any) -> None:
    weights = [float(i + 1) for i in range(len(rows))]
    found = votes.mean(rows, weights)
    for x, column in zip(found, zip(*rows, strict=True), strict=True):
        assert min(column) - 1e-6 <= x <= max(column) + 1e-6
    pairs = list(zip(rows, weights, strict=True))
    random.shuffle(pairs)
    again = votes.mean([r for r, _ in pairs], [w for _, w in pairs])
    assert again == pytest.approx(found)
    length = math.hypot(*votes.mean_direction(rows, weights))
    assert length == pytest.approx(1) or length == 0


# -- entries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "begin"),
    [
        ({"members": []}, "members must be a list"),
        ({"members": ["a", {"model": "b", "samples": 99}]}, "members[1].samples must be between"),
        ({"members": [{"model": m, "samples": 16} for m in "abc"]}, "members would be asked"),
        ({"members": [{"model": "a", "weight": 0}]}, "members[0].weight must be between"),
        ({"method": "x"}, "method must be one of"),
        ({"strategy": "x"}, "method must be one of"),
        ({"strategy": "vote", "method": "vote"}, "strategy is unknown"),
        ({"method": "best_of"}, "judge is required"),
        ({"judge": "a"}, "judge is required for method best_of, and is for that alone"),
        ({"method": "best_of", "judge": {"model": "a", "prompt": "x"}}, "judge.prompt must be"),
        ({"agreement": 0.5}, "agreement is for method consensus"),
        ({"method": "consensus", "agreement": 2}, "agreement must be between"),
        ({"compare": "words"}, "compare by words is for"),
        ({"method": "first", "compare": "text"}, "compare means nothing"),
        ({"method": "first", "seconds": 3}, "least and seconds mean nothing"),
        ({"method": "consensus", "stop_early": True}, "stop_early is for method vote"),
        ({"least": 4}, "least is 4, but there are 3"),
        ({"seconds": 0}, "seconds must be between"),
    ],
)
def test_what_is_wrong_with_an_ensemble(more: dict[str, Any], begin: str) -> None:
    with pytest.raises(ValueError) as error:
        read_virtual_model("v", {"kind": "ensemble", "members": ["a", "b", "c"], **more}, kind)
    assert str(error.value).startswith(begin)


@pytest.mark.parametrize(
    "entry",
    [
        {"members": ["a", {"model": "b", "weight": 2, "samples": 3}], "method": "vote"},
        {"members": ["a"], "method": "best_of", "judge": {"model": "c", "prompt": "{answers}?"}},
        {"members": ["a", "b"], "method": "consensus", "agreement": 0.9, "compare": "words"},
        {"members": ["a", "b"], "method": "first"},
    ],
)
def test_entries_are_as_they_are_read(entry: dict[str, Any]) -> None:
    model = read_virtual_model("v", {"kind": "ensemble", **entry}, kind)
    assert model.as_entry() == {"kind": "ensemble", **entry}
    assert read_virtual_model("v", model.as_entry(), kind) == model
    assert "judge" not in entry or "c" in model.targets


@pytest.mark.parametrize(
    ("strategy", "method"),
    [("majority_vote", "vote"), ("first_success", "first"), ("consensus", "consensus")],
)
def test_methods_go_by_the_names_that_the_documents_use(strategy: str, method: str) -> None:
    entry = {"kind": "ensemble", "members": ["a", "b"], "strategy": strategy}
    assert read_virtual_model("v", entry, kind).as_entry()["method"] == method


# -- methods --------------------------------------------------------------------------------------

VOTE = {"kind": "ensemble", "members": ["a", "b", "c"]}


def test_a_vote_and_what_is_told_of_it() -> None:
    made = joined(step_of(VOTE), outcome("41"), FAILED, outcome("42."))
    assert text_of(made) == "41"  # a tie: the first member's
    assert "a tie of 2" in made.notes[0]
    assert made.notes[1] == "1 of 3 did not answer"
    made = joined(step_of(VOTE), outcome("41"), outcome("42", seconds=1.5), outcome("42."))
    assert text_of(made) == "42"
    told = made.body["modelpool"]
    assert told["share"] == pytest.approx(0.6667)
    assert [(m["model"], m["vote"], m.get("is_chosen")) for m in told["members"]] == [
        ("a", "41", None),
        ("b", "42", True),
        ("c", "42", None),
    ]
    assert told["members"][1]["usage"]["total_tokens"] == 5
    assert told["usage"]["total_tokens"] == 15
    assert "answer" not in told["members"][0]
    full = step_of(VOTE, RouteRequest("v", data=CHAT, members="Full"))
    made = joined(full, outcome("41"), FAILED, outcome("42"))
    members = made.body["modelpool"]["members"]
    assert members[0]["answer"] == chat("41")
    assert members[1]["error"] == {"code": "worker_failed", "message": "worker_failed"}
    none = step_of(VOTE, RouteRequest("v", data=CHAT, members="none"))
    assert "modelpool" not in joined(none, outcome("1"), outcome("1"), outcome("1")).body
    with pytest.raises(InvalidRequest, match="must be one of none, summary, full"):
        step_of(VOTE, RouteRequest("v", data=CHAT, members="all"))


def test_weights_samples_and_seeds() -> None:
    members = [{"model": "a", "weight": 3}, {"model": "b", "samples": 2}]
    entry = {"kind": "ensemble", "members": members}
    step = step_of(entry, RouteRequest("v", data={**CHAT, "seed": 7}))
    assert isinstance(step, Collect)
    asks = [ask for ask in step.steps if isinstance(ask, Ask)]
    assert [(a.model, dict(a.rules.overrides)) for a in asks] == [
        ("a", {}),
        ("b", {}),
        ("b", {"seed": 8}),
    ]
    assert text_of(joined(step, outcome("1"), outcome("2"), outcome("2"))) == "1"


def test_too_few_answers_are_told_as_a_failure() -> None:
    made = joined(step_of({**VOTE, "least": 2}), outcome("1"), FAILED, FAILED)
    assert isinstance(made, Outcome)
    assert (made.status, made.error) == (502, "ensemble_failed")
    assert "2 of 3 failed: b: worker_failed; c: worker_failed" in made.message
    mistake = outcome("", 400, "invalid_request")
    assert joined(step_of(VOTE), mistake, mistake, mistake).error == "invalid_request"


def test_a_vote_that_is_settled_needs_no_more() -> None:
    step = step_of({**VOTE, "stop_early": True})
    assert isinstance(step, Collect)
    assert step.is_enough is not None
    one, two = outcome("1", position=2), outcome("1", position=0)
    assert not step.is_enough([one])
    assert step.is_enough([one, two])
    assert not step.is_enough([one, outcome("2", position=0)])


def test_consensus_or_nothing() -> None:
    entry = {**VOTE, "method": "consensus"}
    assert text_of(joined(step_of(entry), outcome("1"), outcome("2"), outcome("2"))) == "2"
    made = joined(step_of(entry), outcome("1"), outcome("2"), outcome("3"))
    assert (made.status, made.error) == (502, "no_consensus")
    assert "33% agree, 67% must" in made.message
    words = {**entry, "compare": "words", "agreement": 0.5}
    texts = ("the cat sat down", "the cat sat here", "a dog")
    made = joined(step_of({**words, "agreement": 0.2}), *map(outcome, texts))
    assert text_of(made) == "the cat sat down"
    assert joined(step_of(words), *map(outcome, texts)).error == "no_consensus"


BEST = {"kind": "ensemble", "members": ["a", "b", "c"], "method": "best_of", "judge": "j"}


@pytest.mark.parametrize(
    ("said", "third", "text"),
    [
        ("2", "C", "B"),
        ("Answer 3.", "C", "C"),
        ("<think>1 or 2?</think> 3", "C", "C"),
        ("1 or 2", "B", "B"),
        ("they are all bad", "B", "B"),
        ("17", "B", "B"),
        (FAILED, "B", "B"),
    ],
)
def test_a_judge_and_one_that_answers_nonsense(said: Any, third: str, text: str) -> None:
    request = RouteRequest("v", data=CHAT, draw=0.0)
    step = joined(step_of(BEST, request), outcome("A"), outcome("B"), outcome(third))
    assert isinstance(step, Collect)
    (ask,) = step.steps
    assert isinstance(ask, Ask)
    assert ask.model == "j"
    assert ask.data is not None
    question = ask.data["messages"][0]["content"]
    assert "6 times 7?" in question
    assert f"Answer 1:\nA\n\nAnswer 2:\nB\n\nAnswer 3:\n{third}" in question
    made = joined(step, said if isinstance(said, Outcome) else outcome(said))
    assert text_of(made) == text
    judge = made.body["modelpool"]["members"][-1]
    assert judge["role"] == "judge"


def test_the_judge_s_order_is_turned_and_told_back() -> None:
    for draw in (0.0, 0.4, 0.9):
        step = joined(
            step_of(BEST, RouteRequest("v", data=CHAT, draw=draw)),
            *map(outcome, ("A", "B", "C")),
        )
        question = step.steps[0].data["messages"][0]["content"]
        first = question.partition("Answer 1:\n")[2][:1]
        assert text_of(joined(step, outcome("1"))) == first


def test_nobody_is_asked_to_judge_what_is_the_same() -> None:
    made = joined(step_of(BEST), outcome("A"), outcome("a."), FAILED)
    assert text_of(made) == "A"
    assert "no judge was asked" in made.notes[0]
    assert verdict_in("3.5", 9) is None


def test_first_and_routes_that_it_is_nothing_for() -> None:
    step = step_of({**VOTE, "method": "first"})
    assert step == FirstOf((Ask("a"), Ask("b"), Ask("c")))
    for method, path in (("vote", "/v1/embeddings"), ("average", "/v1/chat/completions")):
        with pytest.raises(InvalidRequest, match="joins answers by"):
            step_of({**VOTE, "method": method}, RouteRequest("v", path, CHAT))
    step = step_of(VOTE, RouteRequest("v", "/tokenize", {}))
    assert isinstance(step, InOrder)


def averaged(path: str, data: dict[str, Any], bodies: Sequence[Any]) -> Any:
    entry = {"kind": "ensemble", "members": [{"model": "a", "weight": 3}, "b"], "method": "average"}
    return joined(step_of(entry, RouteRequest("v", path, data)), *map(outcome, bodies))


def test_averages() -> None:
    def vectors(*rows: list[float]) -> Any:
        data = [{"index": i, "embedding": row} for i, row in enumerate(rows)]
        return {"data": list(reversed(data))}

    made = averaged("/v1/embeddings", {"input": "x"}, [vectors([2, 0]), vectors([0, 1])])
    assert made.body["data"][0]["embedding"] == pytest.approx([3 / 10**0.5, 1 / 10**0.5])
    said = {"input": "x", "encoding_format": "base64"}
    made = averaged("/v1/embeddings", said, [vectors([1, 0]), vectors([1, 0])])
    assert struct.unpack("<2f", base64.b64decode(made.body["data"][0]["embedding"])) == (1, 0)
    made = averaged("/v1/embeddings", {}, [vectors([1, 0]), vectors([1])])
    assert made.error == "not_comparable"
    made = averaged("/v1/embeddings", {}, [vectors([1]), {"no": 1}])
    assert made.error == "not_comparable"

    def ranks(*scores: float) -> Any:
        found = [{"index": i, "relevance_score": s} for i, s in enumerate(scores)]
        return {"results": sorted(found, key=lambda each: -each["relevance_score"])}

    made = averaged("/v1/rerank", {"top_n": 1}, [ranks(0.2, 0.4), ranks(1.0, 0.2)])
    assert made.body["results"] == [{"index": 0, "relevance_score": pytest.approx(0.4)}]

    def classes(*probs: float) -> Any:
        label = "yes" if probs[0] > probs[1] else "no"
        return {"data": [{"index": 0, "label": label, "probs": list(probs), "num_classes": 2}]}

    made = averaged("/v1/classify", {}, [classes(0.4, 0.6), classes(0.9, 0.1)])
    assert made.body["data"][0]["label"] == "yes"
    assert made.body["data"][0]["probs"] == pytest.approx([0.525, 0.475])


def test_the_kind_tells_what_it_does() -> None:
    found = Ensemble()
    assert found.required == ("members",)
    assert step_of(VOTE).how == "majority vote"  # type: ignore[union-attr]


# -- cascades -------------------------------------------------------------------------------------

CASCADE = {"kind": "cascade", "targets": ["a", "b"]}
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
WANTS = {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}


@pytest.mark.parametrize(
    ("more", "said", "asked", "why"),
    [
        ({}, "yes", {}, ""),
        ({}, "", {}, "its answer is empty"),
        ({}, "I cannot help with that", {}, "it refuses"),
        ({"escalate_on": []}, "I cannot help with that", {}, ""),
        ({"escalate_on": ["cut_off"]}, chat("x", finish_reason="length"), {}, "cut off"),
        ({}, "no json", WANTS, "it is no JSON"),
        ({}, '{"x": "y"}', WANTS, "as the schema says: x must be an integer"),
        ({}, '{"x": 1}', WANTS, ""),
        ({"schema": SCHEMA}, '{"x": 1}', {}, ""),
        ({"schema": SCHEMA}, "[]", {}, "not as the schema says"),
        ({"must_contain": ["so:"]}, "so", {}, "lacks 'so:'"),
        ({"must_contain": ["so:"]}, "so: 1", {}, ""),
        ({"min_confidence": 0.7}, chat("x", **logprobs(-0.1, -0.2)), {}, ""),
        ({"min_confidence": 0.7}, chat("x", **logprobs(-0.1, -2)), {}, "confidence 0.35 is below"),
        ({"min_confidence": 0.7}, "x", {}, "does not tell how sure"),
        ({}, FAILED, {}, "no answer (worker_failed)"),
        ({}, outcome("", 504, "member_timeout"), {}, "no answer (member_timeout)"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_when_the_next_is_asked(
    more: Any, said: Any, asked: Any, why: str, is_stream: bool
) -> None:
    request = RouteRequest("v", data={**CHAT, **asked}, is_stream=is_stream)
    step = step_of({**CASCADE, **more}, request)
    first = said if isinstance(said, Outcome) else outcome(said)
    made = joined(step, first)
    if not why:
        assert isinstance(made, Reply)
        assert answers.text_of(made.body) == answers.text_of(first.said())
        return
    assert not isinstance(made, (Reply, Outcome))
    asks = [s for s in (made, *getattr(made, "steps", ())) if isinstance(s, Ask)]
    assert asks[0].model == "b"
    assert why in asks[0].reason
    if not is_stream:
        reply = joined(made, outcome("large"))
        assert text_of(reply) == "large"
        members = reply.body["modelpool"]["members"]
        assert why in members[0]["not_relied_on"]
        assert members[1]["is_chosen"]


def test_what_no_other_would_do_better_ends_a_cascade() -> None:
    mistake = outcome("", 400, "invalid_request")
    assert joined(step_of(CASCADE), mistake) == replace(mistake, position=0)
    sure = {**CASCADE, "min_confidence": 0.5}
    no_words = replace(mistake, message="the engine tells no log probabilities (logprobs)")
    assert isinstance(joined(step_of(sure), no_words), Collect)
    step = step_of(sure)
    assert isinstance(step, Collect)
    assert isinstance(step.steps[0], Ask)
    assert step.steps[0].data == {**CHAT, "logprobs": True}


def test_an_answer_that_was_not_relied_on_is_better_than_none() -> None:
    refusal = "I cannot help with that"
    step = joined(step_of(CASCADE), outcome(refusal))
    made = joined(step, FAILED)
    assert text_of(made) == refusal
    assert "nobody after a has answered" in made.notes[-1]
    streamed = step_of(CASCADE, RouteRequest("v", data=CHAT, is_stream=True))
    made = joined(streamed, outcome(refusal))
    assert isinstance(made, InOrder)
    assert made.steps[0] == Ask("b", reason="a: it refuses")
    assert text_of(joined(made.steps[1])) == refusal
    # Nothing was said: the failure is told.
    assert joined(joined(step_of(CASCADE), FAILED), FAILED).error == "worker_failed"


@pytest.mark.parametrize(
    ("more", "begin"),
    [
        ({"targets": ["a"]}, "targets must be a list of 2 to 8"),
        ({"min_confidence": 2}, "min_confidence must be between"),
        ({"escalate_on": ["x"]}, "escalate_on "),
        ({"schema": 7}, "schema must be an object"),
        ({"must_contain": [""]}, "must_contain "),
    ],
)
def test_what_is_wrong_with_a_cascade(more: dict[str, Any], begin: str) -> None:
    with pytest.raises(ValueError) as error:
        read_virtual_model("v", {**CASCADE, **more}, kind)
    assert str(error.value).startswith(begin)


# -- omni -----------------------------------------------------------------------------------------

OMNI = {
    "kind": "omni",
    "chat": "a",
    "speech": "s",
    "transcription": "t",
    "picture": "p",
    "voice": "anna",
    "max_rounds": 2,
}


def calls(*named: tuple[str, Any], text: str = "") -> Outcome:
    told = [
        {
            "id": f"c{i}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for i, (name, arguments) in enumerate(named)
    ]
    message = {"role": "assistant", "content": text, "tool_calls": told}
    return outcome({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})


def tools_of(step: Any) -> list[str]:
    return [tool["function"]["name"] for tool in step.steps[0].data.get("tools", ())]


SOUND = {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}
SAID = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "input_audio", "input_audio": SOUND},
            ],
        }
    ],
    "tools": [{"type": "function", "function": {"name": "mine"}}],
}


def test_the_pool_s_tools_are_carried_out_and_told() -> None:
    step = step_of(OMNI, RouteRequest("v", data=SAID))
    assert tools_of(step) == ["mine", "speak_aloud", "transcribe_audio", "draw_picture"]
    content = step.steps[0].data["messages"][0]["content"]  # type: ignore[union-attr]
    assert content[1] == {"type": "text", "text": "[audio 1]"}
    work: Any = joined(
        step,
        calls(
            ("transcribe_audio", {"audio": 1}),
            ("speak_aloud", {"text": "hello"}),
            ("draw_picture", {"prompt": "a cat"}),
            ("transcribe_audio", {"audio": 2}),
        ),
    )
    heard, spoken, drawn = work.steps
    assert heard.files["file"].content == b"RIFF"
    assert (heard.model, heard.path) == ("t", "/v1/audio/transcriptions")
    assert (spoken.model, spoken.data) == ("s", {"input": "hello", "voice": "anna"})
    assert (drawn.model, drawn.data["prompt"]) == ("p", "a cat")
    wav = Outcome(Ask("s"), 200, b"WAVE", {"content-type": "audio/wav"})
    again: Any = joined(work, outcome({"text": "meow"}), wav, FAILED)
    messages = again.steps[0].data["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", *["tool"] * 4]
    told = [m["content"] for m in messages[2:]]
    assert told[0] == '{"text": "meow"}'
    assert told[1].startswith("done")
    assert told[2] == "error: worker_failed"
    assert told[3] == "error: audio must be a number from 1 to 1"
    made = joined(again, outcome("a cat says hello"))
    message = made.body["choices"][0]["message"]
    assert base64.b64decode(message["audio"]["data"]) == b"WAVE"
    assert made.notes == (
        "3 calls of the pool's tools in 1 rounds",
        "picture by p failed (worker_failed)",
    )
    members = made.body["modelpool"]["members"]
    assert [m["role"] for m in members] == ["chat", "transcription", "speech", "picture", "chat"]


def test_the_caller_s_own_tools_go_back_to_the_caller() -> None:
    step = step_of(OMNI, RouteRequest("v", data=SAID))
    made = joined(step, calls(("mine", {}), ("draw_picture", {"prompt": "x"})))
    (call,) = made.body["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "mine"
    assert "the caller's tools, which come first" in made.notes[0]
    made = joined(step, calls(("mine", {})))
    assert made.body["choices"][0]["finish_reason"] == "tool_calls"


def test_rounds_have_an_end() -> None:
    step: Any = step_of(OMNI, RouteRequest("v", data={**SAID, "tool_choice": "required"}))
    for _ in range(2):
        assert "draw_picture" in tools_of(step)
        work = joined(step, calls(("draw_picture", {"prompt": "x"})))
        step = joined(work, outcome({"data": [{"b64_json": "eA=="}]}))
        assert step.steps[0].data["tool_choice"] == "auto"
    assert tools_of(step) == ["mine"]
    more = ("draw_picture", {"prompt": "x"})
    assert joined(step, calls(more)).error == "too_many_tool_calls"
    made = joined(step, calls(more, text="enough"))
    assert text_of(made) == "enough"
    assert "tool_calls" not in made.body["choices"][0]["message"]
    assert len(made.body["choices"][0]["message"]["images"]) == 2


@pytest.mark.parametrize(
    ("more", "begin"),
    [
        ({"speech": None}, "speech must be the name"),
        ({"max_rounds": 9}, "max_rounds must be between"),
        ({"voice": ""}, "voice must not be empty"),
    ],
)
def test_what_is_wrong_with_an_omni_model(more: dict[str, Any], begin: str) -> None:
    with pytest.raises(ValueError) as error:
        read_virtual_model("v", {**OMNI, **more}, kind)
    assert str(error.value).startswith(begin)


def test_what_is_wrong_with_requests_to_one() -> None:
    own = {"tools": [{"type": "function", "function": {"name": "draw_picture"}}]}
    with pytest.raises(InvalidRequest, match="call yours otherwise"):
        step_of(OMNI, RouteRequest("v", data={**CHAT, **own}))
    bad = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "?"}}]}
    with pytest.raises(InvalidRequest, match="recording 1 is no base64"):
        step_of(OMNI, RouteRequest("v", data={"messages": [bad]}))
    assert step_of(OMNI, RouteRequest("v", "/v1/completions", {})) == Ask("a")
    with pytest.raises(ValueError, match="at least one"):
        read_virtual_model("v", {"kind": "omni", "chat": "a"}, kind)
