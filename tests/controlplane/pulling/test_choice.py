"""What a text names, and which files of a repository are taken."""

from __future__ import annotations

import pytest
from modelpool.catalog.formats.registry import formats
from modelpool.pulling.base import Listing, RemoteFile
from modelpool.pulling.choice import BYTES_PER_MB, Choice, Machine, choose
from modelpool.pulling.quantizations import PREFERENCE, quantization_of
from modelpool.pulling.reference import ollama_name, parse_reference
from modelpool_client.errors import CannotFit, InvalidRequest, NotSupported


@pytest.mark.parametrize(
    ("text", "canonical", "model_id"),
    [
        ("hf:o/r", "hf:o/r", "o/r"),
        ("HF:o/r:Q4_K_M", "hf:o/r:Q4_K_M", "o/r:Q4_K_M"),
        ("hf:o/r:sub/m-q4.gguf@main", "hf:o/r:sub/m-q4.gguf@main", "o/r:m-q4"),
        ("ollama:llama3.2", "ollama:llama3.2:latest", "llama3.2"),
        ("ollama:qwen2.5-coder:7b", "ollama:qwen2.5-coder:7b", "qwen2.5-coder:7b"),
        ("ollama:me/mine:v1", "ollama:me/mine:v1", "me/mine:v1"),
        ("ollama:h.example:5000/n/m:t", "ollama:h.example:5000/n/m:t", "n/m:t"),
        ("https://h/a/b.gguf?x=1", "https://h/a/b.gguf?~1f206b11", "b"),
        ("https://h/a/b.gguf#part", "https://h/a/b.gguf", "b"),
        ("/models/m.gguf", "/models/m.gguf", "m"),
    ],
)
def test_references(text: str, canonical: str, model_id: str) -> None:
    reference = parse_reference(text)
    assert (str(reference), reference.model_id) == (canonical, model_id)
    assert str(parse_reference(str(reference))) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "hf:",
        "hf:o",
        "hf:o/r/x",
        "hf:o/../r",
        "hf:o/r:../x",
        "hf:o/r@..",
        "ollama:",
        "ollama:a:b:c",
        "ollama:../x",
        "https://",
        "https://h/",
        "ftp://h/x",
        "a\nb",
    ],
)
def test_what_names_nothing(text: str) -> None:
    with pytest.raises(InvalidRequest) as failure:
        parse_reference(text)
    assert failure.value.param == "source"


def test_names_of_ollamas_clients() -> None:
    assert ollama_name("hf.co/o/r:Q8_0") == "hf:o/r:Q8_0"
    assert ollama_name("me/mine") == "ollama:me/mine"


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        ("m-Q4_K_M.gguf", "Q4_K_M"),
        ("m.q8_0.gguf", "Q8_0"),
        ("m-UD-Q4_K_XL.gguf", "Q4_K_XL"),
        ("m-fp16.gguf", "F16"),
        ("Qwen-IQ4_XS-00001-of-00002.gguf", "IQ4_XS"),
        ("m.gguf", None),
    ],
)
def test_quantizations_in_names(name: str, quantization: str | None) -> None:
    assert quantization_of(name) == quantization
    assert len(set(PREFERENCE)) == len(PREFERENCE)


def chosen(files: dict[str, int], source: str = "hf:o/r", memory_mb: int = 16_000) -> Choice:
    listing = Listing("c", [RemoteFile(n, f"u/{n}", s * BYTES_PER_MB) for n, s in files.items()])
    machine = Machine(memory_mb * BYTES_PER_MB, frozenset({"llama.cpp"}))
    return choose(parse_reference(source), listing, formats(), machine)


SIZES = {"m-Q2_K.gguf": 2000, "m-Q4_K_M.gguf": 4000, "m-Q8_0.gguf": 8000, "m-F16.gguf": 15000}


@pytest.mark.parametrize(
    ("memory_mb", "quantization"), [(64_000, "Q4_K_M"), (5_000, "Q4_K_M"), (3_000, "Q2_K")]
)
def test_the_first_that_fits(memory_mb: int, quantization: str) -> None:
    choice = chosen(SIZES, memory_mb=memory_mb)
    assert choice.quantization == quantization
    assert choice.reasons[0].startswith(f"{quantization}: it needs about")


def test_nothing_fits() -> None:
    with pytest.raises(CannotFit, match=r"not even Q2_K fits: it needs about 2,300 MB of 1,000 MB"):
        chosen(SIZES, memory_mb=1000)


def test_what_is_named_is_taken_though_it_may_not_fit() -> None:
    choice = chosen(SIZES, "hf:o/r:f16", memory_mb=1000)
    assert (choice.main, choice.quantization) == ("m-F16.gguf", "F16")
    assert any("may not fit" in reason for reason in choice.reasons)
    with pytest.raises(InvalidRequest, match=r"nothing called 'Q3_K_M'; it has F16, Q2_K"):
        chosen(SIZES, "hf:o/r:Q3_K_M")


def test_all_parts_and_the_projector_come_along() -> None:
    files = {
        "Q4_K_M/m-Q4_K_M-00001-of-00002.gguf": 900,
        "Q4_K_M/m-Q4_K_M-00002-of-00002.gguf": 800,
        "mmproj-m-F32.gguf": 90,
        "mmproj-m-F16.gguf": 50,
        "README.md": 1,
    }
    choice = chosen(files)
    assert choice.main == "Q4_K_M/m-Q4_K_M-00001-of-00002.gguf"
    assert [f.path for f in choice.files] == [*list(files)[:2], "mmproj-m-F16.gguf"]
    assert choice.projector == "mmproj-m-F16.gguf"


def test_a_part_that_is_missing_is_no_model() -> None:
    with pytest.raises(InvalidRequest, match=r"hf:o/r m-Q4_K_M-0\S+\.gguf misses part 2 of 2"):
        chosen({"m-Q4_K_M-00001-of-00002.gguf": 900})


def test_why_there_is_no_model_is_told() -> None:
    with pytest.raises(InvalidRequest, match=r"hf:o/r has its weights as pickles \(pytorch"):
        chosen({"config.json": 9, "pytorch_model.bin": 900})
    with pytest.raises(InvalidRequest, match="has no model of a format that is known here"):
        chosen({"README.md": 9})


def test_what_an_engine_takes_beside_the_weights_counts() -> None:
    """As it does once the model is registered."""
    sizes = {"config.json": 0, "model.safetensors": 1000 * BYTES_PER_MB}
    listing = Listing("c", [RemoteFile(name, "u", size) for name, size in sizes.items()])
    for memory_mb, told in ((1400, "1,370 MB of 1,400 MB"), (1300, "1,370 MB of 1,300 MB")):
        try:
            found = choose(
                parse_reference("hf:o/r"), listing, formats(), Machine(memory_mb * BYTES_PER_MB)
            )
            text = found.reasons[0]
        except CannotFit as e:
            text = str(e)
        assert told in text
        assert ("not even" in text) == (memory_mb < 1370)


def test_what_no_engine_runs() -> None:
    listing = Listing("c", [RemoteFile("m.gguf", "u", 1)])
    with pytest.raises(NotSupported, match=r"gguf \(llama\.cpp\), which no engine here runs"):
        choose(parse_reference("hf:o/r"), listing, formats(), Machine(10**10, frozenset({"x"})))
