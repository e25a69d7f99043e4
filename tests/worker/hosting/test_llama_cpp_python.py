"""The engine llama-cpp-python against a stand-in that takes only what the library's own API does;
``llama_cpp_python_real.py`` in ``tests/engines`` asks the library itself."""

from __future__ import annotations

import sys
import types
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from modelpool_client.errors import LoadFailed
from modelpool_worker import engines
from modelpool_worker.engine import EngineJob
from modelpool_worker.engines.gguf import read_header
from modelpool_worker.engines.llama import llama_cpp_python as engine
from modelpool_worker.hosting.cancel import Cancel, Cancelled
from modelpool_worker.hosting.contract import Hosted, Sampling, TextRequest

DEMO = Path(__file__).parents[3] / "configs" / "models" / "pool-demo.gguf"
END = 256


class Llama:
    """As in llama-cpp-python 0.3: tokens are bytes, and an answer says what was read in capitals.

    Attributes:
        decoded: the tokens that each call of ``generate`` had to read.
    """

    def __init__(
        self,
        model_path: str,
        *,
        n_gpu_layers: int = 0,
        tensor_split: list[float] | None = None,
        use_mmap: bool = True,
        n_ctx: int = 512,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_threads: int | None = None,
        n_threads_batch: int | None = None,
        pooling_type: int = -1,
        embedding: bool = False,
        flash_attn: bool = False,
        type_k: int | None = None,
        type_v: int | None = None,
        verbose: bool = True,
    ) -> None:
        self.given = {k: v for k, v in locals().items() if k != "self"}
        self.n_batch, self._n_ctx = n_batch, n_ctx
        self.metadata = {"tokenizer.chat_template": "{% for m in messages %}{% endfor %}"}
        self.model, self.ctx = "model", "context"
        self.input: list[int] = []
        self.seeds: list[int] = []
        self.asked: list[dict[str, float]] = []
        self.decoded: list[int] = []
        self.is_open = 0
        self.tokenizer_: Any = self

    def n_ctx(self) -> int:
        return self._n_ctx

    def n_vocab(self) -> int:
        return 1 << 16

    def token_bos(self) -> int:
        return -1

    def token_eos(self) -> int:
        return END

    @property
    def eval_tokens(self) -> Sequence[int]:
        return list(self.input)

    @staticmethod
    def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
        pairs = zip(a, b, strict=False)
        return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))

    def set_seed(self, seed: int) -> None:
        self.seeds.append(seed)

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        return list(text)

    def detokenize(
        self, tokens: list[int], prev_tokens: list[int] | None = None, special: bool = False
    ) -> bytes:
        return bytes(token for token in tokens if token != END)

    def generate(
        self,
        tokens: Sequence[int],
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        reset: bool = True,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
    ) -> Generator[int, Sequence[int] | None, None]:
        self.asked.append({"temp": temp, "top_k": top_k, "repeat_penalty": repeat_penalty})
        self.is_open += 1
        try:
            known = min(self.longest_token_prefix(self.input, tokens), len(tokens) - 1)
            self.decoded.append(len(tokens) - known)
            self.input = list(tokens)
            for token in [*bytes(tokens).upper(), END]:
                yield token
                self.input.append(token)
        finally:
            self.is_open -= 1

    def embed(
        self,
        input: str | list[str],
        normalize: bool = False,
        truncate: bool = True,
        return_count: bool = False,
    ) -> list[list[float]]:
        assert normalize
        texts = [input] if isinstance(input, str) else input
        tokens = [self.tokenizer_.tokenize(text.encode()) for text in texts]
        return [[float(len(each)), float(each[0])] for each in tokens]


class Formatter:
    def __init__(
        self, template: str, eos_token: str, bos_token: str, add_generation_prompt: bool = True
    ) -> None:
        assert (eos_token, bos_token) == ("<end>", "")

    def __call__(self, *, messages: list[Any], tools: list[Any] | None = None, **more: Any) -> Any:
        if messages[0]["role"] == "bad":
            raise ValueError("no such role")
        return types.SimpleNamespace(prompt=messages[-1]["content"], stop=["<end>"])


@pytest.fixture
def library() -> Any:
    made = types.SimpleNamespace(adapters=[])

    def set_adapters(context: str, handles: Any, count: int, scales: Any) -> int:
        made.adapters = list(scales)
        return 0

    vars(made).update(
        Llama=Llama,
        llama_chat_format=types.SimpleNamespace(Jinja2ChatFormatter=Formatter),
        llama_model_get_vocab=lambda model: "vocabulary",
        llama_vocab_n_tokens=lambda vocabulary: END + 1,
        llama_vocab_is_eog=lambda vocabulary, token: token == END,
        llama_vocab_get_text=lambda vocabulary, token: b"<end>",
        llama_adapter_lora_init=lambda model, path: 7,
        llama_set_adapters_lora=set_adapters,
        llama_adapter_lora_p_ctypes=__import__("ctypes").c_void_p,
        GGML_TYPE_Q8_0=8,
        LLAMA_POOLING_TYPE_MEAN=1,
    )
    return made


def job(**options: Any) -> EngineJob:
    return EngineJob("llama-cpp-python", "m", str(DEMO), "/none", options)


def model(library: Any, **options: Any) -> tuple[engine.Writer, Llama]:
    llama = engine.loaded(library, job(**options), read_header(str(DEMO)))
    return engine.Writer(library, llama, "a template", options), llama


def request(text: str, max_tokens: int = 100, **sampling: Any) -> TextRequest:
    return TextRequest(list(text.encode()), max_tokens, Sampling(**sampling), Cancel())


def test_options_are_what_the_library_is_made_with(library: Any) -> None:
    options = {"context_length": 64, "threads": 3, "cache_type_k": "q8_0", "gpu_layers": 2}
    options["cache_type_v"] = "bf16"
    adapters = [{"path": str(DEMO), "scale": 0.5}, {"path": str(DEMO)}]
    _, llama = model(library, **options, lora=adapters, flash_attention=True)
    expected = {
        "n_ctx": 64,
        "n_threads": 3,
        "type_k": 8,
        "type_v": 30,
        "n_gpu_layers": 2,
        "n_batch": 64,
    }
    assert llama.given | expected == llama.given
    assert llama.given["flash_attn"] is True
    assert library.adapters == [0.5, 1.0]


def test_a_prompt_is_read_in_steps_and_once(library: Any) -> None:
    writer, llama = model(library, batch_size=16)
    text = "a" * 40
    tokens = list(writer.generate(request(text, 5, seed=3, temperature=0.5, top_k=9)))
    assert b"".join(token.data for token in tokens) == b"AAAAA"
    assert llama.decoded == [16, 16, 8]
    assert llama.seeds == [3]
    assert llama.asked[-1] == {"temp": 0.5, "top_k": 9, "repeat_penalty": 1.0}
    llama.decoded.clear()
    list(writer.generate(request(text + "b" * 30, 1)))
    assert llama.decoded == [16, 14]
    assert llama.seeds[0] != llama.seeds[1]
    assert llama.is_open == 0


def test_a_client_that_leaves_ends_it_with_the_step(library: Any) -> None:
    writer, llama = model(library, batch_size=16)
    asked = request("a" * 160)
    asked.cancel.set()
    with pytest.raises(Cancelled):
        next(writer.generate(asked))
    assert llama.decoded == []
    asked = request("abc")
    tokens = writer.generate(asked)
    next(tokens)
    asked.cancel.set()
    assert list(tokens) == []
    assert llama.is_open == 0


def test_it_answers_through_the_kit(library: Any, serve: Any) -> None:
    writer, _ = model(library)
    client = serve(Hosted(text=writer))
    body = {"messages": [{"role": "user", "content": "hello"}]}
    answer = client.post("/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "HELLO"
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["choices"][0]["finish_reason"] == "stop"
    bad = {"messages": [{"role": "bad", "content": "hello"}]}
    refused = client.post("/v1/chat/completions", json=bad)
    assert (refused.status_code, "no such role" in refused.text) == (400, True)


def test_embeddings_are_of_the_tokens_that_were_counted(library: Any, serve: Any) -> None:
    options = {"pooling_type": "mean", "context_length": 64}
    header = read_header(str(DEMO))
    assert engine.purposes_of(header, options) == ("embeddings",)
    llama = engine.loaded(library, job(**options), header)
    assert llama.given | {"embedding": True, "pooling_type": 1, "n_batch": 64} == llama.given
    client = serve(Hosted(embeddings=engine.Embedder(library, llama)))
    answer = client.post("/v1/embeddings", json={"input": ["ab", "c"]}).json()
    assert [d["embedding"] for d in answer["data"]] == [[2.0, 97.0], [1.0, 99.0]]
    assert answer["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"parallel": 4}, "options.parallel"),
        ({"flash_attention": "on"}, "options.flash_attention"),
        ({"chat_template_file": "here"}, "options.chat_template_file"),
        ({"chat_template": "{{x}}", "chat_template_file": "/x"}, "options.chat_template_file"),
        ({"pooling_type": "rank"}, "options.pooling_type"),
    ],
)
def test_wrong_options(options: dict[str, Any], param: str) -> None:
    with pytest.raises(LoadFailed) as error:
        engines.get("llama-cpp-python").check(options)
    assert (error.value.code, error.value.param) == ("bad_config", param)


def test_memory_is_the_file_and_one_context(library: Any) -> None:
    found = engines.get("llama-cpp-python")
    small, large = (
        found.memory_bytes(str(DEMO), {"context_length": n}) or 0 for n in (1000, 101_000)
    )
    keys, values = read_header(str(DEMO)).cache_widths or (0, 0)
    assert large - small == 100_000 * 2 * (keys + values)
    assert small > DEMO.stat().st_size


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    told = engines.get("llama-cpp-python").probe()
    assert not told.usable
    assert "modelpool[llama-cpp-python]" in told.install_hint
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(LoadFailed) as error:
        engines.get_child("llama-cpp-python").serve(job(), None)  # type: ignore[arg-type]
    assert error.value.code == "missing_dependency"
