"""Ollama's templates by their shapes, and what is made of them."""

from __future__ import annotations

import pytest
from modelpool.pulling.go_templates import KNOWN, applied, recognised

# As models of Ollama's library have them, cut to what matters.
GO = {
    "chatml": "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>",
    "gemma": "<start_of_turn>user\n{{ .Prompt }}<end_of_turn>\n<start_of_turn>model\n",
    "llama2": "[INST] <<SYS>>{{ .System }}<</SYS>>\n\n{{ .Prompt }} [/INST]",
    "mistral": "[INST] {{ if .System }}{{ .System }} {{ end }}{{ .Prompt }} [/INST]",
    "phi3": "<|user|>\n{{ .Prompt }}<|end|>\n<|assistant|>\n{{ .Response }}<|end|>",
    "zephyr": "<|system|>\n{{ .System }}</s>\n<|user|>\n{{ .Prompt }}</s>\n<|assistant|>\n",
    "alpaca": "{{ .System }}\n### Instruction:\n{{ .Prompt }}\n\n### Response:\n",
    "vicuna": "{{ .System }}\nUSER: {{ .Prompt }}\nASSISTANT:",
}


def test_all_are_tried() -> None:
    assert [known.name for known in KNOWN] == list(GO)


@pytest.mark.parametrize("name", GO)
def test_a_template_is_known_by_its_words(name: str) -> None:
    found = recognised(GO[name])
    assert found is not None
    assert found.name == name


def test_the_files_own_wins_and_an_unknown_one_is_told() -> None:
    assert applied(GO["llama3"], has_own=True)[0] == ""
    assert applied(GO["chatml"], has_own=False)[0] == "chatml"
    option, note = applied("{{ .Prompt }}", has_own=False)
    assert option == ""
    assert "is not applied" in note
