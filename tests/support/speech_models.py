"""Small models of random weights for engines of speech, in the forms that their packages read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper, save

# Samples that a symbol lasts at the usual speed, and numbers of a voice's style.
HOP = 256
PIPER_SYMBOLS = "_^$ .,!?'ˈˌːabcdefghijklmnopqrstuvwxyzæçðøħŋœɐɑɒɔəɚɛɜɡɪɫɬɹɾʃʊʌʍʒθ"  # noqa: RUF001
PIPER_RATE = 22050
KOKORO_VOICES = ("af_heart", "af_alloy", "bm_fable")
KOKORO_SYMBOLS, KOKORO_LONGEST = 178, 510
WHISPER_WIDTH, WHISPER_MELS, WHISPER_FRAMES, WHISPER_TOKENS = 32, 80, 1500, 448
RANDOM = np.random.default_rng(11)


def piper_voice(path: Path, *speakers: str) -> Path:
    """A voice that says each phoneme as a noise of its own, as Piper exports them: it takes
    ``input``, ``input_lengths``, ``scales`` (noise, length, noise of lengths) and, of several
    speakers, ``sid``."""
    inputs: dict[str, Any] = {
        "input": (TensorProto.INT64, [1, "phonemes"]),
        "input_lengths": (TensorProto.INT64, [1]),
        "scales": (TensorProto.FLOAT, [3]),
    }
    weights = {"voices": _floats(max(1, len(speakers)), HOP), "one": np.array([1], np.int64)}
    if speakers:
        inputs["sid"] = (TensorProto.INT64, [1])
    speaker = "sid" if speakers else "first"
    weights["first"] = np.array([0], np.int64)
    nodes = [
        helper.make_node("Gather", ["voices", speaker], ["voice"]),
        helper.make_node("Gather", ["scales", "one"], ["length"]),
    ]
    _save_voice(path, "input", len(PIPER_SYMBOLS), inputs, weights, nodes, [1, 1, 1, -1])
    config = {
        "audio": {"sample_rate": PIPER_RATE},
        "espeak": {"voice": "en-us"},
        "phoneme_id_map": {symbol: [n] for n, symbol in enumerate(PIPER_SYMBOLS)},
        "num_symbols": len(PIPER_SYMBOLS),
        "num_speakers": max(1, len(speakers)),
        "speaker_id_map": {name: n for n, name in enumerate(speakers)},
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps(config))
    return path


def kokoro_model(path: Path) -> Path:
    """The same as Kokoro's: ``tokens``, ``style`` and ``speed``; beside it lie its voices."""
    inputs = {
        "tokens": (TensorProto.INT64, [1, "tokens"]),
        "style": (TensorProto.FLOAT, [1, HOP]),
        "speed": (TensorProto.FLOAT, [1]),
    }
    nodes = [
        helper.make_node("Identity", ["style"], ["voice"]),
        helper.make_node("Reciprocal", ["speed"], ["length"]),
    ]
    _save_voice(path, "tokens", KOKORO_SYMBOLS, inputs, {}, nodes, [-1])
    styles = {name: _floats(KOKORO_LONGEST, 1, HOP) for name in KOKORO_VOICES}
    with path.with_name("voices.bin").open("wb") as file:
        np.savez(file, **styles)
    return path


def _save_voice(
    path: Path,
    symbols: str,
    count: int,
    inputs: dict[str, Any],
    weights: dict[str, Any],
    nodes: list[NodeProto],
    shape: list[int],
) -> None:
    """A graph in which ``nodes`` make ``voice``, a row of ``HOP`` numbers, and ``length``."""
    weights = weights | {
        "noises": _floats(count, HOP),
        "channel": np.array([1, 1, -1], np.int64),
        "shape": np.array(shape, np.int64),
        "ones": np.ones(2, np.float32),
    }
    nodes = [
        *nodes,
        helper.make_node("Gather", ["noises", symbols], ["each"]),
        helper.make_node("Add", ["each", "voice"], ["spoken"]),
        helper.make_node("Reshape", ["spoken", "channel"], ["usual"]),
        helper.make_node("Concat", ["ones", "length"], ["sizes"], axis=0),
        helper.make_node("Resize", ["usual", "", "sizes"], ["sound"], mode="nearest"),
        helper.make_node("Reshape", ["sound", "shape"], ["output"]),
    ]
    given = [helper.make_tensor_value_info(name, *what) for name, what in inputs.items()]
    made = helper.make_tensor_value_info("output", TensorProto.FLOAT, [None] * len(shape))
    kept = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "voice", given, [made], kept)
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def whisper_folder(folder: Path) -> Path:
    """An English Whisper of two layers as CTranslate2 keeps it. Needs ctranslate2, tokenizers."""
    from ctranslate2.specs import WhisperSpec
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["endoftext", "startoftranscript", "translate", "transcribe", "startoflm"]
    names += ["startofprev", "nospeech", "notimestamps"]
    names += [f"{n * 0.02:.2f}" for n in range(WHISPER_FRAMES + 1)]
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = [*alphabet, *(f"<|{name}|>" for name in names)]
    spec = WhisperSpec(2, 2, 2, 2)
    for part, array in _whisper_weights(spec, len(tokens)):
        _fill(part, array)
    spec.register_vocabulary(tokens)
    ids = {name: len(alphabet) + n for n, name in enumerate(names)}
    spec.config.suppress_ids = [ids[name] for name in names[1:7]]
    spec.config.suppress_ids_begin = [ids["endoftext"]]
    spec.config.alignment_heads = [(1, 0)]
    spec.validate()
    spec.save(str(folder))
    return folder


def _whisper_weights(spec: Any, words: int) -> Iterator[tuple[Any, Any]]:
    d = WHISPER_WIDTH
    yield spec.encoder.conv1, (_floats(d, WHISPER_MELS, 3), np.zeros(d, np.float32))
    yield spec.encoder.conv2, (_floats(d, d, 3), np.zeros(d, np.float32))
    spec.encoder.position_encodings.encodings = _floats(WHISPER_FRAMES, d)
    spec.decoder.position_encodings.encodings = _floats(WHISPER_TOKENS, d)
    spec.decoder.embeddings.weight = _floats(words, d)
    spec.decoder.projection.weight = spec.decoder.embeddings.weight
    for stack in (spec.encoder, spec.decoder):
        yield stack.layer_norm, None
        for layer in stack.layer:
            attentions = [layer.self_attention, getattr(layer, "attention", None)]
            for attention, rows in zip(attentions, ((3 * d, d), (d, 2 * d, d)), strict=True):
                if attention is not None:
                    yield attention.layer_norm, None
                    for linear, n in zip(attention.linear, rows, strict=True):
                        yield linear, (_floats(n, d), np.zeros(n, np.float32))
            yield layer.ffn.layer_norm, None
            yield layer.ffn.linear_0, (_floats(4 * d, d), np.zeros(4 * d, np.float32))
            yield layer.ffn.linear_1, (_floats(d, 4 * d), np.zeros(d, np.float32))


def _fill(part: Any, given: tuple[Any, Any] | None) -> None:
    if given is None:
        part.gamma, part.beta = (
            np.ones(WHISPER_WIDTH, np.float32),
            np.zeros(WHISPER_WIDTH, np.float32),
        )
    else:
        part.weight, part.bias = given


def _floats(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32) * 0.3
