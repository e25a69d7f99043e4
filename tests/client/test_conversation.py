"""What is kept of a conversation, and what its commands do."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelpool_client.cli.conversation import (
    COMMANDS,
    Conversation,
    command_of,
    cost_of,
    figures_text,
    help_text,
    saved_names,
)
from modelpool_client.errors import InvalidRequest

PICTURE = b"\x89PNG"


def test_it_is_kept_and_had_back(tmp_path: Path) -> None:
    talk = Conversation("m", "be nice", {"temperature": 0.5})
    talk.say("hällo")
    talk.answered("hi")
    talk.save("one", tmp_path)
    assert saved_names(tmp_path) == ["one"]
    other = Conversation("n")
    other.load("one", tmp_path)
    assert other == talk


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 1}', "{"])
def test_what_is_no_conversation_changes_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    talk = Conversation("m")
    with pytest.raises(InvalidRequest, match="holds no conversation"):
        talk.load("bad", tmp_path)
    assert talk == Conversation("m")


def test_names_stay_in_the_folder(tmp_path: Path) -> None:
    for name in ("../x", "a/b", "", ".hidden", "x" * 81):
        with pytest.raises(InvalidRequest, match="no name for a conversation"):
            Conversation("m").save(name, tmp_path)
    with pytest.raises(InvalidRequest, match="there is none"):
        Conversation("m").load("other", tmp_path)


def test_what_is_attached_goes_with_the_next_message(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURE)
    (tmp_path / "b.md").write_text("# b")
    (tmp_path / "c.bin").write_bytes(b"\xff\xfe")
    talk = Conversation("m")
    talk.attach_image(tmp_path / "a.png")
    talk.attach_file(tmp_path / "b.md")
    talk.say("what?")
    talk.answered("this")
    talk.say("and?")
    assert [part["type"] for part in talk.messages[0]["content"]] == ["image_url", "text", "text"]
    assert talk.messages[0]["content"][0]["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    assert talk.messages[2]["content"] == "and?"
    for attach, path, why in (
        (talk.attach_file, "c.bin", "no UTF-8 text"),
        (talk.attach_image, "b.md", "no picture"),
        (talk.attach_file, "none", "cannot be read"),
    ):
        with pytest.raises(InvalidRequest, match=why):
            attach(tmp_path / path)
    assert talk.attached == []


def test_parameters() -> None:
    talk = Conversation("m")
    assert talk.set("") == "nothing"
    talk.set("temperature 0.25")
    talk.set('stop ["a"]')
    talk.set("user me myself")
    assert talk.params == {"temperature": 0.25, "stop": ["a"], "user": "me myself"}
    talk.set("temperature -")
    assert "temperature" not in talk.params
    talk.set("top_p=0.5")
    talk.set("seed = 7")
    talk.set("suffix a=b c")
    assert (talk.params.pop("top_p"), talk.params.pop("seed")) == (0.5, 7)
    assert talk.params.pop("suffix") == "a=b c"
    talk.set("min_p=-")
    for said in ("seed", "seed=", "=1"):
        with pytest.raises(InvalidRequest, match="sets nothing"):
            talk.set(said)
    for said in ("model x", "messages []", "stream false", "told 1"):
        with pytest.raises(InvalidRequest, match="is not set so"):
            talk.set(said)
    assert talk.params.keys() == {"stop", "user"}


def test_commands() -> None:
    assert command_of("hello /exit") is None
    assert command_of("//etc is a folder") is None
    assert command_of("/set  a  1 ") == ("/set", "a  1")
    assert command_of("/bye") == ("/exit", "")
    with pytest.raises(InvalidRequest, match="/help"):
        command_of("/sett a 1")
    for name in COMMANDS:
        assert command_of(name.split()[0]) is not None
        assert name in help_text()


def test_what_an_answer_took() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    usage_cached = {**usage, "prompt_tokens_details": {"cached_tokens": 400}}
    prices = {"input": 10, "output": 20, "cached_input": 1, "request": 0.5, "currency": "EUR"}
    assert cost_of(prices, 1000, 400, 100) == pytest.approx(0.5 + (6000 + 400 + 2000) / 1e6)
    told = {"usage": usage_cached, "timings": {"prompt_ms": 250}}
    assert figures_text(told, 1.0, 3.0, prices) == (
        "1,000 read (400 cached) · 100 written, 50.0/s · waited 0.75 s · reading 0.25 s"
        " · writing 2.00 s · 0.508400 EUR"
    )
    assert figures_text({}, None, 2.0, {}) == "waited 2.00 s · writing 0.00 s"
