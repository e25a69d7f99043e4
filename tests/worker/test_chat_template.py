"""Chat templates of llama.cpp: the file's own that do not work, and those that options say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from modelpool.pulling.go_templates import KNOWN, KnownTemplate
from modelpool_client.errors import LoadFailed
from modelpool_worker.engines.gguf import CHAT_TEMPLATE, read_chat_templates
from modelpool_worker.engines.llama.llama_cpp import LlamaCpp, given_template
from modelpool_worker.engines.template_check import error_in, template_error

DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
OPTIONS = {"threads": 1, "parallel": 1}
GOOD = "{% for m in messages %}{{ m.content }}{% endfor %}"
NEVER_ENDED = "{% for m in messages %}{{ m.content }}{% endfoo %}"
# Parses; a filter that there is not is found when it is rendered.
NO_FILTER = "{% for m in messages %}{{ m.content | trin }}{% endfor %}"
# Of a model that thinks unless it is told not to.
THINKS = GOOD + "{% if enable_thinking is defined and not enable_thinking %}[none]{% endif %}"
BROKEN = {NEVER_ENDED: "endfoo", NO_FILTER: "trin", "{% if %}{{": "nexpected"}


def with_template(path: Path, template: str) -> Path:
    """The demo model with another chat template, in as many bytes: no offset changes."""
    data, own = DEMO.read_bytes(), read_chat_templates(str(DEMO))[CHAT_TEMPLATE].encode()
    assert data.count(own) == 1
    path.write_bytes(data.replace(own, template.encode().ljust(len(own))))
    return path


@pytest.mark.e2e
@pytest.mark.parametrize(("template", "words"), BROKEN.items(), ids=["end", "filter", "syntax"])
def test_a_broken_template_of_the_file_forbids_chats_only(
    worker: Any, tmp_path: Path, template: str, words: str
) -> None:
    file = with_template(tmp_path / "broken.gguf", template)
    one = worker(OPTIONS, engine="llama.cpp", source=str(file)).ready()
    for stream in (False, True):
        answer = one.chat(max_tokens=2, stream=stream)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "chat_template_error")
        assert answer.headers["x-modelpool-source"] == error["source"] == "engine"
        for said in (words, "chat_template_file", "--"):
            assert (said in error["message"]) == (said != "--"), error["message"]
    body = {"prompt": "a", "max_tokens": 2, "ignore_eos": True}
    text = one.http.post("/v1/completions", json=body).json()
    assert text["usage"]["completion_tokens"] == 2


@pytest.mark.e2e
@pytest.mark.parametrize("option", ["chat_template", "chat_template_file", "chatml"])
def test_an_option_stands_in_for_the_broken_template(
    worker: Any, tmp_path: Path, option: str
) -> None:
    file = with_template(tmp_path / "broken.gguf", NEVER_ENDED)
    said = tmp_path / "good.jinja"
    said.write_text(GOOD)
    given = {"chat_template": GOOD, "chat_template_file": str(said)}
    options = {"chat_template": "chatml"} if option == "chatml" else {option: given[option]}
    one = worker({**OPTIONS, **options}, engine="llama.cpp", source=str(file)).ready()
    answer = one.chat("a", max_tokens=1)
    assert answer.status_code == 200, answer.text
    # Without the marks of a turn, which the file's own and chatml put around it.
    assert (answer.json()["usage"]["prompt_tokens"] < 5) == (option != "chatml")


@pytest.mark.e2e
@pytest.mark.parametrize("option", ["chat_template", "chat_template_file"])
def test_an_option_that_does_not_parse_fails_the_load(
    worker: Any, tmp_path: Path, option: str
) -> None:
    said = tmp_path / "broken.jinja"
    said.write_text(NEVER_ENDED)
    options = {option: NEVER_ENDED if option == "chat_template" else str(said)}
    one = worker({**OPTIONS, **options}, engine="llama.cpp", source=str(DEMO)).start()
    assert one.wait_exit() == 3
    assert one.record["code"] == "bad_config"
    assert f"options.{option} " in one.record["message"]
    assert "endfoo" in one.record["message"]


def test_a_template_file_that_cannot_be_used(tmp_path: Path) -> None:
    cases: dict[str, tuple[bytes | None, str]] = {
        "none.jinja": (None, "No such file"),
        "binary.jinja": (b"{{ \xff }}", "UTF-8"),
        "huge.jinja": (b"{" * ((1 << 20) + 1), "larger than 1 MB"),
        "empty.jinja": (b"", "no Jinja"),
    }
    for name, (data, words) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(LoadFailed, match=words) as caught:
            given_template({"chat_template_file": str(tmp_path / name)})
        assert (caught.value.code, caught.value.param) == (
            "bad_config",
            "options.chat_template_file",
        )
    with pytest.raises(LoadFailed, match="is not a file"):
        given_template({"chat_template_file": str(tmp_path)})


@pytest.mark.e2e
@pytest.mark.parametrize(("reasoning", "thinks"), [(None, True), (True, True), (False, False)])
def test_whether_a_model_thinks(worker: Any, reasoning: bool | None, thinks: bool) -> None:
    more = {} if reasoning is None else {"reasoning": reasoning}
    options = OPTIONS | {"chat_template": THINKS} | more
    one = worker(options, engine="llama.cpp", source=str(DEMO)).ready()
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    for asked, expected in ((None, thinks), (True, True), (False, False)):
        kwargs = {} if asked is None else {"chat_template_kwargs": {"enable_thinking": asked}}
        prompt = one.http.post("/apply-template", json=body | kwargs).json()["prompt"]
        assert ("[none]" not in prompt) == expected, (asked, prompt)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"chat_template": GOOD, "chat_template_file": "/t.jinja"}, "options.chat_template_file"),
        ({"chat_template_file": "t.jinja"}, "options.chat_template_file"),
        ({"chat_template": "llama99"}, "options.chat_template"),
        ({"chat_template": "llama3", "reasoning": True}, "options.reasoning"),
        ({"chat_template": ""}, "options.chat_template"),
        ({"chat_template": 5}, "options.chat_template"),
    ],
)
def test_options_that_say_no_template(options: dict[str, Any], param: str) -> None:
    with pytest.raises(LoadFailed) as caught:
        LlamaCpp().check(options)
    assert (caught.value.code, caught.value.param) == ("bad_config", param)


def test_options_that_say_one() -> None:
    for text in (GOOD, "chatml", "llama3"):
        LlamaCpp().check({"chat_template": text})
        assert given_template({"chat_template": text}) == text
    LlamaCpp().check({"chat_template_file": "/t.jinja"})
    assert given_template({}) is None


@pytest.mark.e2e
def test_a_template_that_llama_cpp_has_by_name(worker: Any) -> None:
    options = OPTIONS | {"chat_template": "llama3"}
    one = worker(options, engine="llama.cpp", source=str(DEMO)).ready()
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    prompt = one.http.post("/apply-template", json=body).json()["prompt"]
    assert prompt.startswith("<|start_header_id|>user<|end_header_id|>"), prompt
    assert one.chat("hi", max_tokens=1).status_code == 200
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    for name, value in {"tools": [tool], "chat_template_kwargs": {"a": 1}}.items():
        answer = one.chat("hi", max_tokens=1, **{name: value})
        refused = answer.status_code == 400 and answer.json()["error"]["param"] == name
        assert refused or name in answer.headers["x-modelpool-ignored"], answer.text


def test_a_template_is_tried_without_its_model() -> None:
    for template in (GOOD, "chatml", read_chat_templates(str(DEMO))[CHAT_TEMPLATE]):
        assert template_error({CHAT_TEMPLATE: template}) is None
    for template, words in BROKEN.items():
        assert words in (template_error({CHAT_TEMPLATE: template}) or "")


def test_words_about_something_else() -> None:
    assert error_in("0.00.1 E llama_model_load: error loading model: bad_alloc\n") is None
    assert error_in("E init: chat template parsing error: odd\nE example: --no-jinja") == "odd"


def test_a_file_without_templates(tmp_path: Path) -> None:
    assert read_chat_templates(str(tmp_path / "none.gguf")) == {}
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(DEMO.read_bytes()[:2000])
    assert read_chat_templates(str(cut)) == {}


TALK = [
    {"role": "system", "content": "BEHAVE"},
    {"role": "user", "content": "ONE"},
    {"role": "assistant", "content": "TWO"},
    {"role": "user", "content": "THREE"},
]


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_what_stands_for_a_template_of_ollamas_says_all_in_its_order(
    worker: Any, known: KnownTemplate
) -> None:
    options = {**OPTIONS, "chat_template": known.jinja}
    one = worker(options, engine="llama.cpp", source=str(DEMO)).ready()
    text = one.http.post("/apply-template", json={"messages": TALK}).json()["prompt"]
    places = [text.index(each["content"]) for each in TALK]
    assert places == sorted(places)
    assert all(text.count(each["content"]) == 1 for each in TALK)
    assert all(mark in text for mark in known.marks)
