"""What a request needs: kinds of work, difficulty, capabilities, in several languages."""
# ruff: noqa: RUF001

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool.routing.asked import read
from modelpool.routing.difficulty import SAID, Complexity, complexity_of
from modelpool.routing.features import Features, features_of
from modelpool.routing.parts import HEAD, TAIL, parts_of
from modelpool.routing.tasks import Task
from modelpool.routing.weights import OF_TASK, WEIGHTS
from router_eval.adversarial import PAIRS, SAME


def of(prompt: str, **body: object) -> Features:
    return features_of({"prompt": prompt, **body})


TASKS = {
    "Implement a binary search tree in Rust with unit tests": Task.CODE_GENERATION,
    "Écris une fonction Python qui inverse une liste": Task.CODE_GENERATION,
    "Escribe una función en Python que ordene una lista": Task.CODE_GENERATION,
    "写一个函数反转链表": Task.CODE_GENERATION,
    "What does this print?\n```python\nx = 1\nprint(x)\n```": Task.CODE_ANALYSIS,
    "Solve 3x + 5 = 20": Task.MATH,
    "Beweise, dass die Wurzel aus 2 irrational ist, mit x^2 = 2": Task.MATH,
    "Translate into German: the cat sleeps on the warm roof today": Task.TRANSLATION,
    "Übersetze ins Englische: die Katze schläft auf dem Dach": Task.TRANSLATION,
    "Summarize the plot of Hamlet": Task.SUMMARY,
    "Fasse die Handlung von Faust zusammen": Task.SUMMARY,
    "Write a poem about the sea": Task.CREATIVE_WRITING,
    "Schreib ein Gedicht über das Meer": Task.CREATIVE_WRITING,
    "Classify the sentiment of this review: good": Task.TEXT_ANALYSIS,
    "Correct the grammar of this sentence": Task.EDITING,
    "Plan a weekend in Rome": Task.PLANNING,
    "Which row is largest?\n\na,b,c\n1,2,3\n4,5,6\n7,8,9": Task.DATA_ANALYSIS,
    "Compare trains and buses and justify your choice": Task.REASONING,
    "Who wrote Faust?": Task.QUESTION_ANSWERING,
    "Hello there": Task.CONVERSATION,
}


@pytest.mark.parametrize(("prompt", "task"), TASKS.items())
def test_kinds_of_work(prompt: str, task: Task) -> None:
    assert of(prompt).task is task


LANGUAGES = {
    "What is the name of the river that runs through the city?": "en",
    "Wie heißt der Fluss, der durch die Stadt fließt?": "de",
    "Comment s'appelle la rivière qui traverse la ville ?": "fr",
    "¿Cómo se llama el río que pasa por la ciudad?": "es",
    "Come si chiama il fiume che attraversa la città?": "it",
    "Hoe heet de rivier die door de stad stroomt?": "nl",
    "这条河叫什么名字？": "zh",
    "この川の名前は何ですか": "ja",
    "이 강의 이름은 무엇입니까?": "ko",
    "Как называется эта река?": "ru",
    "xkcd qwfp": "",
}


@pytest.mark.parametrize(("prompt", "language"), LANGUAGES.items())
def test_languages(prompt: str, language: str) -> None:
    assert of(prompt).language == language


@pytest.mark.parametrize("trick", PAIRS)
def test_the_harder_of_two_is_harder_whatever_they_look_like(trick: str) -> None:
    easier, harder = (of(prompt).difficulty for prompt in PAIRS[trick])
    assert easier + 0.03 < harder


@pytest.mark.parametrize("change", SAME)
def test_the_same_in_other_words_is_as_hard(change: str) -> None:
    found = [of(prompt).difficulty for prompt in SAME[change]]
    assert max(found) - min(found) < 0.2


def test_the_documents_own_examples() -> None:
    assert of("What is the capital of France?").complexity is Complexity.TRIVIAL
    tree = of("Implement a binary search tree in Rust with unit tests")
    assert (tree.task, tree.complexity) == (Task.CODE_GENERATION, Complexity.MODERATE)
    design = of("Design a distributed training system with FSDP").difficulty
    b_tree = of("Implement a B-tree in Rust with insertion and deletion").difficulty
    assert min(design, b_tree) > 0.4


def test_difficulty_has_a_word() -> None:
    words = [complexity_of(d) for d in (0.0, 0.3, 0.5, 0.7, 0.9)]
    assert words == list(Complexity)


def test_every_weight_has_a_measure_and_words() -> None:
    assert WEIGHTS.keys() == SAID.keys() == of("Hi").measures.keys()
    assert set(OF_TASK) <= {task.value for task in Task}
    assert all(weight > 0 for weight in WEIGHTS.values())


PICTURE = [
    {"type": "text", "text": "What is on it?"},
    {"type": "image_url", "image_url": {"url": "data:,"}},
]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
NEEDS = {
    "plain": ({"messages": [{"role": "user", "content": "Hi"}]}, {"chat"}),
    "picture": ({"messages": [{"role": "user", "content": PICTURE}]}, {"chat", "vision"}),
    "tools": ({"prompt": "Hi", "tools": [{"type": "function"}]}, {"chat", "tools"}),
    "no tool": (
        {"prompt": "Hi", "tools": [{"type": "function"}], "tool_choice": "none"},
        {"chat"},
    ),
    "json": (
        {"prompt": "Hi", "response_format": {"type": "json_object"}},
        {"chat", "json_mode"},
    ),
    "schema": (
        {
            "prompt": "Hi",
            "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
        },
        {"chat", "json_schema"},
    ),
    "logprobs": ({"prompt": "Hi", "logprobs": True}, {"chat", "logprobs"}),
}


@pytest.mark.parametrize("case", NEEDS)
def test_needed_capabilities(case: str) -> None:
    body, needs = NEEDS[case]
    assert features_of(body).needs == needs


def test_what_was_asked_before_counts_for_a_short_turn_that_goes_on() -> None:
    first = "Implement a lock-free queue in Rust with hazard pointers and explain the memory order."
    turns = [{"role": "user", "content": first}, {"role": "assistant", "content": "…"}]
    went_on = features_of({"messages": [*turns, {"role": "user", "content": "And in C++?"}]})
    thanked = features_of({"messages": [*turns, {"role": "user", "content": "Thanks!"}]})
    assert went_on.difficulty > 0.4 > 0.2 > thanked.difficulty
    assert went_on.task is Task.CODE_GENERATION


def test_context_and_answer() -> None:
    long = of("word " * 4000)
    assert 4000 <= long.prompt_tokens <= 6000
    assert of("Write a story of 2000 words about a fox").answer_tokens > 2000
    assert of("Write a story of 2000 words about a fox", max_tokens=50).answer_tokens == 50


def test_cases_with_answers_are_not_the_case_at_hand() -> None:
    shots = "Q: What is 2+2?\nA: 4\n\nQ: What is 3+3?\nA: 6\n\nQ: What is 4+4?\nA:"
    found = parts_of(shots)
    assert found.examples == 2
    assert "4+4" in found.request
    assert "2+2" not in found.request


def test_choices_material_and_code_are_taken_apart() -> None:
    text = "Which is right?\nA. one\nB. two\nC. three\n\n```js\nlet a = 1;\nlet b = 2;\n```"
    found = parts_of(text)
    assert found.options == ("one", "two", "three")
    assert found.code.count("\n") == 2
    assert found.request.strip() == "Which is right?"


def test_a_text_that_is_the_problem_is_not_material_only() -> None:
    statement = "There are n towns and m roads of length 1 to 9, and q questions about them. " * 8
    limits = "n <= 1000, m <= 5000, q <= 300 and every road may be closed once a day. " * 4
    ask = "Write a program in C++ that answers them all."
    solve = of(f"{ask}\n\n{statement}\n\n{limits}\n\n{ask}")
    look = of(f"Summarize this.\n\n{statement}\n\n{limits}\n\nSummarize this.")
    assert solve.difficulty - of(ask).difficulty > 0.1
    assert look.difficulty < of(ask).difficulty


@given(st.text(max_size=HEAD + TAIL + 500))
@settings(max_examples=100, deadline=None)
def test_any_text_has_features(text: str) -> None:
    found = of(text)
    assert 0 <= found.difficulty <= 1
    assert all(0 <= value <= 1 for value in found.measures.values())
    assert found == of(text)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["messages", "prompt", "tools", "response_format", "max_tokens", "tool_choice"]
        ),
        ANY,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_body_is_read(body: dict[str, object]) -> None:
    assert read(body).tokens >= 0


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        "(" * 50_000,
        "\n" * 50_000,
        '"' * 50_000,
        "x_" * 30_000,
        "1-" * 30_000,
        ",;" * 30_000,
        "```\n" * 10_000,
        "A) " * 10_000,
        "Q: a\nA: b\n" * 5_000,
        "\u4e2d" * 50_000,
        "- x\n" * 10_000,
    ],
    ids=lambda text: repr(text[:6]),
)
def test_the_work_does_not_grow_with_the_length(text: str) -> None:
    """Only so much of it is looked at: the same with ten times as much in its middle."""
    middle = len(text) // 2
    longer = text[:middle] + text * 3 + text[middle:]
    short, long = parts_of(text), parts_of(longer)
    assert long.characters > short.characters
    assert len(long.request) + len(long.material) + len(long.code) <= HEAD + TAIL + 200
    assert of(text).measures.keys() == of(longer).measures.keys()


def test_a_short_request_is_not_said_to_say_much() -> None:
    of_every_text = {SAID["length"], SAID["content"], SAID["rarity"]}
    for prompt in ("Write a sorting function", "Which port does the pool manager listen on?"):
        assert of_every_text.isdisjoint(of(prompt).reasons)
    asked = "Compare the causes of the war in the north with those in the south, step by step, for "
    long = asked + "each of the seven provinces and their neighbours " * 6
    assert SAID["length"] in of(long).reasons
