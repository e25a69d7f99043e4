"""What goes with a model, why, and how it is taken by its name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from modelpool.catalog.companion_names import with_paths
from modelpool.discovery.companions import Companions, by_kind, fitting_draft
from modelpool.discovery.findings import Finding
from modelpool.discovery.merge import Wishes, merged
from modelpool_client.errors import InvalidRequest

WORDS = {"tokenizer": "gpt2", "vocabulary_size": 1000}


def model(name: str, folder: str = "f", **more: Any) -> Finding:
    path = f"/m/{folder}/{name}.gguf"
    own: dict[str, Any] = {"family": f"/m/{folder}", "size_bytes": 100, **WORDS}
    made = Finding(path, "/m", "model", format="gguf", identity=path)
    return replace(made, **own | more)


def companion(kind: str, name: str, folder: str = "f", **more: Any) -> Finding:
    own = {"size_bytes": 10, "companion": kind} | more
    return replace(model(name, folder, **own), kind="companion")


BIG = model("llama-8b-q4_k_m", title="Llama 8B")
MARKED = "its file says that it is for Llama 8B"
ALONE = "it lies with it, and with no other model"
ALIKE = "it lies with it, and is called like it"


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([companion("adapter", "pirate-lora")], ALONE),
        ([companion("adapter", "pirate-lora"), model("llama-8b-q8_0")], ALONE),
        ([companion("adapter", "pirate-lora"), model("qwen-2b")], None),
        ([companion("adapter", "llama-8b-lora"), model("qwen-2b")], ALIKE),
        ([companion("adapter", "pirate-lora", "loras")], None),
        ([companion("adapter", "pirate", "loras", base_model="llama-8b")], MARKED),
        # It is for another one, which is there, and for nobody else whatever it is called.
        (
            [companion("adapter", "llama-8b-lora", base_model="Qwen"), model("q", title="qwen")],
            None,
        ),
        # Its base is not there: where it lies tells.
        ([companion("adapter", "pirate", base_model="Llama 8B Base")], ALONE),
    ],
)
def test_what_goes_with_a_model(others: list[Finding], expected: str | None) -> None:
    for findings in ([BIG, *others], [*reversed(others), BIG]):
        found = Companions(findings).of([BIG])
        reasons = [each.reason.replace("llama-8b", "Llama 8B") for each in found]
        assert reasons == ([] if expected is None else [expected])


def test_a_store_says_what_goes_with_its_model() -> None:
    stored = replace(BIG, companions={"adapter": ("/m/x",)})
    (found,) = Companions([stored]).of([stored])
    assert (found.kind, found.path, found.reason) == ("adapter", "/m/x", "its store says so")
    assert by_kind([found]) == {"adapter": ["/m/x"]}


@pytest.mark.parametrize(
    ("draft", "fits"),
    [
        ({}, True),
        ({"size_bytes": 50}, True),
        ({"size_bytes": 51}, False),
        ({"vocabulary_size": 1001}, False),
        ({"tokenizer": "llama"}, False),
        ({"tokenizer": "", "vocabulary_size": 0}, False),
    ],
)
def test_a_draft_must_have_the_same_tokens_and_be_small(
    draft: Mapping[str, Any], fits: bool
) -> None:
    small = companion("draft", "llama-draft", **draft)
    found = fitting_draft(BIG, Companions([BIG, small]).of([BIG]))
    assert found == (small.path if fits else None)


EYES, SMALL, STYLE = (
    companion(kind, name)
    for kind, name in (("projector", "mmproj"), ("draft", "draft"), ("adapter", "lora"))
)


@pytest.mark.parametrize(
    ("there", "attach", "options"),
    [
        ([SMALL], ("projector", "draft"), {"draft_model": SMALL.path}),
        ([EYES, SMALL], ("projector", "draft"), {"mmproj": EYES.path}),
        ([EYES, SMALL], ("draft",), {"draft_model": SMALL.path}),
        ([EYES, SMALL], (), {}),
        ([STYLE], ("projector", "draft"), {}),
    ],
)
def test_what_a_new_model_is_run_with(
    there: list[Finding], attach: tuple[str, ...], options: Mapping[str, str]
) -> None:
    """An adapter never is: it changes what the model says."""
    findings = [BIG, *there]
    (put,) = merged(findings, [], Wishes(), {"gguf": "llama.cpp"}, attach).put
    assert put.model.options == options
    assert put.model.companion_reasons == {each.path: ALONE for each in there}
    off = replace(put.model, options={})
    assert merged(findings, [off], Wishes(), {"gguf": "llama.cpp"}, attach).put == ()


FORMAL = {"name": "formal", "path": "/m/g/formal.gguf"}
HERE = {"adapter": ["/m/f/pirate.gguf", "/m/g/formal.gguf"], "draft": ["/m/f/tiny.gguf"]}


@pytest.mark.parametrize(
    ("said", "done"),
    [
        ({"draft_model": "tiny"}, {"draft_model": "/m/f/tiny.gguf"}),
        ({"draft_model": "tiny.gguf"}, {"draft_model": "/m/f/tiny.gguf"}),
        ({"draft_model": "/elsewhere.gguf"}, {"draft_model": "/elsewhere.gguf"}),
        ({"lora": ["pirate"]}, {"lora": [{"name": "pirate", "path": "/m/f/pirate.gguf"}]}),
        (
            {"lora": [{"name": "formal", "scale": 0}, {"path": "/x.gguf"}]},
            {"lora": [{**FORMAL, "scale": 0}, {"path": "/x.gguf"}]},
        ),
        ({"lora": None, "draft_model": None}, {"lora": None, "draft_model": None}),
        ({"lora": [3], "threads": 2}, {"lora": [3], "threads": 2}),
    ],
)
def test_it_is_taken_by_its_name(said: Mapping[str, Any], done: Mapping[str, Any]) -> None:
    assert with_paths(said, HERE) == done


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"lora": ["pirat"]}, "those are formal, pirate; did you mean pirate?"),
        ({"lora": ["tiny"]}, "no adapter that was found"),
        ({"mmproj": "eyes"}, "there is none"),
        ({"draft_model": "pirate"}, "those are tiny"),
    ],
)
def test_a_name_that_nothing_has(said: Mapping[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match="options") as caught:
        with_paths(said, HERE)
    assert told in caught.value.message
    assert caught.value.param == f"options.{next(iter(said))}"


def test_a_flat_folder_of_many_models_costs_no_more_for_each() -> None:
    """Calls are counted, for each model, of a folder with a few and with many beside."""

    def calls(count: int) -> float:
        eyes = [companion("projector", f"mmproj-{i}") for i in range(5)]
        models = [model(f"model-{i}") for i in range(count)]
        done = 0

        def note(_: Any, event: str, __: Any) -> None:
            nonlocal done
            done += event == "call"

        sys.setprofile(note)
        try:
            found = Companions([*models, *eyes])
            for each in models:
                found.of([each])
        finally:
            sys.setprofile(None)
        return done / count

    assert calls(400) <= 1.5 * calls(40)
