"""What was found against the catalog: by tables, and by properties of any that there may be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.model import Model, id_problem
from modelpool.catalog.model_info import ModelInfo
from modelpool.catalog.request_rules import check_rules
from modelpool.discovery.findings import Finding, info_as_text
from modelpool.discovery.merge import Merged, Wishes, merged

ENGINES = {"gguf": "llama.cpp"}


def finding(path: str, identity: str = "", kind: str = "model", **values: object) -> Finding:
    made = Finding(path, "/m", "model", format="gguf", identity=identity or path)
    return replace(made, kind=kind, **values)  # type: ignore[arg-type]


def merge(
    findings: Sequence[Finding], models: Sequence[Model] = (), wishes: Wishes | None = None
) -> Merged:
    return merged(findings, models, wishes or Wishes(), ENGINES)


def after(models: Sequence[Model], done: Merged) -> dict[str, Model]:
    left = {m.model_id: m for m in models if m not in [d.model for d in done.drop]}
    return left | {p.model.model_id: p.model for p in done.put}


def test_stores_that_know_better_keep_apart_what_looks_the_same() -> None:
    same = [finding(f"/m/{n}.gguf", "same", digest=f"sha256:{n}") for n in "ab"]
    unknown = finding("/m/c.gguf", "same")
    done = merge([*same, unknown])
    assert len(done.put) == 2
    assert done.duplicates == {"a": ("/m/a.gguf", "/m/c.gguf")}


def test_the_first_place_stays_while_it_is_there() -> None:
    (first,) = merge([finding("/m/z.gguf", "x")]).put
    places = [finding("/m/a.gguf", "x"), finding("/m/z.gguf", "x")]
    (now,) = merge(places, [first.model]).put
    assert (now.model.source, now.model.places) == ("/m/z.gguf", ("/m/z.gguf", "/m/a.gguf"))
    assert not now.is_told
    (moved,) = merge(places[:1], [now.model]).put
    assert (moved.model.model_id, moved.model.source) == (first.model.model_id, "/m/a.gguf")
    assert moved.is_told


def test_what_is_known_of_a_model_but_its_files_is_left_alone() -> None:
    (put,) = merge([finding("/m/a.gguf")]).put
    changed = replace(put.model, options={"threads": 2}, aliases=("mine",), engine="other")
    assert merge([finding("/m/a.gguf")], [changed]).put == ()
    (other,) = merge([finding("/m/a.gguf", "another")], [changed]).put
    assert (other.model.options, other.model.aliases) == ({"threads": 2}, ("mine",))
    assert other.model.engine == "llama.cpp"


def test_names_that_others_have_are_left_to_them() -> None:
    taken = Model("a", "fake", "other", aliases=("b",))
    done = merge([finding("/m/a.gguf"), finding("/m/b.gguf")], [taken])
    assert [p.model.model_id for p in done.put] == ["a-2", "b-2"]


NAMES = st.sampled_from(["a", "b", "load", "x y", "ä", "a-q4_0", "a-q8_0", "r-q4_0", "mmproj-a"])
FINDINGS = st.lists(
    st.builds(
        lambda folder, name, identity, kind: finding(
            f"/m/{folder}{name}.gguf",
            identity,
            kind,
            name=folder.rstrip("/"),
            family=f"/m/{folder}",
            companion="projector" if kind == "companion" else "",
        ),
        st.sampled_from(["", "o/r/", "o/a-GGUF/", "mixed/"]),
        NAMES,
        st.sampled_from(["1", "2", "3", "4", "5"]),
        st.sampled_from(["model", "model", "model", "companion", "broken"]),
    ),
    max_size=12,
    unique_by=lambda f: f.path,
)
MANUAL = st.lists(
    st.builds(
        lambda name, path: Model(name, "llama.cpp", f"/m/{path}.gguf"),
        st.sampled_from(["a", "o/r", "o/r:Q4_0", "mine"]),
        NAMES,
    ),
    max_size=3,
    unique_by=lambda m: m.model_id,
)


@given(FINDINGS, FINDINGS, MANUAL)
def test_whatever_is_found(
    first: list[Finding], second: list[Finding], manual: list[Model]
) -> None:
    models: Sequence[Model] = manual
    for findings in (first, second):
        catalog = after(models, merge(findings, models))
        names = [name for m in catalog.values() for name in m.names]
        assert len(names) == len(set(names)), "no name has two owners"
        assert all(id_problem(name) is None for name in names)
        assert [m for m in catalog.values() if m.origin != "discovered"] == list(manual)
        there = {f.path for f in findings if f.kind == "model"}
        owned = {m.source for m in manual}
        places = [p for m in catalog.values() if m.origin == "discovered" for p in m.places]
        assert len(places) == len(set(places)), "no file is two models"
        identities = {f.identity for f in findings if f.kind == "model" and f.path in owned}
        wanted = {f.path for f in findings if f.kind == "model" and f.identity not in identities}
        assert wanted <= set(places)
        broken = {f.path for f in findings if f.kind != "model"}
        assert set(places) <= there | broken
        again = merge(findings, list(catalog.values()))
        assert (again.put, again.drop) == ((), ()), "a second look changes nothing"
        models = list(catalog.values())


def ollamas(**values: object) -> Finding:
    texts = {"template": "<|im_start|>{{ .Prompt }}<|im_end|>", "params": {"num_ctx": 512}}
    others = {"template": "[INST]{{ .Prompt }}[/INST]", "params": {"num_ctx": 64}}
    info = info_as_text(ModelInfo("gguf", 0, 0, 0))
    said = {"facts": {"ollama": {"m:a": texts, "m:b": others}}, "info_text": info}
    return finding("/m/blob", name="m", tag="a", other_names=("m:b",), **said | values)


@pytest.mark.parametrize(
    ("found", "options"),
    [
        (ollamas(), {"context_length": 512, "chat_template": "chatml"}),
        (
            ollamas(companions={"adapter": ("/m/x", "/m/y"), "projector": ("/m/p",)}),
            {
                "context_length": 512,
                "chat_template": "chatml",
                "lora": [{"path": "/m/x"}, {"path": "/m/y"}],
                "mmproj": "/m/p",
            },
        ),
        (ollamas(facts={"ollama": {"m:a": {"params": {"num_ctx": "x", "stop": []}}}}), {}),
        (ollamas(facts={"ollama": {"m:a": {"params": "no JSON", "template": 1}}}), {}),
        (ollamas(facts={"ollama": []}), {}),
        (finding("/m/a.gguf", companions={"adapter": ("/m/x",)}), {}),
    ],
)
def test_what_a_layout_keeps_beside_a_model_is_how_it_is_run(
    found: Finding, options: Mapping[str, object]
) -> None:
    (put,) = merge([found]).put
    assert put.model.options == options
    mine = replace(put.model, options={})
    assert merge([found], [mine]).put == (), "a user may have taken them away"
    (other,) = merged([found], [], Wishes(), {"gguf": "transformers"}).put
    assert other.model.options == {}


@pytest.mark.parametrize(
    ("said", "request_"),
    [
        (
            {"params": {"stop": ["<|im_end|>"], "repeat_penalty": 1.1}, "system": "Be kind."},
            {
                "defaults": {"stop": ["<|im_end|>"], "repeat_penalty": 1.1},
                "system_prompt": "Be kind.",
            },
        ),
        ({"params": {"num_predict": 64, "seed": 1}}, {"defaults": {"max_tokens": 64}}),
        ({"params": {"num_predict": -1, "top_k": "x", "stop": [""], "top_p": True}}, {}),
        ({"params": {"stop": [], "min_p": float("inf"), "unheard_of": 1}, "system": " "}, {}),
        ({"params": {"top_p": 1.5, "mirostat": 7, "stop": ["x"] * 17}}, {}),
        # As of a request: what the model has room for is clamped then.
        ({"params": {"num_predict": 1e9}}, {"defaults": {"max_tokens": 10**9}}),
        ({"params": {"top_k": 40.0, "num_predict": 1.5}}, {"defaults": {"top_k": 40}}),
        ({"params": [1], "system": ["x"]}, {}),
        ({"system": "x" * 70_000}, {}),
    ],
)
def test_what_a_layout_says_of_requests_is_taken_over(
    said: Mapping[str, object], request_: Mapping[str, object]
) -> None:
    (put,) = merge([ollamas(facts={"ollama": {"m:a": said}})]).put
    assert put.model.request == request_
    assert check_rules(put.model.request) == request_
    (other,) = merged([put.finding], [], Wishes(), {"gguf": "transformers"}).put
    assert other.model.request == {}


def test_what_a_layout_says_of_requests_is_followed_until_a_user_says_otherwise() -> None:
    def saying(**said: object) -> Finding:
        return ollamas(facts={"ollama": {"m:a": said}})

    first, second = saying(system="Be kind."), saying(system="Be brief.")
    (put,) = merge([first]).put
    found = replace(put.model, metadata=json.loads(json.dumps(dict(put.model.metadata))))
    assert merge([first], [found]).put == ()
    # As it was written before that was taken over.
    earlier = replace(found, request={}, metadata=dict(first.facts))
    (brought,) = merge([first], [earlier]).put
    assert brought.model.request == {"system_prompt": "Be kind."}
    assert brought.is_told
    assert "requests" in brought.reason
    (changed,) = merge([second], [brought.model]).put
    assert changed.model.request == {"system_prompt": "Be brief."}
    (none,) = merge([saying()], [changed.model]).put
    assert none.model.request == {}
    for own in ({}, {"system_prompt": "Be mine."}):
        mine = Model(found.model_id, found.engine, found.source, request=own).succeeding(found)
        assert merge([first], [mine]).put == (), "a user may have taken it away"
        (kept,) = merge([second], [mine]).put
        assert (kept.model.request, kept.is_told) == (own, False)
        assert merge([second], [kept.model]).put == ()


def test_a_projector_that_lies_with_a_model_is_its_own() -> None:
    eyes = finding("/m/mmproj.gguf", kind="companion", family="/m", companion="projector")
    (put,) = merge([finding("/m/a-q4_0.gguf", family="/m"), eyes]).put
    assert put.model.options == {"mmproj": "/m/mmproj.gguf"}
