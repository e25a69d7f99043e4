"""A command line of llama-server as options, by a table."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.converters.llama_swap.llama_server import (
    _FLAGS,
    NotUnderstood,
    is_llama_server,
    server_command,
)
from modelpool_worker.engines import get

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("-c 8192", {"context_length": 8192, "parallel": 1}),
    ("-c 8192 -np 4", {"context_length": 2048, "parallel": 4}),
    ("--ctx-size 4096 --parallel -1", {"context_length": 4096, "parallel": 1}),
    ("-np 3", {"parallel": 3}),
    ("-c 8192 -kvu", {"context_length": 8192, "kv_unified": True}),
    ("-c 8192 -np 4 -kvu", {"context_length": 8192, "parallel": 4, "kv_unified": True}),
    (
        "-kvu --no-kv-unified -c 90 -np 3",
        {"context_length": 30, "parallel": 3, "kv_unified": False},
    ),
    ("-ngl 99", {"gpu_layers": 99}),
    ("-ngl all", {"gpu_layers": 999}),
    ("--n-gpu-layers -1", {"gpu_layers": 999}),
    ("-ngl auto", {}),
    ("-fa", {"flash_attention": "on"}),
    ("-fa off -np 2", {"flash_attention": "off", "parallel": 2}),
    ("--flash-attn --no-mmap", {"flash_attention": "on", "mmap": False}),
    ("-ctk q8_0 -ctv q4_0", {"cache_type_k": "q8_0", "cache_type_v": "q4_0"}),
    ("-b 2048 -ub 512 -t 8", {"batch_size": 2048, "micro_batch_size": 512, "threads": 8}),
    ("-ts 3,1", {"tensor_split": [3, 1]}),
    ("--mmproj /p.gguf", {"mmproj": "/p.gguf"}),
    ("--slot-save-path /kv", {"slot_save_path": "/kv"}),
    ("--sleep-idle-seconds 60", {"sleep_idle_seconds": 60}),
    ("--sleep-idle-seconds -1", {}),
    ("--chat-template chatml", {"chat_template": "chatml"}),
    ("--no-jinja --chat-template llama3", {"chat_template": "llama3"}),
    ("--no-jinja --jinja", {}),
    ("--chat-template-file /t.jinja", {"chat_template_file": "/t.jinja"}),
    ("--reasoning-budget 0", {"reasoning": False}),
    ("--reasoning-budget -1", {}),
    ("--reasoning off", {"reasoning": False}),
    ("-md /d.gguf --draft-max 8", {"draft_model": "/d.gguf", "draft_max": 8}),
    ("--draft-max 8 --draft-p-min 0.5", {}),
    ("--lora /a.gguf,/b.gguf", {"lora": [{"path": "/a.gguf"}, {"path": "/b.gguf"}]}),
    ("--lora-scaled /a.gguf 0.5", {"lora": [{"path": "/a.gguf", "scale": 0.5}]}),
    (
        "--lora-scaled /a:0.5,/b:2",
        {"lora": [{"path": "/a", "scale": 0.5}, {"path": "/b", "scale": 2}]},
    ),
    ("--rope-scaling yarn --rope-scale 4", {"rope_scaling": "yarn", "rope_freq_scale": 0.25}),
    ("--yarn-orig-ctx 0", {}),
    ("--rerank", {"pooling_type": "rank"}),
    ("--embeddings --pooling mean", {"pooling_type": "mean"}),
    ("-s -1 --temp 0.7", {"temperature": 0.7}),
    ("--host 0.0.0.0 --port ${PORT} --jinja --metrics", {}),
]


@pytest.mark.parametrize(("line", "options"), OPTIONS)
def test_flags_are_options(line: str, options: dict[str, Any]) -> None:
    said = server_command(["-m", "/m.gguf", *shlex.split(line)])
    assert said.source == "/m.gguf"
    assert said.options == options
    assert get("llama.cpp").options.keys() >= options.keys()


def test_flags_are_parameters_of_requests() -> None:
    line = (
        "-m /m --top-k 20 --min-p 0.1 -n 300 --chat-template-kwargs '{\"enable_thinking\": false}'"
    )
    said = server_command(shlex.split(line))
    assert said.defaults == {
        "top_k": 20,
        "min_p": 0.1,
        "max_tokens": 300,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert server_command(["-m", "/m", "--embedding"]).capabilities == ["embeddings"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "names no file with -m"),
        ("-hf ggml-org/some", "-hf is no option"),
        ("-m /m -ot exps=CPU", "-ot is no option"),
        ("-m /m -c", "-c lacks a value"),
        ("-m /m -c much", "should be a whole number, not 'much'"),
        ("-m /m -c 0", "-c 0, the whole context"),
        ("-m /m --chat-template llama99", "no template of that name"),
        ("-m /m --no-jinja", "--no-jinja is no option"),
        ("-m /m --reasoning-budget 100", "is on or off"),
        ("-m /m --chat-template-kwargs []", "should be an object of JSON"),
        ("-m /m --rope-scale 0", "above 0"),
    ],
)
def test_what_no_option_says_is_told(line: str, why: str) -> None:
    with pytest.raises(NotUnderstood, match=why):
        server_command(shlex.split(line))


@given(st.lists(st.sampled_from([*_FLAGS, "1", "on", "/m", "-1", "{}", "x:1", ""]), max_size=12))
def test_any_arguments_are_understood_or_refused(arguments: list[str]) -> None:
    try:
        said = server_command(arguments)
    except NotUnderstood:
        return
    assert said.source or "-m" in arguments or "--model" in arguments


@pytest.mark.parametrize(
    ("program", "is_one"),
    [
        ("llama-server", True),
        ("/opt/it/llama-server", True),
        ("C:\\it\\llama-server.exe", True),
        ("/opt/llama-server-b123", True),
        ("llama-swap", False),
        ("/llama-server/vllm", False),
    ],
)
def test_programs_are_told_by_their_names(program: str, is_one: bool) -> None:
    assert is_llama_server(program) is is_one
