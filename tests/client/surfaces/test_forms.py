"""Forms, as httpx writes them and as nobody does."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import InvalidRequest, UnsupportedMediaType
from modelpool_client.surfaces import forms

NAMES = st.text("abcdefg_", min_size=1, max_size=8)


def written(**form: Any) -> tuple[bytes, bytes]:
    request = httpx.Request("POST", "http://x", **form)
    return request.headers["content-type"].encode(), request.read()


@given(texts=st.dictionaries(NAMES, st.text(max_size=50), max_size=4), file=st.binary(max_size=200))
def test_what_httpx_writes_is_read(texts: dict[str, str], file: bytes) -> None:
    texts.pop("file", None)
    kind, body = written(data=texts, files={"file": ("näme.wav", file, "audio/wav")})
    fields = forms.decode(kind, body)
    assert fields.pop("file") == {
        "filename": "näme.wav",
        "content_type": "audio/wav",
        "size": len(file),
    }
    assert fields == texts


def test_several_of_a_name_are_a_list() -> None:
    kind, body = written(
        data={"t[]": ["word"], "u": ["a", "b"]},
        files=[("image[]", b"1"), ("image[]", b"22")],
    )
    fields = forms.decode(kind, body)
    assert (fields["t"], fields["u"]) == (["word"], ["a", "b"])
    assert [image["size"] for image in fields["image"]] == [1, 2]


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        forms.decode(b"multipart/form-data; boundary=x", body)


@given(st.data())
def test_a_form_that_ends_early_is_refused(data: st.DataObject) -> None:
    kind, body = written(data={"model": "m"}, files={"file": b"abc"})
    end = body.rindex(b"--")  # what comes after the last boundary says nothing
    with pytest.raises(InvalidRequest):
        forms.decode(kind, body[: data.draw(st.integers(0, end))])


def test_too_many_parts_and_too_long_texts() -> None:
    kind, body = written(data={f"a{i}": "" for i in range(forms.MOST_PARTS + 1)}, files={"f": b""})
    with pytest.raises(InvalidRequest, match="parts"):
        forms.decode(kind, body)
    kind, body = written(data={"a": "x" * (forms.LONGEST_TEXT_BYTES + 1)}, files={"f": b""})
    with pytest.raises(InvalidRequest, match="bytes"):
        forms.decode(kind, body)


TABLE = {
    "properties": {
        "n": {"type": ["integer", "null"]},
        "t": {"type": "number"},
        "stream": {"type": "boolean"},
        "list": {"type": ["array", "null"]},
        "text": {"type": "string"},
    }
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("n", "3", 3),
        ("n", "3.5", "3.5"),
        ("n", "many", "many"),
        ("t", "0.5", 0.5),
        ("t", "nan", "nan"),
        ("t", "-inf", "-inf"),
        ("stream", "true", True),
        ("stream", "False", False),
        ("stream", "yes", "yes"),
        ("list", "a", ["a"]),
        ("text", "1", "1"),
        ("other", "1", "1"),
    ],
)
def test_texts_become_what_the_table_says(name: str, text: str, value: Any) -> None:
    assert forms.typed({name: text}, TABLE) == {name: value}


@pytest.mark.parametrize(
    "kind",
    [None, b"", b"application/json", b"multipart/form-data", b"multipart/mixed; boundary=x"],
)
def test_what_is_no_form_is_refused_before_it_is_read(kind: bytes | None) -> None:
    headers = [] if kind is None else [(b"content-type", kind)]
    with pytest.raises(UnsupportedMediaType):
        forms.check(headers)
    forms.check([(b"content-type", b"Multipart/Form-Data; boundary=x")])


@given(
    texts=st.dictionaries(NAMES, st.text(max_size=50), max_size=4),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    file=st.binary(max_size=200),
)
def test_another_text_in_its_place_and_all_else_as_it_was(
    texts: dict[str, str], before: str, after: str, file: bytes
) -> None:
    texts.pop("file", None)
    content: Any = {"files": {"file": ("model", file, "audio/wav")}}
    kind, body = written(data={**texts, "model": before}, **content)
    _, expected = written(
        data={**texts, "model": after}, headers={"content-type": kind.decode()}, **content
    )
    assert forms.with_text(kind, body, "model", after) == expected
    assert forms.with_text(kind, body, "none", after) == body
