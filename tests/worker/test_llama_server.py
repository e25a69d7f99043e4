"""llama.cpp's own program as an engine: a stand-in for it that takes its flags and no others. The
real one is tried by ``make test-native``, which builds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from modelpool_client.errors import LoadFailed
from modelpool_worker import engines
from modelpool_worker.engines.gguf import Header
from modelpool_worker.engines.llama import lora as llama_lora
from modelpool_worker.engines.llama import program as llama_program
from modelpool_worker.engines.llama import rope as llama_rope
from modelpool_worker.engines.llama.flags import flags
from modelpool_worker.engines.llama.llama_server import NAME, find_program, known_flags
from support.llama_server_double import SWITCHES, VALUES, install

MAKE = Path(__file__).parents[2] / "scripts" / "make_bench_gguf.py"
SHAPE = [
    "--layers=2",
    "--hidden=64",
    "--ffn=192",
    "--heads=4",
    "--kv=2",
    "--vocab=1024",
    "--ctx=512",
]
# Where a real one is to be tried.
NATIVE = os.environ.get("MODELPOOL_TEST_LLAMA_SERVER")
HEADER = Header("llama", 512)
OPTIONS = {"threads": 1, "parallel": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    subprocess.run([sys.executable, MAKE, path, *SHAPE], check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return Path(NATIVE) if NATIVE else install(tmp_path)


def flags_of(options: dict[str, Any], header: Header = HEADER, batch: int | None = 256) -> str:
    made = flags(options, header, context_length=100, parallel=2, threads=3, cpu_batch=batch)
    return " ".join(made)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "--ctx-size 200 --parallel 2 --threads 3"),
        ({}, "--batch-size 256 --fit off"),
        ({"batch_size": 64, "micro_batch_size": 512}, "--batch-size 64 --ubatch-size 64"),
        ({"flash_attention": "on", "cache_type_k": "q8_0"}, "--flash-attn on --cache-type-k q8_0"),
        ({"mmap": False}, "--load-mode none"),
        ({"tensor_split": [3, 1.5]}, "--tensor-split 3,1.5"),
        ({"temperature": 0.5, "seed": 7}, "--temp 0.5 --seed 7"),
        ({"reasoning": False}, "--reasoning off"),
        ({"sleep_idle_seconds": 60}, "--sleep-idle-seconds 60"),
        ({"kv_unified": True}, "--ctx-size 100 --parallel 2 --kv-unified"),
        ({"pooling_type": "mean"}, "--embeddings --pooling mean --batch-size 100"),
        ({"spec_type": "ngram-mod", "draft_max": 9}, "ngram-mod --spec-ngram-mod-n-max 9"),
        ({"spec_type": "ngram-map-k", "draft_max": 9}, "--spec-ngram-map-k-size-m 9"),
        ({"rope_scaling": "yarn", "rope_freq_scale": 0.5, "yarn_original_context": 512},
         "--rope-scaling yarn --rope-freq-scale 0.5 --yarn-orig-ctx 512"),
    ],
)  # fmt: skip
def test_options_as_flags(options: dict[str, Any], said: str) -> None:
    assert said in flags_of(options)


def test_with_a_device_it_is_left_to_the_server_what_fits() -> None:
    said = flags_of({}, batch=None)
    assert "--fit on" in said
    assert "--batch-size" not in said


def test_every_flag_is_one_that_the_server_has(model: Path) -> None:
    everything = {
        "batch_size": 8, "micro_batch_size": 8, "flash_attention": "on", "cache_type_k": "f16",
        "cache_type_v": "f16", "mmap": True, "gpu_layers": 1, "tensor_split": [1], "mmproj": "/m",
        "chat_template_file": "/t", "reasoning": True, "temperature": 1.0, "seed": 1,
        "draft_model": str(model), "draft_max": 3, "draft_min": 1, "draft_p_min": 0.5,
        "lora": [{"path": str(model), "scale": 0.5}], "rope_scaling": "yarn", "kv_unified": True,
        "sleep_idle_seconds": 9,
        **dict.fromkeys(llama_rope.NUMBERS, 1),
    }  # fmt: skip
    words = flags_of(everything).split(" ")
    used = {word for word in words if word.startswith("--")}
    assert used <= {*VALUES, *SWITCHES}
    assert f"{model}:0.5" in words


def test_a_flag_that_is_not_known_is_left_out_or_an_error() -> None:
    wanted = ["--parallel", "2", "--cache-ram", "0", "--metrics"]
    assert [*known_flags(wanted, {"--parallel", "--metrics"})] == ["--parallel", "2", "--metrics"]
    with pytest.raises(LoadFailed, match="has no --parallel"):
        [*known_flags(wanted, {"--metrics"})]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"lora": [{"path": "x.gguf"}]}, "lora"),
        ({"lora": [{"path": "/a/x.gguf"}, {"path": "/b/x.gguf"}]}, "lora"),
        ({"lora": [{"scale": 1}]}, "lora[0].path"),
        ({"rope_scaling": "linear", "yarn_beta_slow": 1}, "yarn_beta_slow"),
    ],
)
@pytest.mark.parametrize("engine", ["llama.cpp", NAME, "auto"])
def test_options_that_cannot_be(engine: str, options: dict[str, Any], param: str) -> None:
    with pytest.raises(LoadFailed) as caught:
        engines.get(engine).check(options)
    assert caught.value.param == f"options.{param}"


def test_adapters_of_one_name_need_others() -> None:
    twins = [{"path": "/a/x.gguf"}, {"path": "/b/x.gguf", "name": "y"}]
    assert llama_lora.contradiction({"lora": twins}) is None


def test_which_program_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("said", "path", "native/bin"):
        (tmp_path / name).mkdir(parents=True)
        install(tmp_path / name)
    native = {"native_dir": str(tmp_path / "native")}
    said = {**native, "llama_server": str(tmp_path / "said" / "llama-server")}
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    for settings, folder, origin in (
        (said, "said", "named in the config file"),
        (native, "native/bin", "built on this machine"),
        ({}, "path", "on PATH"),
    ):
        found = find_program(settings)
        assert (found.path, found.origin) == (str(tmp_path / folder / NAME), origin)
        assert found.version == "4711 (cafe)"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LoadFailed, match="neither built here nor on PATH"):
        find_program({})


@pytest.fixture
def asked(tmp_path: Path) -> tuple[Path, Path]:
    """A program, and a file with a line for each time that it was started."""
    for name in ("real", "bin"):
        (tmp_path / name).mkdir()
    real, record, path = install(tmp_path / "real"), tmp_path / "asked", tmp_path / "bin" / NAME
    path.write_text(f'#!/bin/sh\necho "$1" >> {record}\nexec {real} "$@"\n')
    path.chmod(0o755)
    return path, record


def what_it_says(settings: dict[str, str]) -> tuple[str, bool, bool]:
    llama_program._known.clear()  # as in a process of its own
    found = find_program(settings)
    return found.version, "--parallel" in found.flags(), found.has_device()


class TestNotes:
    """What a program says of itself is asked once, and noted for the processes to come."""

    SAID = ("4711 (cafe)", True, False)
    ONCE = ("--version", "--help", "--list-devices")

    @pytest.fixture
    def settings(self, asked: tuple[Path, Path], tmp_path: Path) -> dict[str, str]:
        return {"llama_server": str(asked[0]), "notes_dir": str(tmp_path / "state" / "engines")}

    def test_it_is_asked_once(self, asked: tuple[Path, Path], settings: dict[str, str]) -> None:
        for _ in range(3):
            assert what_it_says(settings) == self.SAID
        assert asked[1].read_text().split() == [*self.ONCE]

    def test_another_program_is_asked_anew(
        self, asked: tuple[Path, Path], settings: dict[str, str]
    ) -> None:
        what_it_says(settings)
        asked[0].write_text(asked[0].read_text() + "# newer\n")
        assert what_it_says(settings) == self.SAID
        assert asked[1].read_text().split() == [*self.ONCE] * 2

    def test_other_devices_are_asked_for(
        self,
        asked: tuple[Path, Path],
        settings: dict[str, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        what_it_says(settings)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        what_it_says(settings)
        assert asked[1].read_text().split() == [*self.ONCE] * 2

    def test_a_device_that_it_does_not_see_is_looked_for_again(
        self,
        asked: tuple[Path, Path],
        settings: dict[str, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(llama_program, "_devices", lambda: ("a boot", ["nvidia0"]))
        what_it_says(settings)
        what_it_says(settings)
        assert asked[1].read_text().split() == [*self.ONCE, "--list-devices"]

    @pytest.mark.parametrize(
        "note", ["", "[]", "{", '{"stamp": 1}', '{"stamp": "x", "said": {"--version": 7}}']
    )
    def test_a_note_that_is_none_is_written_anew(
        self, asked: tuple[Path, Path], settings: dict[str, str], tmp_path: Path, note: str
    ) -> None:
        what_it_says(settings)
        [path] = (tmp_path / "state" / "engines").iterdir()
        whole = path.read_text()
        path.write_text(note)
        assert what_it_says(settings) == self.SAID
        assert path.read_text() == whole

    def test_without_a_folder_every_process_asks(
        self, asked: tuple[Path, Path], settings: dict[str, str]
    ) -> None:
        del settings["notes_dir"]
        what_it_says(settings)
        what_it_says(settings)
        assert asked[1].read_text().split() == [*self.ONCE] * 2

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
    def test_a_folder_that_cannot_be_written_is_done_without(
        self, settings: dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "state").mkdir(mode=0o500)
        assert what_it_says(settings) == self.SAID

    def test_one_that_failed_is_asked_anew(
        self, asked: tuple[Path, Path], settings: dict[str, str]
    ) -> None:
        what_it_says(settings)
        find_program(settings).forget()
        what_it_says(settings)
        assert asked[1].read_text().split() == [*self.ONCE] * 2


def test_auto_says_which_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    path = str(install(tmp_path))
    found = engines.get("auto", {"llama_server": path}).probe()
    assert found.reason.startswith(f"llama-server: {path} (named in the config file)")
    (tmp_path / "broken").mkdir()
    broken = tmp_path / "broken" / "llama-server"
    broken.write_text(
        "#!/bin/sh\necho libcuda.so.1: cannot open shared object file >&2; exit 127\n"
    )
    broken.chmod(0o755)
    found = engines.get("auto", {"llama_server": str(broken)}).probe()
    assert found.reason.startswith("llama.cpp: ")
    assert "does not run: libcuda.so.1: cannot open" in found.reason


@pytest.mark.e2e
@pytest.mark.parametrize("engine", [NAME, "auto"])
def test_it_serves(
    worker: Any, model: Path, program: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "7")
    settings = {"llama_server": str(program)}
    one = worker(OPTIONS, engine=engine, source=str(model), engine_settings=settings).ready()
    answer = one.chat("hello", max_tokens=3)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "demo"
    facts = one.live_facts()
    assert (facts["context_length"], facts["slots"]) == (512, 2)
    assert facts["runs"].startswith("llama-server ")
    assert str(program) in facts["runs"]
    assert "llamacpp:prompt_tokens_total" in one.http.get("/metrics").text
    assert one.http.get("/slots").status_code == 200
    one.process.terminate()
    assert one.wait_exit() == 0


@pytest.mark.e2e
def test_an_old_one_does_without_what_may_be_left_out(
    worker: Any, model: Path, tmp_path: Path
) -> None:
    program = install(tmp_path, cache_ram=True, cors_origins=True, no_webui=True)
    settings = {"llama_server": str(program)}
    worker(OPTIONS, engine=NAME, source=str(model), engine_settings=settings).ready()


@pytest.mark.e2e
def test_the_next_worker_does_not_ask_again(
    worker: Any, model: Path, asked: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = {"llama_server": str(asked[0]), "notes_dir": str(tmp_path / "notes")}
    for _ in range(2):
        one = worker(OPTIONS, engine=NAME, source=str(model), engine_settings=settings).ready()
        assert one.live_facts()["runs"].startswith("llama-server 4711")
    said = asked[1].read_text().split()
    assert sorted(said) == sorted([*TestNotes.ONCE, "--model", "--model"])


@pytest.mark.e2e
def test_a_file_that_it_does_not_take(worker: Any, tmp_path: Path, program: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\0" * 16)
    settings = {"llama_server": str(tmp_path / "none")}
    one = worker({}, engine=NAME, source=str(tmp_path / "bad.gguf"), engine_settings=settings)
    assert one.start().wait_exit() != 0
    assert one.record["code"] == "missing_dependency"
    assert "No such file" in one.record["message"]
