"""What counts of what several methods say of a model."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from modelpool.catalog.capabilities import Detected, Evidence, Finding, detect
from modelpool.catalog.capability_book import CapabilityBook, EngineFacts, judged
from modelpool.catalog.memory_estimate import key_of
from modelpool.catalog.model import Model
from modelpool.catalog.model_families import FAMILIES, family_of
from modelpool.catalog.model_info import ModelInfo, TensorSpec
from modelpool.catalog.probe_results import Outcome, ProbeResult
from modelpool_client.capabilities import CAPABILITIES, in_order, word_of
from modelpool_client.surfaces import models
from modelpool_client.surfaces.ollama import management
from modelpool_client.surfaces.routes import SURFACES
from modelpool_worker import engines

TEMPLATE = {"has_chat_template": True, "template_hints": ("system",)}
LLAMA_CPP = frozenset(engines.get("llama.cpp").capabilities)
# As it was before it took projectors.
BLIND = LLAMA_CPP - {"vision", "audio"}


def info(architecture: str = "llama", **values: Any) -> ModelInfo:
    return ModelInfo(architecture, 0, 0, 0, **values)


def projector(*reads: str) -> ModelInfo:
    return info("clip", inputs=reads, kind="mmproj")


def result(capability: str, outcome: Outcome, **values: Any) -> ProbeResult:
    blank = ProbeResult("m", "", "", "", capability, outcome, "a reason", 1.0, 0.0)
    return dataclasses.replace(blank, **values)


def finding(detected: Detected, word: str) -> Finding:
    return next(d.finding for d in detected.decisions if d.finding.capability == word)


def test_every_word_is_of_the_vocabulary() -> None:
    needed = {word for surface in SURFACES.values() for word in surface.needs}
    told = {word for words in management._CAPABILITIES.values() for word in words}
    told |= {word for word in models._ANTHROPICS.values() if word}
    by_name = {word for family in FAMILIES for word in family.capabilities}
    by_engine = {word for name in engines.names() for word in engines.get(name).capabilities}
    assert needed | told | by_name | by_engine <= CAPABILITIES.keys()


def test_nothing_is_known_of_what_nothing_speaks() -> None:
    found = detect(Evidence(names=("my-model",), engine="llama.cpp", engine_can=BLIND))
    assert found.capabilities == ()
    assert finding(found, "vision").source == "engine"


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ({}, {}, ("completion",)),
        (TEMPLATE, {}, ("chat", "completion")),
        ({}, {"chat_template": "chatml"}, ("chat", "completion")),
        ({}, {"chat_template_file": "/t.jinja"}, ("chat", "completion")),
        ({"pooling": 1}, {}, ("embeddings",)),
        ({"pooling": 4}, {}, ("rerank",)),
        ({}, {"pooling_type": "mean"}, ("completion", "embeddings")),
        ({"special_tokens": {"fim_pre": 7}}, {}, ("completion", "infill")),
        (
            {"has_chat_template": True, "template_hints": ("tools", "thinking", "images")},
            {},
            ("chat", "completion", "tools", "thinking"),
        ),
        ({"projector": projector("image")}, {}, ("completion", "vision")),
        ({"projector": projector("image", "audio")}, {}, ("completion", "vision", "audio")),
        ({"kind": "adapter"}, {}, ()),
    ],
)
def test_of_gguf_files(
    values: dict[str, Any], options: dict[str, Any], expected: tuple[str, ...]
) -> None:
    assert detect(Evidence(info=info(**values), options=options)).capabilities == expected


@pytest.mark.parametrize(
    ("architecture", "values", "expected"),
    [
        ("Qwen2ForCausalLM", TEMPLATE, ("chat", "completion")),
        ("T5ForConditionalGeneration", {}, ("completion",)),
        ("Qwen2_5_VLForConditionalGeneration", TEMPLATE, ("chat", "completion", "vision")),
        ("BertModel", {}, ("embeddings",)),
        ("BertForSequenceClassification", {}, ("classification",)),
        ("WhisperForConditionalGeneration", {}, ("speech_to_text",)),
        ("ViTForImageClassification", {}, ("image_classification",)),
        ("StableDiffusionXLPipeline", {}, ("image_generation",)),
        ("onnx", {"input_tensors": (TensorSpec("x", "FLOAT"),)}, ("tensor_inference",)),
        ("BertModel", {"pooling": 1}, ("embeddings",)),
        ("BertForSequenceClassification", {"pooling": 4}, ("rerank",)),
        ("NewOneForCausalLM", {"inputs": ("text", "image")}, ("completion", "vision")),
        ("NobodyKnows", {}, ()),
    ],
)
def test_of_other_formats(
    architecture: str, values: dict[str, Any], expected: tuple[str, ...]
) -> None:
    evidence = Evidence(info=info(architecture, format="safetensors", **values))
    assert detect(evidence).capabilities == expected


def test_a_name_counts_only_where_nothing_else_speaks() -> None:
    named = ("nomic-embed-text-v1.5",)
    by_name = detect(Evidence(names=named))
    assert (by_name.capabilities, by_name.presumed) == (("embeddings",), ("embeddings",))
    by_file = detect(Evidence(names=named, info=info(**TEMPLATE)))
    assert by_file.capabilities == ("chat", "completion")
    assert by_file.presumed == ()


def test_what_rests_on_a_name_is_no_surer_than_the_name() -> None:
    found = detect(Evidence(names=("llama3.1:8b",), engine="ollama", engine_can=BLIND))
    assert {"chat", "tools", "json_schema", "streaming"} <= set(found.capabilities)
    assert found.presumed == found.capabilities


def test_an_engine_gives_to_what_writes_text_and_to_nothing_else() -> None:
    writes = detect(Evidence(info=info(**TEMPLATE), engine="e", engine_can=LLAMA_CPP))
    assert {"streaming", "json_mode", "json_schema", "logprobs"} < set(writes.capabilities)
    embeds = detect(Evidence(info=info(pooling=1), engine="e", engine_can=LLAMA_CPP))
    assert embeds.capabilities == ("embeddings",)


def test_what_the_engine_cannot_do_cannot_be_done_whatever_the_file_says() -> None:
    seeing = info(projector=projector("image"), **TEMPLATE)
    found = detect(Evidence(info=seeing, engine="llama.cpp", engine_can=BLIND))
    assert "vision" not in found.capabilities
    decision = next(d for d in found.decisions if d.finding.capability == "vision")
    assert decision.finding.source == "engine"
    assert [f.source for f in decision.contradictions] == ["metadata"]


def test_llama_sees_with_the_projector_that_an_option_names() -> None:
    for projected, sees in ((projector("image"), True), (None, False)):
        model = info(projector=projected, **TEMPLATE)
        found = detect(Evidence(info=model, engine="llama.cpp", engine_can=LLAMA_CPP))
        assert ("vision" in found.capabilities) is sees


def test_a_declaration_is_whole_and_overrules_all_but_a_probe() -> None:
    evidence = Evidence(
        declared=("chat", "vision", "poetry"),
        info=info(**TEMPLATE),
        engine="llama.cpp",
        engine_can=LLAMA_CPP,
    )
    found = detect(evidence)
    assert found.capabilities == ("chat", "vision", "poetry")
    assert finding(found, "completion").reason == "it is not among what was declared"
    probed = dataclasses.replace(
        evidence, probes=(result("vision", "refused"), result("completion", "works"))
    )
    assert detect(probed).capabilities == ("chat", "completion", "poetry")
    vision = next(d for d in detect(probed).decisions if d.finding.capability == "vision")
    assert (vision.finding.source, vision.finding.certainty) == ("probe", "proven")
    assert {f.source for f in vision.contradictions} == {"declared"}


def test_a_probe_that_found_nothing_out_says_nothing() -> None:
    evidence = Evidence(info=info(**TEMPLATE), probes=(result("chat", "failed"),))
    assert "chat" in detect(evidence).capabilities


def test_a_model_without_text_by_a_probe_is_given_nothing_by_the_engine() -> None:
    probes = (result("chat", "refused"), result("completion", "refused"))
    found = detect(Evidence(info=info(), engine="e", engine_can=LLAMA_CPP, probes=probes))
    assert found.capabilities == ()


def test_an_engine_that_does_one_thing_does_it_with_every_model() -> None:
    found = detect(Evidence(engine="espeak-ng", engine_can=frozenset({"text_to_speech"})))
    assert found.capabilities == ("text_to_speech",)
    assert "does nothing else" in finding(found, "text_to_speech").reason
    assert detect(Evidence(engine="e", engine_can=LLAMA_CPP)).capabilities == ()


def test_every_decision_has_a_reason_and_each_word_stands_once() -> None:
    evidence = Evidence(("chat",), info(**TEMPLATE), {}, ("qwen3",), "e", LLAMA_CPP)
    decisions = detect(evidence).decisions
    words = [d.finding.capability for d in decisions]
    assert words == list(in_order(words))
    assert len(set(words)) == len(words)
    assert all(f.reason for d in decisions for f in (d.finding, *d.others))


# -- what stands in the catalog --------------------------------------------------------------------


MODEL = Model("m", "fake", "")


def test_what_is_found_takes_the_place_of_what_was_declared_and_is_taken_back() -> None:
    model = dataclasses.replace(MODEL, capabilities=("vision", "chat"))
    same = judged(model, detect(Evidence(declared=("vision", "chat"))))
    assert (same.capabilities, same.declared_capabilities) == (("vision", "chat"), ())
    no_vision = detect(Evidence(("vision", "chat"), probes=(result("vision", "wrong"),)))
    proven = judged(model, no_vision)
    assert (proven.capabilities, proven.declared_capabilities) == (("chat",), ("vision", "chat"))
    assert proven.as_entry()["capabilities"] == ["vision", "chat"]
    again = judged(proven, detect(Evidence(("vision", "chat"))))
    assert again == model
    # Whoever writes the entry down again changes nothing.
    assert model.keeping(proven) == proven
    other = dataclasses.replace(MODEL, capabilities=("rerank",))
    assert other.keeping(proven).declared_capabilities == ()


def test_a_probe_holds_for_the_files_options_and_engine_it_was_made_with() -> None:
    async def main() -> None:
        version = "1"

        async def engine(name: str) -> EngineFacts:
            return EngineFacts(frozenset({"chat", "tools"}), version)

        book = CapabilityBook(engine)
        key = key_of(MODEL, "digest")
        book.learn([result("chat", "works", **key._asdict(), engine_version="1")])
        other = dataclasses.replace(MODEL, options={"reply": "x"})
        assert (await book.judged(MODEL, None, "digest")).capabilities == ("chat",)
        assert (await book.judged(MODEL, None, "other")).capabilities == ()
        assert (await book.judged(other, None, "digest")).capabilities == ()
        assert [r.capability for r in book.stale(MODEL, "other", "1")] == ["chat"]
        assert book.stale(MODEL, "digest", "1") == ()
        version = "2"
        assert (await book.judged(MODEL, None, "digest")).capabilities == ()
        await book.forget("m")
        assert book.stale(MODEL, "digest", "2") == ()

    asyncio.run(main())


# -- names -----------------------------------------------------------------------------------------


def test_the_card_of_each_family_is_recognised_as_one_of_it() -> None:
    wrong = {f.card: f.name for f in FAMILIES if (family_of((f.card,)) or (f,))[0] is not f}
    assert wrong == {}


@pytest.mark.parametrize(
    "name", ["my-model", "abgehoben", "sequence", "gteway", "demo", "fake", "", "x" * 5000]
)
def test_other_names_tell_nothing(name: str) -> None:
    assert family_of((name,)) is None


@pytest.mark.parametrize(
    ("text", "word"),
    [("JSON mode", "json_mode"), ("function-calling", "tools"), ("Embedding", "embeddings")],
)
def test_spellings(text: str, word: str) -> None:
    assert word_of(text) == word


class TestWhatIsRefused:
    """Only what it cannot do for certain."""

    ALL = frozenset({"chat", "completion", "tools", "logprobs", "json_schema"})

    def denied(self, **more: Any) -> set[str]:
        return set(detect(Evidence(engine="e", **more)).denied)

    def test_what_the_engine_does_with_no_model(self) -> None:
        denied = self.denied(engine_can=frozenset({"chat"}))
        assert {"vision", "audio"} <= denied
        assert denied.isdisjoint({"chat", "tools", "logprobs", "json_schema"}), "these have rules"
        assert self.denied() == set(), "nothing is known of it"

    def test_what_the_owner_left_out_of_the_list(self) -> None:
        denied = self.denied(declared=("chat",), engine_can=self.ALL, info=None)
        assert "vision" in denied
        assert denied.isdisjoint({"chat", "logprobs", "json_schema"}), "any model has them"

    def test_what_a_probe_found(self) -> None:
        refused = result("tools", "refused")
        assert "tools" in self.denied(declared=("chat", "tools"), probes=(refused,))
        assert self.denied(probes=(result("tools", "failed"),)) == set()

    def test_not_what_a_name_or_a_template_lets_guess(self) -> None:
        assert self.denied(names=("all-MiniLM-L6-v2",)) == set()
